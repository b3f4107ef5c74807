from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel

from raybert.errors import ModelError, SettingsError
from raybert.modules import Normalize, Transformer
from raybert.modules.fused import FusedForward
from raybert.modules.lora import add_lora, merge_lora


@pytest.fixture
def model() -> torch.nn.Sequential:
    """A small BERT as the first module; nothing is tokenized here."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    untold: Any = SimpleNamespace()
    return torch.nn.Sequential(Transformer(BertModel(config).eval(), untold))


def embed(model: torch.nn.Sequential) -> torch.Tensor:
    features = {
        "input_ids": torch.arange(12).view(2, 6),
        "attention_mask": torch.ones(2, 6, dtype=torch.long),
    }
    with torch.inference_mode():
        found: torch.Tensor = model(features)["token_embeddings"]
    return found


def test_adapters_are_trained_seen_and_merged(model: torch.nn.Sequential) -> None:
    before = embed(model)
    names = set(model.state_dict())
    add_lora(model, rank=4, alpha=8, layers=["query", "value"])
    torch.testing.assert_close(embed(model), before)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 2 * 2
    assert all("lora_" in name for name in trained)
    for parameter in trained.values():
        torch.nn.init.normal_(parameter, std=0.3)
    adapted = embed(model)
    assert (adapted - before).abs().max() > 0.05
    merge_lora(model)
    torch.testing.assert_close(embed(model), adapted, rtol=0, atol=1e-5)
    assert set(model.state_dict()) == names
    assert any(isinstance(m.__dict__.get("forward"), FusedForward) for m in model.modules())


def test_a_layer_that_is_not_there_and_a_model_without_transformer_are_refused(
    model: torch.nn.Sequential,
) -> None:
    with pytest.raises(SettingsError, match=r"lora\.layers: .*nothing"):
        add_lora(model, rank=4, alpha=8, layers=["nothing"])
    with pytest.raises(ModelError, match="needs a transformer"):
        add_lora(torch.nn.Sequential(Normalize()), rank=4, alpha=8)
