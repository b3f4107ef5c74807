"""Mine paraphrases: a corpus and a model in, the most similar pairs out; or near-duplicate groups.

    python pipelines/mine_paraphrases.py --corpus data/demo/docs.parquet \
        --model all-MiniLM-L6-v2 --threshold 0.9 --keep longest --out artifacts/duplicates

The corpus may be embeddings that encode_corpus wrote: then no model is needed. What a killed run
encoded or compared is not done again; run the finished command again: it does nothing and says so.
"""

from typing import Literal

import pyarrow as pa
from pydantic import Field

from raybert.corpus import Columns
from raybert.corpus.joined import joined_pairs, read_embedded_texts
from raybert.corpus.pairs import Result, produce
from raybert.corpus.search import Join, read_ids
from raybert.corpus.sides import SideEncoder
from raybert.index.source import Embeddings
from raybert.mining import group_duplicates
from raybert.settings import JobSettings, Names, run_job


class MineParaphrases(JobSettings):
    """Mine paraphrases: a corpus and a model in, the most similar pairs out; or duplicates."""

    corpus: Names
    """Files of texts, or one folder of embeddings."""
    model: str | None = None
    """Model that encodes texts; embeddings must be of it."""
    text_column: str = "text"
    """Column that holds the text."""
    id_column: str = "id"
    """Column that holds the row's unique id."""
    threshold: float | None = Field(None, ge=-1, le=1)
    """Least cosine of a pair; default: any."""
    top_k: int = Field(100, ge=1)
    """Neighbours of a text that may form pairs with it."""
    max_pairs: int = Field(500_000, ge=1)
    """Pairs to keep, the best."""
    keep: Literal["first", "longest", "best"] | None = None
    """Join pairs into groups of duplicates, and keep of each the first text, the longest, or the
    one nearest to the others; pairs then name the group and the text that is kept."""
    texts: Names | None = None
    """Where the texts of embeddings lie now; default: where they lay when they were encoded."""
    workers: int = Field(0, ge=0)
    """Tasks at a time; 0: the cluster's cores."""
    device: str = "auto"
    """auto, cpu or cuda, for the model."""


def main(settings: MineParaphrases) -> str:
    """Mine; returns where the pairs lie."""
    columns = Columns(settings.text_column, settings.id_column)
    sides = SideEncoder(settings.out, settings.model, columns, settings.workers, settings.device)
    embeddings = sides.open(settings.corpus, "corpus")
    return produce(
        settings,
        "mine_paraphrases",
        "pairs",
        embeddings.inputs,
        lambda _: _mine(settings, embeddings),
    )


def _mine(settings: MineParaphrases, embeddings: Embeddings) -> Result:
    """Join the corpus with itself, and read the pairs off."""
    place = embeddings.folder.uri
    join = Join.open(
        place, place, settings.out, settings.top_k + 1, "cosine", least=settings.threshold
    )
    pairs = joined_pairs(join, settings.max_pairs, settings.workers)
    ids, texts = read_ids(embeddings), read_embedded_texts(embeddings, settings.texts)
    strings = pa.array(texts, pa.large_string())
    left, right = pa.array(pairs.left), pa.array(pairs.right)
    columns = {
        "anchor": strings.take(left),
        "positive": strings.take(right),
        "score": pa.array(pairs.scores),
        "anchor_id": ids.take(left),
        "positive_id": ids.take(right),
    }
    details = {"pairs": len(pairs.scores)}
    if settings.keep is not None:
        groups = group_duplicates(
            pairs, len(ids), keep=settings.keep, lengths=[len(text) for text in texts]
        )
        own = groups.group[pairs.left]
        columns |= {"group": pa.array(own), "kept_id": ids.take(pa.array(groups.kept[own]))}
        details |= {"groups": len(groups.kept), "removed": len(groups.removed)}
    said = ", ".join(f"{value:,} {name}" for name, value in details.items())
    return Result(pa.table(columns), details, said)


if __name__ == "__main__":
    run_job(MineParaphrases, main)
