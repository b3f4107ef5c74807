"""A corpus in every format, and a model that needs no weights."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from raybert.artifacts import Folder, Input, Manifest, write_manifest, write_table
from raybert.corpus.columns import vector_table
from raybert.records import BatchUsage, TokenizedTexts

Rows = list[tuple[Any, Any]]
WriteCorpus = Callable[[str, Rows], Path]


@pytest.fixture
def write_corpus(tmp_path: Path) -> WriteCorpus:
    """Return a function that writes (id, text) rows in a format: `write("jsonl", rows)`."""

    def write(kind: str, rows: Rows, name: str = "corpus") -> Path:
        path = tmp_path / f"{name}.{kind}"
        if kind == "parquet":
            table = pa.table({"id": [row[0] for row in rows], "text": [row[1] for row in rows]})
            pq.write_table(table, path, row_group_size=7)
        elif kind == "jsonl":
            lines = (json.dumps({"id": key, "text": text, "more": 1}) for key, text in rows)
            path.write_text("".join(f"{line}\n" for line in lines))
        elif kind == "csv":
            with path.open("w", newline="") as file:
                csv.writer(file).writerows([("id", "text"), *rows])
        elif kind == "tsv":
            path.write_text("".join(f"{key}\t{text}\n" for key, text in [("id", "text"), *rows]))
        else:
            path.write_text("".join(f"{text}\n" for _, text in rows))
        return path

    return write


class LetterModel:
    """A model in ten lines: a token a letter, a vector from the text's hash."""

    def __init__(self) -> None:
        self.details: dict[str, Any] = {"dimension": 4}
        self.encoded = 0

    def tokenize(self, texts: Sequence[str]) -> TokenizedTexts:
        return TokenizedTexts([[ord(letter) for letter in text] for text in texts])

    def __call__(self, tokens: TokenizedTexts) -> tuple[pa.Table, BatchUsage]:
        self.encoded += len(tokens)
        texts = ["".join(map(chr, ids)) for ids in tokens.input_ids]
        seeds = [xxhash.xxh3_64_intdigest(text.encode()) for text in texts]
        rows = [np.random.default_rng(seed).normal(size=4) for seed in seeds]
        vectors = np.array(rows, np.float32).reshape(len(texts), 4)
        vectors[["poison" in text for text in texts]] = np.nan
        used = sum(tokens.lengths)
        return vector_table(vectors), BatchUsage(used, used)


@pytest.fixture
def letter_model() -> LetterModel:
    return LetterModel()


@pytest.fixture
def write_embeddings(tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes vectors as an embeddings artifact of some shards."""

    def write(name: str, vectors: Any, shards: int, ids: Any = None, model: str = "m") -> str:
        folder = Folder(tmp_path / name)
        ids = ids or [f"q{n}" for n in range(len(vectors))]
        written = []
        for at, rows in enumerate(np.array_split(np.arange(len(vectors)), shards)):
            flat = pa.array(vectors[rows].reshape(-1))
            column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
            table = pa.table({"id": [ids[row] for row in rows], "vector": column})
            written.append(write_table(folder, f"shards/{at:05d}.parquet", table))
        model_input = Input(kind="model", uri=model, fingerprint=model)
        write_manifest(
            folder, Manifest(kind="embeddings", shards=tuple(written), inputs=(model_input,))
        )
        return str(folder)

    return write
