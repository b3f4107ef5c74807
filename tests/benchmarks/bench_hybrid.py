"""Dense, sparse and BM25 legs, alone and joined by reciprocal rank: nDCG@10.

    python tests/benchmarks/bench_hybrid.py --model MINILM --sparse-model SPLADE \
        --set demo --set "debian=FILE.parquet:query:document"

`demo` is the bundled corpus with its judgements. In a file, a row's document answers its query;
every n-th row is taken, documents whose text is there already are left out, and each leg gives its
100 best. Of rows that share a fourth column, FILE:query:document:source, only the first is taken:
sister packages have nearly one text, and no query can tell them apart. Texts are cut at 600
characters.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raybert import DenseEncoder, SparseEncoder
from raybert.artifacts import Input
from raybert.fusion import reciprocal_rank
from raybert.index.bm25 import WORDS, Texts, open_words, words_file
from raybert.index.inverted import InvertedFile, InvertedShard
from raybert.index.metric import METRICS
from raybert.records import Hit
from raybert.vectors import TopK, blocks_of, exact_topk

DEPTH = 100
LONGEST = 600
DEMO = Path(__file__).parents[2] / "data" / "demo"
Judged = tuple[list[str], list[str], list[str], list[set[int]]]


def demo() -> Judged:
    """Return the bundled documents, their ids, the questions and which rows answer them."""
    docs = pq.read_table(DEMO / "docs.parquet")
    asked = pq.read_table(DEMO / "queries.parquet").to_pylist()
    ids = docs["id"].to_pylist()
    rows = {identifier: at for at, identifier in enumerate(ids)}
    answers: dict[str, set[int]] = {}
    for line in (DEMO / "qrels.tsv").read_text(encoding="utf-8").splitlines():
        query, _, document, _ = line.split("\t")
        answers.setdefault(query, set()).add(rows[document])
    kept = [row for row in asked if row["id"] in answers]
    texts = [(text or "")[:LONGEST] for text in docs["text"].to_pylist()]
    return ids, texts, [row["text"] for row in kept], [answers[row["id"]] for row in kept]


def sampled(spec: str, documents: int, questions: int) -> Judged:
    """Return a sample of a file, FILE:QUERY:DOCUMENT or FILE:QUERY:DOCUMENT:GROUP."""
    file, query, document, *group = spec.split(":")
    table = pq.read_table(file, columns=[query, document, *group])
    if group:
        values = table[group[0]].to_pylist()
        firsts = {value: row for row, value in reversed(list(enumerate(values)))}
        table = table.take(sorted(firsts.values()))
    step = max(1, table.num_rows // documents)
    seen: dict[str, int] = {}
    asked: list[tuple[str, int]] = []
    for row in table.take(np.arange(0, table.num_rows, step)).to_pylist():
        asks = row[query][0] if isinstance(row[query], list) and row[query] else row[query]
        text = (row[document] or "")[:LONGEST]
        if asks and text and text not in seen and len(seen) < documents:
            seen[text] = len(seen)
            asked.append((str(asks), seen[text]))
    kept = asked[:: max(1, len(asked) // questions)][:questions]
    ids = [f"d{at:06d}" for at in range(len(seen))]
    return ids, list(seen), [text for text, _ in kept], [{row} for _, row in kept]


def hits_of(found: TopK, ids: list[str]) -> list[list[Hit]]:
    """Return lists of hits."""
    return [
        [Hit(ids[row], float(s)) for row, s in zip(rows, scores, strict=True) if row >= 0]
        for rows, scores in zip(found.orders.tolist(), found.scores, strict=True)
    ]


def legs(arguments: argparse.Namespace, judged: Judged) -> dict[str, list[list[Hit]]]:
    """Return every leg's hits."""
    ids, texts, asked, _ = judged
    dense = DenseEncoder(arguments.model, device="cpu")
    near = exact_topk(
        np.asarray(dense.encode_query(asked)), blocks_of(np.asarray(dense.encode_document(texts))),
        DEPTH,
    )  # fmt: skip
    splade = SparseEncoder(arguments.sparse_model, device="cpu")
    rows, _ = splade.encode_tokens(splade.pre(texts, task="document"))
    questions, _ = splade.encode_tokens(splade.pre(asked, task="query"))
    lists = InvertedShard(InvertedFile.of(rows), rows.shape[1])
    corpus = Input(kind="corpus", uri="texts", fingerprint="-")
    words = Texts.of([pa.table({"id": ids, "text": texts})], "text", corpus)
    read = open_words(bytes(words_file(words.words)), WORDS, METRICS["dot"])
    weighed = InvertedShard(InvertedFile.of(words.weights), len(words.words))
    return {
        "dense": hits_of(near, ids),
        "sparse": hits_of(lists.search(questions, DEPTH), ids),
        "bm25": hits_of(weighed.search(read(asked), DEPTH), ids),
    }


def ndcg(found: list[list[Hit]], ids: list[str], answers: list[set[int]]) -> float:
    """Return the mean nDCG@10."""
    place = {identifier: at for at, identifier in enumerate(ids)}
    values = []
    for hits, right in zip(found, answers, strict=True):
        gains = [1 / math.log2(at + 2) for at, h in enumerate(hits[:10]) if place[h.id] in right]
        values.append(sum(gains) / sum(1 / math.log2(at + 2) for at in range(min(10, len(right)))))
    return float(np.mean(values))


def main() -> None:
    """Print a table a set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--sparse-model", required=True)
    parser.add_argument("--set", action="append", required=True, help="demo or NAME=FILE:Q:D")
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--questions", type=int, default=500)
    arguments = parser.parse_args()
    print("| set | documents | questions | ranking | nDCG@10 |\n|---|---|---|---|---|")
    for each in arguments.set:
        name, _, spec = each.partition("=")
        judged = sampled(spec, arguments.documents, arguments.questions) if spec else demo()
        alone = legs(arguments, judged)
        rankings: dict[str, Any] = dict(alone)
        for joined in (("dense", "bm25"), ("dense", "sparse"), ("dense", "sparse", "bm25")):
            rankings[" + ".join(joined)] = [
                [hit.hit for hit in reciprocal_rank({leg: alone[leg][at] for leg in joined})]
                for at in range(len(judged[2]))
            ]
        for ranking, found in rankings.items():
            value = ndcg(found, judged[0], judged[3])
            print(
                f"| {name} | {len(judged[0]):,} | {len(judged[2])} | {ranking} | {value:.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
