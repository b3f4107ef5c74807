"""Mine paraphrases: embeddings in, the most similar pairs out; or near-duplicate groups.

    python pipelines/mine_paraphrases.py --embeddings artifacts/demo/embeddings \
        --threshold 0.9 --keep longest --out artifacts/duplicates

Run the same command again: it does nothing and says so.
"""

from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import Field

from raybert.corpus.joined import read_embedded_texts, read_vectors
from raybert.corpus.pairs import done_before, write_result
from raybert.corpus.search import read_ids
from raybert.index.source import Embeddings
from raybert.mining import group_duplicates, mine_paraphrases
from raybert.settings import JobSettings, Names, run_job
from raybert.tracking import job


class MineParaphrases(JobSettings):
    """Mine paraphrases: embeddings in, the most similar pairs out; or near-duplicate groups."""

    embeddings: str
    """Folder of the embeddings artifact."""
    threshold: float | None = Field(None, ge=-1, le=1)
    """Least cosine of a pair; default: any."""
    top_k: int = Field(100, ge=1)
    """Neighbours of a text that may form pairs with it."""
    max_pairs: int = Field(500_000, ge=1)
    """Pairs to keep, the best."""
    keep: Literal["first", "longest"] | None = None
    """Join pairs into groups of duplicates, and keep the first or longest text of each; pairs then
    name the group, and whether the second text goes."""
    corpus: Names | None = None
    """Where the corpus lies now; default: where it lay when it was encoded."""


def main(settings: MineParaphrases) -> str:
    """Mine; returns where the pairs lie."""
    embeddings = Embeddings.open(settings.embeddings)
    inputs, asked = embeddings.inputs, settings.model_dump(mode="json")
    if (done := done_before(settings.out, "pairs", asked, inputs)) is not None:
        print(f"nothing to do: {done.rows:,} pairs are mined already")
        return settings.out

    with job(settings, name=f"mine {Path(settings.out).name}", kind="mine_paraphrases") as run:
        for item in inputs:
            run.input(item.kind, item.uri, item.fingerprint)
        texts = pa.array(read_embedded_texts(embeddings, settings.corpus), pa.large_string())
        ids = read_ids(embeddings)
        pairs = mine_paraphrases(
            read_vectors(embeddings),
            top_k=settings.top_k,
            max_pairs=settings.max_pairs,
            threshold=settings.threshold,
        )
        left, right = pa.array(pairs.left), pa.array(pairs.right)
        columns = {
            "anchor": texts.take(left),
            "positive": texts.take(right),
            "score": pa.array(pairs.scores),
            "anchor_id": ids.take(left),
            "positive_id": ids.take(right),
        }
        details = {"pairs": len(pairs.scores)}
        if settings.keep is not None:
            lengths = [len(text) for text in texts.to_pylist()]
            groups = group_duplicates(pairs, len(ids), keep=settings.keep, lengths=lengths)
            kept = pa.array(groups.kept).take(pa.array(groups.group[pairs.left]))
            columns |= {"group": groups.group[pairs.left], "kept_id": ids.take(kept)}
            details |= {"groups": len(groups.kept), "removed": len(groups.removed)}
        run.metrics({name: float(value) for name, value in details.items()})
        write_result(
            settings.out,
            "pairs",
            [pa.table(columns)],
            settings=asked,
            inputs=inputs,
            details=details,
            mlflow_run=run.run_id,
        )
    print(", ".join(f"{value:,} {name}" for name, value in details.items()))
    return settings.out


if __name__ == "__main__":
    run_job(MineParaphrases, main)
