from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pyarrow.parquet as pq
import pytest
from transformers import BertConfig, BertForMaskedLM

from raybert import SparseEncoder
from raybert.artifacts import read_manifest


@pytest.fixture
def masked_lm(minilm: Path, tmp_path: Path) -> Path:
    """A small random masked language model."""
    config = BertConfig(
        vocab_size=30522,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    folder = tmp_path / "masked-lm"
    BertForMaskedLM(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(minilm / name, folder / name)
    return folder


def test_a_splade_model_is_trained_and_opened(
    load_job: Callable[[str], ModuleType], root: Path, masked_lm: Path, tmp_path: Path
) -> None:
    docs = pq.read_table(root / "data" / "demo" / "docs.parquet").slice(0, 32)
    pq.write_table(docs.select(["title", "text"]), tmp_path / "rows.parquet")
    train, out = load_job("train_sparse"), tmp_path / "model"
    command = [
        *("--model", str(masked_lm), "--data.files", str(tmp_path / "rows.parquet")),
        *("--out", str(out), "--tracking-uri", "none", "--scale.device", "cpu"),
        *("--max-seq-length", "16", "--batch.size", "8"),
    ]
    train.main(train.TrainSparse.from_command_line(command))
    manifest = read_manifest(out, kind="model")
    assert (manifest.details["loss"], manifest.details["steps"]) == ("SpladeLoss", 4)
    assert SparseEncoder(out).get_embedding_dimension() == 30522
