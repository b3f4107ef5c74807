"""Mine translations: two corpora and a model in, pairs of sentences out.

    python pipelines/mine_bitext.py --sources english.txt --targets german.txt --id-column '' \
        --model intfloat/multilingual-e5-small --threshold 1.06 --out artifacts/bitext

Either side may be embeddings that encode_corpus wrote. What a killed run encoded or compared is not
done again; run the finished command again: it does nothing and says so.
"""

from typing import Literal

import pyarrow as pa
from pydantic import Field

from raybert.artifacts import Input, fingerprint
from raybert.corpus import Columns
from raybert.corpus.joined import known_rows, neighbours_both_ways, read_embedded_texts
from raybert.corpus.pairs import Result, produce
from raybert.corpus.search import read_ids
from raybert.corpus.sides import SideEncoder
from raybert.evaluation import read_qrels
from raybert.index.source import Embeddings
from raybert.mining import SanityRules, best_threshold, choose_bitext, sane_pairs
from raybert.settings import JobSettings, Names, run_job


class MineBitext(JobSettings):
    """Mine translations: two corpora and a model in, pairs of sentences out."""

    sources: Names
    """Sentences of one language: files of texts, or one folder of embeddings."""
    targets: Names
    """Those of the other, likewise."""
    model: str | None = None
    """Model that encodes texts, of both languages; embeddings must be of it."""
    text_column: str = "text"
    """Column that holds the sentence."""
    id_column: str = "id"
    """Column that holds its unique id; '' names rows FILE:ROW, as is done for text files."""
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
    sanity: SanityRules = SanityRules()
    """Pairs to drop for their lengths, scripts or sameness; counted."""
    source_texts: Names | None = None
    """Where the texts of embeddings lie now; default: where they lay when they were encoded."""
    target_texts: Names | None = None
    """The same of the targets."""
    workers: int = Field(0, ge=0)
    """Tasks at a time; 0: the cluster's cores."""
    device: str = "auto"
    """auto, cpu or cuda, for the model."""


def main(settings: MineBitext) -> str:
    """Mine; returns where the pairs lie."""
    columns = Columns(settings.text_column, settings.id_column)
    encoder = SideEncoder(settings.out, settings.model, columns, settings.workers, settings.device)
    sides = encoder.open(settings.sources, "sources"), encoder.open(settings.targets, "targets")
    inputs = [*sides[0].inputs[:1], *sides[1].inputs]
    known = {} if settings.known is None else read_qrels(settings.known)
    if settings.known is not None:
        mark = fingerprint(known)
        inputs.append(Input(kind="pairs", uri=settings.known, fingerprint=mark))
    return produce(
        settings, "mine_bitext", "pairs", inputs, lambda _: _mine(settings, *sides, known)
    )


def _mine(
    settings: MineBitext,
    sources: Embeddings,
    targets: Embeddings,
    known: dict[str, dict[str, float]],
) -> Result:
    """Join both ways, choose by margin, hold to the threshold and to sanity."""
    found = neighbours_both_ways(
        sources, targets, settings.out, settings.neighbours, settings.workers
    )
    pairs = choose_bitext(found, settings.margin, settings.retrieval)
    threshold, details = settings.threshold, {}
    if known:
        gold = known_rows(sources, targets, known, str(settings.known))
        told = best_threshold(pairs, set(zip(*(side.tolist() for side in gold), strict=True)))
        details = dict(zip(("threshold", "f1", "precision", "recall"), told, strict=True))
        threshold = told[0] if threshold is None else threshold
    pairs = pairs if threshold is None else pairs.above(threshold)
    columns = {}
    for name, side, rows, texts in (
        ("anchor", sources, pairs.sources, settings.source_texts),
        ("positive", targets, pairs.targets, settings.target_texts),
    ):
        at = pa.array(rows)
        columns[name] = pa.array(read_embedded_texts(side, texts), pa.large_string()).take(at)
        columns[f"{name}_id"] = read_ids(side).take(at)
    table = pa.table(columns).append_column("score", pa.array(pairs.scores))
    sane, dropped = sane_pairs(
        table["anchor"].to_pylist(), table["positive"].to_pylist(), settings.sanity
    )
    table = table.filter(pa.array(sane))
    details |= {"pairs": table.num_rows, **{f"dropped_{rule}": n for rule, n in dropped.items()}}
    said = ", ".join(f"{name} {value:g}" for name, value in details.items())
    order = ["anchor", "positive", "score", "anchor_id", "positive_id"]
    return Result(table.select(order), details, said)


if __name__ == "__main__":
    run_job(MineBitext, main)
