"""What training is worth: held-out questions before and after, seed by seed.

    python tests/benchmarks/quality_training.py dense --model MODEL --data PAIRS.parquet
    python tests/benchmarks/quality_training.py sparse --model MASKED-LM --data PAIRS.parquet
    python tests/benchmarks/quality_training.py cross --model MODEL --data PAIRS.parquet

The data has a column of queries, one of documents and `split`: `train` is learnt from, `dev` is
held out; of a cell that is a list, the first entry counts. Held-out queries are asked of all
held-out documents and of some others; nDCG@10. Dense and sparse models learn from pairs, beside
BM25; a cross-encoder learns from negatives that a dense model mined among the documents, and ranks
that model's first hits again.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raybert.artifacts import Input
from raybert.devices import cpu_count, set_threads
from raybert.encoders import CrossEncoder, DenseEncoder, SparseEncoder
from raybert.evaluation import InformationRetrievalEvaluator
from raybert.index.bm25 import WORDS, Texts, open_words, words_file
from raybert.index.inverted import InvertedFile, InvertedShard
from raybert.index.metric import METRICS
from raybert.mining import NegativeRules, Positives, mine_hard_negatives
from raybert.records import Hit, Ranking
from raybert.tracking import Run
from raybert.tracking.store import NullStore
from raybert.training import Job, TrainingSettings, open_data, train_job
from raybert.vectors.topk import MISSING

METRIC = "ndcg@10"
DEPTH = 50
"""Hits that a cross-encoder ranks again."""
Pairs = list[tuple[str, str]]
LOSSES: dict[str, dict[str, Any]] = {
    "dense": {"name": "MultipleNegativesRankingLoss"},
    "sparse": {
        "name": "SpladeLoss",
        "settings": {
            "loss": "SparseMultipleNegativesRankingLoss",
            "document_regularizer_weight": 3e-5,
            "query_regularizer_weight": 5e-5,
        },
    },
    "cross": {"name": "BinaryCrossEntropyLoss"},
}


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("family", choices=list(LOSSES))
    parser.add_argument("--model", required=True, help="model folder")
    parser.add_argument("--retriever", help="cross: dense model folder; default: --model")
    parser.add_argument("--data", type=Path, required=True, help="Parquet file")
    parser.add_argument("--columns", nargs=2, default=["query", "document"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--max-seq-length", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=4000, help="held-out pairs, at most")
    parser.add_argument("--queries", type=int, default=1000, help="those of them that ask")
    parser.add_argument("--distractors", type=int, default=700)
    parser.add_argument("--train-pairs", type=int, default=20_000, help="pairs learnt, at most")
    parser.add_argument("--negatives", type=int, default=3, help="cross: mined ones a query")
    parser.add_argument("--threads", type=int, default=cpu_count())
    parser.add_argument("--out", type=Path, help="keep the models there")
    return parser.parse_args()


def pairs_of(options: argparse.Namespace, split: str) -> Pairs:
    """Return the (query, document) pairs of a split."""
    table = pq.read_table(options.data, columns=[*options.columns, "split"])
    rows = zip(*(table[name].to_pylist() for name in table.column_names), strict=True)
    firsts = ((_first(query), _first(text)) for query, text, part in rows if part == split)
    return [(query, text) for query, text in firsts if query and text]


def _first(cell: Any) -> str:
    """Return a cell's text; of a list, its first."""
    found = next(iter(cell), "") if isinstance(cell, list) else cell
    return str(found or "")


class HeldOut:
    """Held-out queries with the documents to search; a query asked twice has two answers.

    Args:
        pairs: held-out pairs; equal documents are one.
        others: pairs whose documents are searched too.
        options: how many queries and other documents.
    """

    def __init__(self, pairs: Pairs, others: Pairs, options: argparse.Namespace) -> None:
        draw = random.Random(0)
        pairs = draw.sample(pairs, min(len(pairs), options.pairs))
        texts = dict.fromkeys(text for _, text in pairs)
        texts |= dict.fromkeys(text for _, text in draw.sample(others, options.distractors))
        self.corpus = {f"{number:06d}": text for number, text in enumerate(texts)}
        ids = {text: name for name, text in self.corpus.items()}
        relevant: dict[str, dict[str, float]] = {}
        for query, text in pairs:
            relevant.setdefault(query, {})[ids[text]] = 1.0
        asked = draw.sample(sorted(relevant), min(len(relevant), options.queries))
        self.queries = {f"{number:06d}": query for number, query in enumerate(asked)}
        self.evaluator = InformationRetrievalEvaluator(
            self.queries,
            self.corpus,
            {name: relevant[query] for name, query in self.queries.items()},
        )

    def measured(self, encoder: Any) -> float:
        """Return a dense or sparse model's nDCG@10."""
        metrics = self.evaluator(encoder)
        return next(value for name, value in metrics.items() if name.endswith(METRIC))

    def judged(self, scores: dict[str, dict[str, float]]) -> float:
        """Return the nDCG@10 of scores by query and document."""
        rankings = [
            Ranking(query, tuple(Hit(*hit) for hit in sorted(found.items(), key=_best_first)))
            for query, found in scores.items()
        ]
        return self.evaluator.judged(rankings)[METRIC]

    def by_words(self) -> float:
        """Return BM25's nDCG@10."""
        ids, texts = list(self.corpus), list(self.corpus.values())
        source = Input(kind="corpus", uri="texts", fingerprint="-")
        words = Texts.of([pa.table({"id": ids, "text": texts})], "text", source)
        read = open_words(bytes(words_file(words.words)), WORDS, METRICS["dot"])
        weighed = InvertedShard(InvertedFile.of(words.weights), len(words.words))
        found = weighed.search(read(list(self.queries.values())), DEPTH)
        rows = zip(self.queries, found.orders.tolist(), found.scores.tolist(), strict=True)
        return self.judged(
            {
                query: {ids[at]: score for at, score in zip(orders, scores, strict=True) if at >= 0}
                for query, orders, scores in rows
            }
        )

    def reranked(self, cross: CrossEncoder, rankings: list[Ranking]) -> float:
        """Return the nDCG@10 of each query's first hits in a cross-encoder's order."""
        found = [(each.query_id, hit.id) for each in rankings for hit in each.hits[:DEPTH]]
        given = cross.predict([(self.queries[query], self.corpus[text]) for query, text in found])
        scores: dict[str, dict[str, float]] = {}
        for (query, text), score in zip(found, given, strict=True):
            scores.setdefault(query, {})[text] = float(score)
        return self.judged(scores)


