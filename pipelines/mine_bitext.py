"""Mine translations: embeddings of two languages in, pairs of sentences out.

    python pipelines/mine_bitext.py --sources artifacts/english --targets artifacts/german \
        --threshold 1.06 --out artifacts/bitext

Run the same command again: it does nothing and says so.
"""

from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import Field

from raybert.artifacts import Input, fingerprint
from raybert.corpus.joined import read_embedded_texts, read_vectors, rows_of_ids
from raybert.corpus.pairs import done_before, write_result
from raybert.corpus.search import Join, read_ids
from raybert.evaluation import read_qrels
from raybert.mining import best_threshold, mine_bitext
from raybert.settings import JobSettings, Names, run_job
from raybert.tracking import job


class MineBitext(JobSettings):
    """Mine translations: embeddings of two languages in, pairs of sentences out."""

    sources: str
    """Embeddings of the sentences of one language."""
    targets: str
    """Embeddings of those of the other, of the same model."""
    neighbours: int = Field(4, ge=1)
    """Nearest sentences each way that a score is held against."""
    margin: Literal["ratio", "distance", "absolute"] = "ratio"
    """How: the cosine over their mean, less their mean, or the cosine alone."""
    retrieval: Literal["forward", "backward", "intersection", "max"] = "max"
    """Whose best neighbours are candidates."""
    threshold: float | None = None
    """Least score of a pair; default: the one of best F1 on --known, else all pairs."""
    known: str | None = None
    """Known translations (source id, target id), as qrels: the sample the threshold is set by."""
    source_texts: Names | None = None
    """Where the source sentences lie now; default: where they lay when they were encoded."""
    target_texts: Names | None = None
    """Where the target sentences lie now; default: where they lay when they were encoded."""


def main(settings: MineBitext) -> str:
    """Mine; returns where the pairs lie."""
    sides = Join.open(settings.sources, settings.targets, settings.out, settings.neighbours)
    sources, targets = sides.queries, sides.corpus
    inputs = [*sources.inputs[:1], *targets.inputs]
    known = None if settings.known is None else read_qrels(settings.known)
    if known is not None:
        mark = fingerprint(known)
        inputs.append(Input(kind="pairs", uri=str(settings.known), fingerprint=mark))
    asked = settings.model_dump(mode="json")
    if (done := done_before(settings.out, "pairs", asked, inputs)) is not None:
        print(f"nothing to do: {done.rows:,} pairs are mined already")
        return settings.out

    with job(settings, name=f"mine {Path(settings.out).name}", kind="mine_bitext") as run:
        for item in inputs:
            run.input(item.kind, item.uri, item.fingerprint)
        pairs = mine_bitext(
            read_vectors(sources),
            read_vectors(targets),
            neighbours=settings.neighbours,
            margin=settings.margin,
            retrieval=settings.retrieval,
        )
        threshold, details = settings.threshold, {}
        if known is not None:
            gold = [(s, t) for s, judged in known.items() for t in judged]
            left = rows_of_ids(sources, [s for s, _ in gold], str(settings.known))
            right = rows_of_ids(targets, [t for _, t in gold], str(settings.known))
            true = set(zip(left.tolist(), right.tolist(), strict=True))
            found = best_threshold(pairs, true)
            details = dict(zip(("threshold", "f1", "precision", "recall"), found, strict=True))
            threshold = details["threshold"] if threshold is None else threshold
        pairs = pairs if threshold is None else pairs.above(threshold)
        details["pairs"] = float(len(pairs.scores))
        columns = {}
        for name, side, rows, texts in (
            ("anchor", sources, pairs.sources, settings.source_texts),
            ("positive", targets, pairs.targets, settings.target_texts),
        ):
            at = pa.array(rows)
            columns[name] = pa.array(read_embedded_texts(side, texts), pa.large_string()).take(at)
            columns[f"{name}_id"] = read_ids(side).take(at)
        table = pa.table(columns).append_column("score", pa.array(pairs.scores))
        run.metrics(details)
        write_result(
            settings.out,
            "pairs",
            [table.select(["anchor", "positive", "score", "anchor_id", "positive_id"])],
            settings=asked,
            inputs=inputs,
            details=details,
            mlflow_run=run.run_id,
        )
    print(", ".join(f"{name} {value:g}" for name, value in details.items()))
    return settings.out


if __name__ == "__main__":
    run_job(MineBitext, main)
