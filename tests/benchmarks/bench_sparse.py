"""The inverted file against SciPy's product, and BM25 against bm25s, in rounds that take turns.

    python tests/benchmarks/bench_sparse.py --rows ROWS.npz --queries QUERIES.npz
    python tests/benchmarks/bench_sparse.py --corpus FILE.parquet --column document --ask query

Rows are SciPy compressed rows as `scipy.sparse.save_npz` writes them, such as SPLADE's. Where more
documents are asked for than there are rows, each further one is made of two drawn rows: half the
terms of either, weights changed by up to a fifth.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from bench_index import CLOCKS, timed  # type: ignore[import-not-found]
from scipy import sparse

from raybert.artifacts import Input
from raybert.index import build_text_index, open_index
from raybert.index.inverted import InvertedFile, InvertedShard

TOP_K = 10


def expanded(rows: Any, documents: int) -> Any:
    """Return `documents` rows made of the given ones."""
    draw = np.random.default_rng(0)
    parts, held = [rows[:documents]], min(rows.shape[0], documents)
    while held < documents:
        count = min(100_000, documents - held)
        halves = []
        for _ in range(2):
            half = rows[draw.integers(0, rows.shape[0], count)]
            kept = draw.random(half.nnz) < 0.5
            half.data = half.data * kept * draw.uniform(0.8, 1.2, half.nnz).astype(np.float32)
            halves.append(half)
        joined = halves[0].maximum(halves[1]).tocsr()
        joined.eliminate_zeros()
        parts.append(joined)
        held += count
    return sparse.csr_array(sparse.vstack(parts), dtype=np.float32)


def by_product(scores: Any) -> list[tuple[int, np.float32]]:
    """Return the best rows of one query's scores, ties by row, rows of score 0 left out."""
    least = np.partition(scores, len(scores) - TOP_K)[len(scores) - TOP_K]
    rows = np.flatnonzero((scores >= least) & (scores > 0))
    order = rows[np.lexsort((rows, -scores[rows]))][:TOP_K]
    return [(int(row), scores[row]) for row in order]


def print_times(seconds: dict[str, float], queries: int, base: str) -> None:
    """Print the table."""
    print("| search | ms a query | ratio |\n|---|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {1000 * value / queries:.3f} | {seconds[base] / value:.2f} |")


def bench_inverted(arguments: argparse.Namespace) -> None:
    """Time the inverted file, and compare every hit."""
    rows = sparse.csr_array(sparse.load_npz(arguments.rows))
    queries = sparse.csr_array(sparse.load_npz(arguments.queries))[: arguments.count]
    documents = expanded(rows, arguments.documents)
    shard = InvertedShard(InvertedFile.of(documents), documents.shape[1])
    turned = documents.T.tocsr()
    print(
        f"{documents.shape[0]:,} documents of {documents.nnz / documents.shape[0]:.0f} terms, "
        f"{queries.shape[0]} queries of {queries.nnz / queries.shape[0]:.0f}, top {TOP_K}"
    )

    def product() -> list[Any]:
        dense = queries.toarray()
        return [by_product(documents @ row) for row in dense]

    def turned_product() -> list[Any]:
        return [by_product((queries[[at]] @ turned).toarray()[0]) for at in every]

    every = range(queries.shape[0])
    shard.search(queries[:1], TOP_K)
    contenders: dict[str, Callable[[], Any]] = {
        "SciPy CSR product, documents @ query": product,
        "SciPy CSR product, query @ documents by term": turned_product,
        "raybert inverted": lambda: shard.search(queries, TOP_K),
    }
    seconds = timed(contenders, arguments.rounds, CLOCKS[arguments.clock])
    print_times(seconds, queries.shape[0], "SciPy CSR product, documents @ query")
    found = shard.search(queries, TOP_K)
    exact = documents.astype(np.float64)
    same = sum(
        [(int(r), s) for r, s in zip(rows, scores, strict=True) if r >= 0]
        == by_product((exact @ query).astype(np.float32))
        for rows, scores, query in zip(
            found.orders, found.scores, queries.astype(np.float64).toarray(), strict=True
        )
    )
    print(f"identical ids and scores: {same} of {queries.shape[0]} queries")


def bench_bm25(arguments: argparse.Namespace) -> None:
    """Time BM25, texts in and ids out."""
    table = pq.read_table(arguments.corpus, columns=[arguments.column, arguments.ask])
    texts = table[arguments.column].to_pylist()
    asked = table[arguments.ask].to_pylist()[:: max(1, len(texts) // arguments.count)]
    ids = [f"{row:09d}" for row in range(len(texts))]
    engine = bm25s.BM25()
    engine.index(bm25s.tokenize(texts, stopwords=[], show_progress=False), show_progress=False)

    def reference() -> Any:
        words = bm25s.tokenize(asked, stopwords=[], return_ids=False, show_progress=False)
        rows, _ = engine.retrieve(words, k=TOP_K, show_progress=False)
        return [[ids[row] for row in found] for found in rows]

    with tempfile.TemporaryDirectory() as scratch:
        corpus = Input(kind="corpus", uri=str(arguments.corpus), fingerprint="benchmark")
        documents = [pa.table({"id": ids, "text": texts})]
        build_text_index(documents, f"{scratch}/index", corpus=corpus, keep=False)
        index = open_index(f"{scratch}/index")
        index.search(asked[0], TOP_K)
        contenders: dict[str, Callable[[], Any]] = {
            "bm25s": reference,
            "raybert bm25": lambda: index.search(asked, TOP_K),
        }
        print(f"{len(texts):,} texts, {len(asked)} queries, top {TOP_K}")
        print_times(
            timed(contenders, arguments.rounds, CLOCKS[arguments.clock]), len(asked), "bm25s"
        )


def main() -> None:
    """Run what there are files for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=Path, help="sparse rows of documents, .npz")
    parser.add_argument("--queries", type=Path, help="sparse rows of queries, .npz")
    parser.add_argument("--documents", type=int, default=500_000)
    parser.add_argument("--corpus", type=Path, help="Parquet file of texts")
    parser.add_argument("--column", default="text")
    parser.add_argument("--ask", default="query", help="column of the questions")
    parser.add_argument("--count", type=int, default=50, help="queries")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    arguments = parser.parse_args()
    if arguments.rows:
        bench_inverted(arguments)
    if arguments.corpus:
        bench_bm25(arguments)


if __name__ == "__main__":
    main()
