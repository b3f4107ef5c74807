"""LoRA adapters in folders of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from raybert import DenseEncoder
from raybert.errors import ModelError
from raybert.modules import Opening, Transformer

WEIGHTS = "adapter_model.safetensors"
TEXTS = ["a b c", "d", "g f e d c b a"]


@pytest.fixture
def adapter(tiny: Path, tmp_path: Path) -> Path:
    """An adapter folder without a tokenizer, as peft writes it."""
    config = peft.LoraConfig(target_modules=["query", "value"], r=2, lora_alpha=8)
    model: Any = peft.get_peft_model(transformers.AutoModel.from_pretrained(str(tiny)), config)
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    model.save_pretrained(str(tmp_path / "adapter"))
    return tmp_path / "adapter"


def test_an_adapter_is_merged(adapter: Path, tiny: Path) -> None:
    found = DenseEncoder(adapter, device="cpu")
    whole = shutil.copytree(adapter, adapter.parent / "whole")
    for path in tiny.glob("*token*"):
        shutil.copy(path, whole)
    expected = SentenceTransformer(str(whole), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(found.encode(TEXTS), expected, atol=1e-5)
    plain = DenseEncoder(tiny, device="cpu").encode(TEXTS)
    assert np.abs(plain - expected).max() > 1e-3
    assert not any("lora" in name for name, _ in found.model.named_parameters())


def test_the_oracles_folder_with_an_adapter(tiny: Path, tmp_path: Path) -> None:
    oracle = SentenceTransformer(str(tiny), device="cpu")
    oracle.add_adapter(peft.LoraConfig(target_modules=["query"], r=2))
    for name, weight in oracle.named_parameters():
        if "lora_B" in name:
            torch.nn.init.ones_(weight)
    expected = oracle.eval().encode(TEXTS)
    oracle.save_pretrained(str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "adapter_config.json").exists()
    assert not (tmp_path / "saved" / "model.safetensors").exists()
    found = DenseEncoder(tmp_path / "saved", device="cpu")
    np.testing.assert_allclose(found.encode(TEXTS), expected, atol=1e-5)
    found.save_pretrained(tmp_path / "merged")
    merged = SentenceTransformer(str(tmp_path / "merged"), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(merged, expected, atol=1e-5)


def test_an_adapter_of_another_model(adapter: Path) -> None:
    weights = load_file(adapter / WEIGHTS)
    name, value = next(iter(weights.items()))
    save_file({**weights, name: value[:1].contiguous()}, adapter / WEIGHTS)
    with pytest.raises(ModelError, match=r"adapter .* cannot be used: .*size mismatch"):
        Transformer.open(adapter, Opening())
    del weights[name]
    save_file(weights, adapter / WEIGHTS)
    with pytest.raises(ModelError, match=r"adapter .* does not fit its model: .*lora_"):
        Transformer.open(adapter, Opening())


def test_an_adapter_without_weights_or_model(adapter: Path) -> None:
    (adapter / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=r"has no weights \(adapter_model.safetensors\)"):
        Transformer.open(adapter, Opening())
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(
        json.dumps({**config, "base_model_name_or_path": None})
    )
    with pytest.raises(ModelError, match="base_model_name_or_path is missing"):
        Transformer.open(adapter, Opening())