def _best_first(item: tuple[str, float]) -> tuple[float, str]:
    return -item[1], item[0]


def mined(
    pairs: Pairs, retriever: DenseEncoder, options: argparse.Namespace, seed: int
) -> pa.Table:
    """Return labelled pairs: each query with its document (1) and with mined ones (0)."""
    texts = list(dict.fromkeys(text for _, text in pairs))
    queries = list(dict.fromkeys(query for query, _ in pairs))
    row, place = ({each: at for at, each in enumerate(found)} for found in (texts, queries))
    positives = Positives.of(
        np.array([place[query] for query, _ in pairs]),
        np.array([row[text] for _, text in pairs]),
        len(queries),
    )
    rules = NegativeRules(
        num_negatives=options.negatives, range_max=DEPTH, sampling_strategy="random", seed=seed
    )
    found = mine_hard_negatives(
        np.asarray(retriever.encode_query(queries)),
        np.asarray(retriever.encode_document(texts)),
        positives,
        rules,
    )
    rows = [(query, text, 1.0) for query, text in pairs]
    rows += [
        (queries[query], texts[at], 0.0)
        for query, negatives in enumerate(found.rows.tolist())
        for at in negatives
        if at != MISSING
    ]
    return pa.table(
        dict(zip(("query", "text", "label"), map(list, zip(*rows, strict=True)), strict=True))
    )


def trained(options: argparse.Namespace, rows: pa.Table, seed: int, scratch: str) -> str:
    """Train with a seed; returns where the model lies."""
    Path(scratch).mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, f"{scratch}/rows-{seed}.parquet")
    cross = options.family == "cross"
    settings = {
        "out": f"{scratch}/model-{seed}",
        "tracking_uri": "none",
        "model": options.model,
        "data": {"files": [f"{scratch}/rows-{seed}.parquet"]},
        "loss": LOSSES[options.family],
        "batch": {
            "size": options.batch,
            "sampler": "batch_sampler" if cross else "no_duplicates",
        },
        "schedule": {
            "max_steps": options.steps,
            "epochs": 100,
            "learning_rate": options.learning_rate,
        },
        "scale": {"device": "cpu", "threads": options.threads},
        "max_seq_length": options.max_seq_length,
        "seed": seed,
    }
    opening = {"num_labels": 1} if cross else {}
    job = Job(TrainingSettings.model_validate(settings), options.family, opening)
    train_job(job, open_data(job.settings.data), Run(NullStore(), None))
    return f"{scratch}/model-{seed}"


def opened(family: str, folder: str, options: argparse.Namespace) -> Any:
    """Open a model with the training's text length."""
    kinds: dict[str, Any] = {"dense": DenseEncoder, "sparse": SparseEncoder, "cross": CrossEncoder}
    encoder = kinds[family](folder, device="cpu")
    encoder.max_seq_length = options.max_seq_length
    return encoder


def main() -> None:
    """Measure, train and measure again."""
    options = parsed()
    set_threads(options.threads)
    train, dev = pairs_of(options, "train"), pairs_of(options, "dev")
    held_out = HeldOut(dev, train, options)
    print(f"{len(held_out.queries)} queries, {len(held_out.corpus)} documents, {METRIC}")
    print(f"BM25: {held_out.by_words():.4f}", flush=True)
    cross = options.family == "cross"
    family, folder = options.family, options.model
    if cross:
        first = opened("dense", options.retriever or folder, options)
    else:
        first = opened(family, folder, options)
    rankings = next(iter(held_out.evaluator.rankings(first).values()))
    before = held_out.evaluator.judged(rankings)[METRIC]
    print(f"{'dense alone' if cross else 'before'}: {before:.4f}", flush=True)
    gains = []
    for seed in options.seeds:
        began = time.monotonic()
        wanted = options.steps * options.batch // (1 + options.negatives if cross else 1)
        chosen = random.Random(seed).sample(train, min(len(train), wanted, options.train_pairs))
        with tempfile.TemporaryDirectory() as scratch:
            rows = (
                mined(chosen, first, options, seed)
                if cross
                else pa.table(
                    {"anchor": [q for q, _ in chosen], "positive": [d for _, d in chosen]}
                )
            )
            folder = trained(options, rows, seed, str(options.out or scratch))
            seconds = time.monotonic() - began
            model = opened(options.family, folder, options)
            after = held_out.reranked(model, rankings) if cross else held_out.measured(model)
        gains.append(after - before)
        print(
            f"seed {seed}: {options.steps} steps of {options.batch} rows in {seconds:.0f} s, "
            f"after: {after:.4f} ({after - before:+.4f})",
            flush=True,
        )
    print(f"mean gain {statistics.mean(gains):+.4f}, least {min(gains):+.4f}")


if __name__ == "__main__":
    main()
