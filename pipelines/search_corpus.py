"""Search a corpus: queries and one or several indexes in, a run (rankings) out.

    python pipelines/search_corpus.py --queries data/demo/queries.parquet \
        --index artifacts/demo/index --top-k 100 --out artifacts/demo/run

Several indexes are joined by reciprocal rank; `--rerank-model` reorders what was found with a
cross-encoder. Queries are encoded by the model an index is pinned to, and by no other.
"""

from pathlib import Path

from pydantic import Field

from raybert.artifacts import Folder, Input, fingerprint, finished
from raybert.corpus import Columns
from raybert.corpus.texts import read_texts
from raybert.errors import ArtifactError
from raybert.evaluation import write_run
from raybert.evaluation.searching import encoder_of, fuse, open_reranker, rerank, search
from raybert.index import open_index
from raybert.settings import JobSettings, Names, run_job
from raybert.tracking import job


class SearchCorpus(JobSettings):
    """Search a corpus: queries and one or several indexes in, a run (rankings) out."""

    queries: Names
    """Parquet, JSONL, CSV, TSV or text files of queries: paths, folders, globs."""
    index: Names
    """Folder of an index artifact; repeat it to join several by reciprocal rank."""
    text_column: str = "text"
    """Column that holds the query."""
    id_column: str = "id"
    """Column that holds the query's id."""
    top_k: int = Field(100, ge=1)
    """Hits a query."""
    model: str | None = None
    """Where the index's model lies now; default: where it lay when the corpus was encoded."""
    rerank_model: str | None = None
    """Cross-encoder folder that reorders the hits."""
    device: str = "auto"
    """auto, cpu or cuda."""


def main(settings: SearchCorpus) -> str:
    """Search the corpus; returns where the run lies."""
    queries = read_texts(settings.queries, Columns(settings.text_column, settings.id_column))
    indexes = {uri: open_index(uri) for uri in settings.index}
    reranker = None
    inputs = [
        Input(kind="queries", uri=",".join(settings.queries), fingerprint=fingerprint(queries)),
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
        for uri, index in indexes.items():
            encoder = encoder_of(index, model=settings.model, device=settings.device)
            legs[uri] = search(queries, index, encoder, settings.top_k)
        rankings, places = fuse(legs, settings.top_k)
        if reranker is not None:
            rankings = rerank(rankings, queries, indexes[settings.index[0]], reranker)
        manifest = write_run(
            settings.out,
            rankings,
            settings=settings.model_dump(mode="json"),
            inputs=inputs,
            details={"top_k": settings.top_k},
            mlflow_run=run.run_id,
            places=places,
        )
        run.metrics({"queries": len(queries), "hits": manifest.rows})
    print(f"{len(queries):,} queries, {manifest.rows:,} hits")
    return settings.out


def _is_done(settings: SearchCorpus, inputs: list[Input]) -> bool:
    done = finished(Folder(settings.out))
    if done is None:
        return False
    same = done.kind == "run" and done.inputs == tuple(inputs)
    if same and done.details["top_k"] == settings.top_k:
        return True
    raise ArtifactError(
        f"{settings.out}: holds something else that is finished; give another --out"
    )


if __name__ == "__main__":
    run_job(SearchCorpus, main)
