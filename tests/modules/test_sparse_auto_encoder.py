from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from sentence_transformers.sparse_encoder.modules import SparseAutoEncoder as Oracle

from raybert.errors import ModelError
from raybert.modules import Opening, SparseAutoEncoder

SIZE: dict[str, Any] = {"input_dim": 6, "hidden_dim": 24, "k": 3, "k_aux": 4}


@pytest.mark.parametrize("normalize", [False, True])
def test_every_feature_for_the_losses_is_the_oracles(normalize: bool) -> None:
    torch.manual_seed(0)
    ours = SparseAutoEncoder(**SIZE, normalize=normalize).train()
    theirs = Oracle(**SIZE, normalize=normalize).train()
    with torch.no_grad():
        ours.pre_bias.normal_()
        ours.latent_bias.normal_()
        ours.stats_last_nonzero += 40
    theirs.load_state_dict(ours.state_dict())
    for _ in range(2):
        x = torch.randn(5, 6)
        mine = ours({"sentence_embedding": x})
        other = theirs({"sentence_embedding": x})
        for name, value in other.items():
            torch.testing.assert_close(mine[name], value, msg=name)
        assert set(other) == set(mine)
    assert torch.equal(ours.stats_last_nonzero, theirs.stats_last_nonzero)


def test_gradients_reach_both_uses_of_the_tied_weights(tmp_path: Path) -> None:
    module = SparseAutoEncoder(**SIZE).train()
    found = module({"sentence_embedding": torch.randn(5, 6)})
    found["decoded_embedding_k"].square().sum().backward()
    assert module.encoder.weight.grad is not None
    assert module.decoder.linear.weight is module.encoder.weight


@pytest.mark.parametrize("name", ["encoder.weight", "decoder.linear.weight"])
def test_either_name_of_the_tied_weights(tmp_path: Path, name: str) -> None:
    module = SparseAutoEncoder(**SIZE)
    module.save(tmp_path)
    tensors = {
        "pre_bias": module.pre_bias.data,
        "latent_bias": module.latent_bias.data,
        "stats_last_nonzero": module.stats_last_nonzero,
        name: module.encoder.weight.data,
    }
    save_file(tensors, tmp_path / "model.safetensors")
    again = SparseAutoEncoder.load(tmp_path, Opening())
    assert torch.equal(again.encoder.weight, module.encoder.weight)
    assert again.decoder.linear.weight is again.encoder.weight


def test_faults(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="k 30: 1 to hidden_dim 24 is allowed"):
        SparseAutoEncoder(6, 24, k=30)
    SparseAutoEncoder(**SIZE).save(tmp_path)
    save_file({"pre_bias": torch.zeros(6)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"encoder\.weight is missing"):
        SparseAutoEncoder.load(tmp_path, Opening())
