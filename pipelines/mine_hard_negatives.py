"""Mine hard negatives: known pairs and embeddings in, a pairs artifact out.

    python pipelines/mine_hard_negatives.py --queries artifacts/queries \
        --corpus artifacts/embeddings --pairs data/demo/qrels.tsv --rules.relative-margin 0.05 \
        --out artifacts/negatives

Queries and corpus are embeddings of one model, as encode_corpus writes them. What a killed run
compared is not compared again. The result loads as it is: `datasets.load_dataset("parquet", …)`.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from raybert.artifacts import Input, fingerprint, fingerprint_folder
from raybert.corpus.joined import read_embedded_texts, rows_of_ids
from raybert.corpus.pairs import done_before, write_result
from raybert.corpus.search import Join, join_topk, read_ids, scores_of
from raybert.encoders import CrossEncoder
from raybert.evaluation import read_qrels
from raybert.index.source import Embeddings
from raybert.mining import (
    NegativeRules,
    Negatives,
    Positives,
    Texts,
    choose_negatives,
    negatives_table,
    text_teacher,
)
from raybert.modules import locate_model
from raybert.settings import JobSettings, Names, run_job
from raybert.tracking import job


class MineHardNegatives(JobSettings):
    """Mine hard negatives: known pairs and embeddings in, a pairs artifact out."""

    queries: str
    """Embeddings of the anchors."""
    corpus: str
    """Embeddings of the texts to mine in, of the same model; all positives are among them."""
    pairs: str
    """Which text answers which anchor: TREC qrels, BEIR's table or Parquet, by id."""
    rules: NegativeRules = NegativeRules()
    """What makes a negative."""
    output_format: Literal["triplet", "n-tuple", "labeled-pair", "labeled-list"] = "n-tuple"
    """Shape of a row: one negative; all of them; a labelled pair; a labelled list."""
    output_scores: bool = False
    """Scores beside texts, or instead of labels."""
    teacher: str | None = None
    """Cross-encoder folder whose scores the rules look at."""
    query_texts: Names | None = None
    """Where the anchors' texts lie now; default: where they lay when they were encoded."""
    corpus_texts: Names | None = None
    """Where the corpus's texts lie now; default: where they lay when they were encoded."""
    workers: int = Field(0, ge=0)
    """Tasks at a time; 0: the cluster's cores."""
    device: str = "auto"
    """auto, cpu or cuda, for the teacher."""


def main(settings: MineHardNegatives) -> str:
    """Mine; returns where the pairs lie."""
    queries, corpus = Embeddings.open(settings.queries), Embeddings.open(settings.corpus)
    known = read_qrels(settings.pairs)
    inputs = [Input(kind="pairs", uri=settings.pairs, fingerprint=fingerprint(known))]
    inputs += [*queries.inputs[:1], *corpus.inputs]
    if settings.teacher is not None:
        teacher = locate_model(settings.teacher)
        mark = fingerprint_folder(teacher)
        inputs.append(Input(kind="model", uri=settings.teacher, fingerprint=mark))
    asked = settings.model_dump(mode="json")
    if (done := done_before(settings.out, "pairs", asked, inputs)) is not None:
        print(f"nothing to do: {done.rows:,} rows are mined already")
        return settings.out

    with job(settings, name=f"mine {Path(settings.out).name}", kind="mine_hard_negatives") as run:
        for item in inputs:
            run.input(item.kind, item.uri, item.fingerprint)
        positives = _positives(settings, queries, corpus, known)
        anchors = read_embedded_texts(queries, settings.query_texts)
        texts = read_embedded_texts(corpus, settings.corpus_texts)
        mined = _mine(settings, positives, anchors, texts)
        table = negatives_table(
            mined,
            positives,
            Texts(read_ids(queries), anchors),
            Texts(read_ids(corpus), texts),
            settings.output_format,
            output_scores=settings.output_scores,
        )
        counts = {"candidates": mined.candidates, "dropped": mined.dropped}
        run.metrics({"rows": table.num_rows, "candidates": mined.candidates})
        run.metrics({f"dropped_{rule}": count for rule, count in mined.dropped.items()})
        write_result(
            settings.out,
            "pairs",
            [table],
            settings=asked,
            inputs=inputs,
            details=counts,
            mlflow_run=run.run_id,
        )
    print(f"{table.num_rows:,} rows of {len(positives.rows):,} pairs; dropped {mined.dropped}")
    return settings.out


def _positives(
    settings: MineHardNegatives, queries: Embeddings, corpus: Embeddings, known: Any
) -> Positives:
    """Bring the known pairs to rows; every anchor needs one."""
    pairs = [(q, d) for q, judged in known.items() for d, grade in judged.items() if grade > 0]
    asking = rows_of_ids(queries, [query for query, _ in pairs], settings.pairs)
    answers = rows_of_ids(corpus, [document for _, document in pairs], settings.pairs)
    return Positives.of(asking, answers, queries.manifest.rows)


def _mine(
    settings: MineHardNegatives, positives: Positives, anchors: list[str], texts: list[str]
) -> Negatives:
    """Join, then choose negatives one query shard after another."""
    rules, teacher = settings.rules, None
    if settings.teacher is not None and rules.asks_scores:
        encoder = CrossEncoder(locate_model(settings.teacher), device=settings.device)
        teacher = text_teacher(encoder.predict, anchors, texts)
    depth = rules.window(positives.most, teacher=teacher is not None) + positives.most
    join = Join.open(settings.queries, settings.corpus, settings.out, depth)
    for receipt in join_topk(join, workers=settings.workers):
        print(f"compared query shard {receipt.number}, {receipt.shard.rows:,} rows", flush=True)
    scores = scores_of(join, positives.queries, positives.rows)
    parts, first = [], 0
    for _, receipt in sorted(join.receipts().items()):
        own = positives.part(first, first + receipt.shard.rows)
        at = positives.offsets[first]
        part = scores[at : at + len(own.rows)].astype(np.float32)
        found = join.neighbours(receipt)
        parts.append(choose_negatives(found, own, part, rules, first=first, teacher=teacher))
        first += receipt.shard.rows
    return Negatives.join(parts)


if __name__ == "__main__":
    run_job(MineHardNegatives, main)
