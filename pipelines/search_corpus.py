"""Search a corpus: queries and one or several indexes in, a run (rankings) out.

    python pipelines/search_corpus.py --queries data/demo/queries.parquet \
        --index artifacts/demo/index --top-k 100 --out artifacts/demo/run

Several indexes, dense, sparse or BM25, are joined by reciprocal rank or by weighted scores, and the
run keeps rank and score of every leg; `--rerank-model` reorders what was found with a
cross-encoder. Queries are encoded by the model an index is pinned to, and by no other.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from raybert.artifacts import Folder, Input, fingerprint, finished, hash_bytes
from raybert.corpus import Columns
from raybert.corpus.index_shards import SpreadIndex
from raybert.corpus.texts import read_contents
from raybert.errors import ArtifactError, InputError
from raybert.evaluation import write_run
from raybert.evaluation.searching import (
    encoder_of,
    fuse,
    model_of,
    open_reranker,
    rerank,
    search,
)
from raybert.index import open_index
from raybert.settings import JobSettings, Names, run_job
from raybert.tracking import JobProgress, job


class SearchCorpus(JobSettings):
    """Search a corpus: queries and one or several indexes in, a run (rankings) out."""

    queries: Names
    """Parquet, JSONL, CSV, TSV or text files of queries: paths, folders, globs."""
    index: Names
    """Folder of an index artifact; repeat it to join several."""
    fusion: Literal["rrf", "weighted"] = "rrf"
    """How several indexes are joined: by reciprocal rank, or by normalised scores."""
    weights: list[float] | None = None
    """Weight of each index, in the order of `index`; default: 1 each."""
    rrf_k: float = Field(60, ge=0)
    """Rank constant of rrf."""
    normalization: Literal["minmax", "three_sigma", "none"] = "minmax"
    """How weighted makes the scores of an index comparable with another's."""
    filter: str | None = None
    """Conditions on the index's columns, as JSON: '{"year": {"gte": 2000}}'."""
    text_column: str = "text"
    """Column that holds the query."""
    id_column: str = "id"
    """Column that holds the query's id."""
    image_column: str | None = None
    """Column of images that are asked in place of texts: a file's bytes, its path, or datasets'
    cells; the index must be of a model that reads both (CLIP)."""
    top_k: int = Field(100, ge=1)
    """Hits a query."""
    model: Names | None = None
    """Where the indexes' models lie now; default: where they lay when the corpus was encoded."""
    rerank_model: str | None = None
    """Cross-encoder folder that reorders the hits."""
    device: str = "auto"
    """auto, cpu or cuda."""
    workers: int = Field(0, ge=0)
    """Actors on Ray that search the shards of an index side by side; 0 searches without it."""


def main(settings: SearchCorpus) -> str:
    """Search the corpus; returns where the run lies."""
    columns = Columns.of(settings.text_column, settings.id_column, settings.image_column)
    queries = read_contents(settings.queries, columns)
    indexes = {
        uri: SpreadIndex(uri, settings.workers) if settings.workers else open_index(uri)
        for uri in settings.index
    }
    joined, condition = _joined(settings), _condition(settings)
    reranker = None
    if settings.image_column is not None and settings.rerank_model is not None:
        raise InputError("--rerank-model reads texts; with --image-column leave it out")
    inputs = [
        Input(kind="queries", uri=",".join(settings.queries), fingerprint=_mark(queries)),
        *(Input(kind="index", uri=uri, fingerprint=i.generation) for uri, i in indexes.items()),
    ]
    if settings.rerank_model is not None:
        reranker = open_reranker(settings.rerank_model, device=settings.device)
        inputs.append(
            Input(kind="model", uri=settings.rerank_model, fingerprint=reranker.fingerprint)
        )
    if _is_done(settings, inputs):
        print(f"nothing to do: all {len(queries):,} queries are answered already")
        return settings.out

    with job(settings, name=f"search {Path(settings.out).name}", kind="search_corpus") as run:
        for item in inputs:
            run.input(item.kind, item.uri, item.fingerprint)
        legs = {}
        with JobProgress("search", len(queries) * len(indexes), "queries") as shown:
            for uri, index in indexes.items():
                model = model_of(index, settings.model or [])
                encoder = encoder_of(index, model=model, device=settings.device)
                top_k, advance = settings.top_k, shown.advance
                legs[uri] = search(queries, index, encoder, top_k, condition, advance)
        rankings, places = fuse(legs, settings.top_k, **joined)
        if reranker is not None:
            texts = {name: str(text) for name, text in queries.items()}
            first = indexes[settings.index[0]]
            with JobProgress("rerank", sum(len(each.hits) for each in rankings), "pairs") as shown:
                rankings = rerank(rankings, texts, first, reranker, shown.advance)
        manifest = write_run(
            settings.out,
            rankings,
            settings=settings.model_dump(mode="json"),
            inputs=inputs,
            details=_details(settings),
            mlflow_run=run.run_id,
            places=places,
        )
        run.metrics({"queries": len(queries), "hits": manifest.rows})
    print(f"{len(queries):,} queries, {manifest.rows:,} hits")
    return settings.out


def _mark(queries: dict[str, str | bytes]) -> str:
    """Return the fingerprint of queries, an image's by its hash."""
    return fingerprint(
        {name: hash_bytes(q) if isinstance(q, bytes) else q for name, q in queries.items()}
    )


def _joined(settings: SearchCorpus) -> dict[str, Any]:
    """Return how the legs are joined; weights by leg."""
    weights = None
    if settings.weights is not None:
        if len(settings.weights) != len(settings.index):
            raise InputError(
                f"--weights: {len(settings.weights)} for {len(settings.index)} index(es); one each"
            )
        weights = dict(zip(settings.index, settings.weights, strict=True))
    kept = settings.model_dump(include={"fusion", "rrf_k", "normalization"})
    return {**kept, "weights": weights}


def _condition(settings: SearchCorpus) -> Any:
    try:
        return None if settings.filter is None else json.loads(settings.filter)
    except json.JSONDecodeError as error:
        raise InputError(f"--filter {settings.filter!r}: no JSON: {error}") from None


def _details(settings: SearchCorpus) -> dict[str, Any]:
    """Return what decides the run, beside its inputs."""
    return {"top_k": settings.top_k, **_joined(settings), "filter": settings.filter}


def _is_done(settings: SearchCorpus, inputs: list[Input]) -> bool:
    done = finished(Folder(settings.out))
    if done is None:
        return False
    same = done.kind == "run" and done.inputs == tuple(inputs)
    if same and {name: done.details.get(name) for name in _details(settings)} == _details(settings):
        return True
    raise ArtifactError(
        f"{settings.out}: holds something else that is finished; give another --out"
    )


if __name__ == "__main__":
    run_job(SearchCorpus, main)
