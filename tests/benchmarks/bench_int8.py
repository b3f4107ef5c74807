"""What eight bits cost in retrieval: nDCG@10 of every back end on tables of queries and documents.

    python tests/benchmarks/bench_int8.py --model FOLDER --backends torch torch:int8 onnx \
        --retrieval FILE.parquet query document --retrieval OTHER.parquet examples definition

Each row's document is the one relevant to its query (rows of the same text all are). A back end's
loss is told beside torch in float32.
"""

from __future__ import annotations

import argparse
import random
import time
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from raybert import DenseEncoder
from raybert.devices import cpu_count, set_threads

Array = np.ndarray[Any, Any]


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="model folder with exported files")
    parser.add_argument("--backends", nargs="+", default=["torch", "torch:int8"])
    parser.add_argument(
        "--retrieval",
        nargs=3,
        action="append",
        required=True,
        metavar=("FILE", "QUERY", "DOCUMENT"),
    )
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--max-seq-length", type=int, default=128)
    parser.add_argument("--threads", type=int, default=cpu_count())
    return parser.parse_args()


def rows_of(file: str, query: str, document: str, count: int) -> list[tuple[str, str]]:
    """Take (query, document) rows at random; of a list of queries the first."""
    rows = []
    for row in pq.read_table(file, columns=[query, document]).to_pylist():
        asked = row[query][0] if isinstance(row[query], list) and row[query] else row[query]
        if asked and row[document]:
            rows.append((str(asked), str(row[document])))
    random.Random(13).shuffle(rows)
    return rows[:count]


def ndcg(queries: Array, documents: Array, texts: list[str]) -> float:
    """Return the mean nDCG@10: 1 / log2(rank + 1) of the first relevant document."""
    scores = queries @ documents.T
    total = 0.0
    for row, ranking in enumerate(np.argsort(-scores, axis=1, kind="stable")[:, :10]):
        hits = [rank for rank, at in enumerate(ranking, 1) if texts[at] == texts[row]]
        relevant = min(10, texts.count(texts[row]))
        ideal = sum(1 / np.log2(rank + 1) for rank in range(1, relevant + 1))
        total += sum(1 / np.log2(rank + 1) for rank in hits) / ideal
    return total / len(queries)


def main() -> None:
    """Measure and print the table."""
    options = parsed()
    set_threads(options.threads)
    print(f"{'set':28} {'back end':48} {'seconds':>8} {'nDCG@10':>8} {'loss':>7}")
    for file, query, document in options.retrieval:
        rows = rows_of(file, query, document, options.documents)
        texts = [text for _, text in rows]
        asked = [question for question, _ in rows[: options.queries]]
        base = None
        for backend in options.backends:
            encoder = DenseEncoder(options.model, device="cpu", backend=backend)
            encoder.max_seq_length = options.max_seq_length
            start = time.process_time()
            documents = encoder.encode_document(texts, normalize_embeddings=True)
            seconds = time.process_time() - start
            questions = encoder.encode_query(asked, normalize_embeddings=True)
            found = ndcg(questions, documents, texts)
            base = found if base is None else base
            name = f"{file.rsplit('/', 1)[-1].removesuffix('.parquet')}, {len(rows)}"
            print(
                f"{name:28} {backend:48} {seconds:8.2f} {found:8.4f} {(base - found) / base:7.2%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
