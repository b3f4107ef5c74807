"""Small random models and small real data for the training tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertModel

from raybert.training import Job, TrainingSettings

MODELS: dict[str, Any] = {
    "dense": BertModel,
    "cross": BertForSequenceClassification,
    "sparse": BertForMaskedLM,
}


@pytest.fixture(scope="session")
def small_model(
    minilm: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, float], Path]:
    """Return a function that makes a random BERT of a family, with some dropout."""
    folder = tmp_path_factory.mktemp("small")

    def make(family: str, dropout: float = 0.0) -> Path:
        path = folder / f"{family}-{dropout}"
        if path.exists():
            return path
        torch.manual_seed(7)
        config = BertConfig(
            vocab_size=30522,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            num_labels=1,
        )
        MODELS[family](config).save_pretrained(path)
        for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
            if (minilm / name).exists():
                shutil.copy(minilm / name, path / name)
        return path

    return make


@pytest.fixture(scope="session")
def rows(root: Path) -> pa.Table:
    """Titles and first words of real documents, with a grade that a fixed rule gives."""
    docs = pq.read_table(root / "data" / "demo" / "docs.parquet").slice(0, 480)
    titles = docs["title"].to_pylist()
    starts = [" ".join(text.split()[:12]) for text in docs["text"].to_pylist()]
    turned = [starts[(row + row % 3) % len(starts)] for row in range(len(starts))]
    return pa.table(
        {
            "anchor": titles,
            "positive": starts,
            "other": turned,
            "score": [1 - (row % 3) / 2 for row in range(len(starts))],
        }
    )


@pytest.fixture
def make_job(
    rows: pa.Table, small_model: Callable[[str, float], Path], tmp_path: Path
) -> Callable[..., Job]:
    """Return a function that makes a job of a family over some columns of the rows."""

    def make(
        family: str = "dense",
        columns: tuple[str, ...] = ("anchor", "positive"),
        dropout: float = 0.0,
        **settings: Any,
    ) -> Job:
        data = tmp_path / f"{'-'.join(columns)}.parquet"
        pq.write_table(rows.select(list(columns)), data)
        given: dict[str, Any] = {
            "out": str(tmp_path / "model"),
            "tracking_uri": "none",
            "model": str(small_model(family, dropout)),
            "data": {"files": [str(data)]},
            "saving": {"log_every": 1},
            "scale": {"device": "cpu"},
            **settings,
        }
        return Job(TrainingSettings(**given), family)

    return make
