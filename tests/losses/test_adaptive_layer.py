from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses as oracle
from sentence_transformers.sentence_transformer import modules
from torch import Tensor
from transformers import BertConfig, BertModel, BertTokenizerFast

from raybert.errors import SettingsError
from raybert.losses.adaptive_layer import AdaptiveLayerLoss, Matryoshka2dLoss
from raybert.losses.in_batch import MultipleNegativesRankingLoss
from raybert.losses.loss import LossInputs
from raybert.losses.matryoshka import MatryoshkaLoss

TEXTS = (["red apple", "blue sky", "green tree"], ["apple", "sky blue sky", "a tree"])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A random BERT of three layers with mean pooling, in the reference implementation."""
    folder: Path = tmp_path_factory.mktemp("bert")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, "red", "blue", "green", "apple", "sky", "tree", "a"]
    (folder / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    transformer = modules.Transformer(str(folder))
    return SentenceTransformer(modules=[transformer, modules.Pooling(16)], device="cpu")


def features_of(model: Any) -> list[dict[str, Tensor]]:
    return [model.preprocess(list(texts)) for texts in TEXTS]


def inputs_of(model: Any) -> LossInputs:
    """Pool every layer of the model by the mean over tokens."""
    columns, layers = [], []
    for features in features_of(model):
        keys = ("input_ids", "attention_mask", "token_type_ids")
        output = model[0].auto_model(
            **{key: features[key] for key in keys if key in features}, output_hidden_states=True
        )
        mask = features["attention_mask"][:, :, None].float()
        pooled = [(state * mask).sum(1) / mask.sum(1) for state in output.hidden_states]
        columns.append(pooled[-1])
        layers.append(torch.stack(pooled[:-1], dim=1))
    return LossInputs.of(*columns, layers=layers)


def gradients(model: Any, value: Tensor) -> Tensor:
    model.zero_grad()
    value.backward()  # type: ignore[no-untyped-call]
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"layer_weighting": "log", "prior_layers_weight": 0.5, "last_layer_weight": 2.0},
        {"layer_weighting": "linear", "kl_temperature": 0.0},
        {"layer_weighting": lambda layer: 2.0 + layer, "kl_div_weight": 3.0},
    ],
)
def test_equals_the_oracle(model: Any, arguments: dict[str, Any]) -> None:
    inner = oracle.MultipleNegativesRankingLoss(model)
    theirs = oracle.AdaptiveLayerLoss(model, inner, n_layers_per_step=-1, **arguments)
    ours = AdaptiveLayerLoss(MultipleNegativesRankingLoss(), n_layers_per_step=-1, **arguments)
    expected, value = theirs(features_of(model), None), ours(inputs_of(model))
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    wanted, found = gradients(model, expected), gradients(model, value)
    assert float((found - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())


def test_two_dimensions_equal_the_oracle(model: Any) -> None:
    arguments: dict[str, Any] = {
        "matryoshka_dims": [16, 4],
        "n_layers_per_step": -1,
        "n_dims_per_step": -1,
    }
    inner = oracle.MultipleNegativesRankingLoss(model)
    theirs = oracle.Matryoshka2dLoss(model, inner, **arguments)
    ours = Matryoshka2dLoss(MultipleNegativesRankingLoss(), **arguments)
    expected, value = theirs(features_of(model), None), ours(inputs_of(model))
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    wanted, found = gradients(model, expected), gradients(model, value)
    assert float((found - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())


def test_a_drawn_layer_counts_in_full(model: Any) -> None:
    """One drawn of three layers is not divided by three."""
    inputs, inner = inputs_of(model), MultipleNegativesRankingLoss()
    loss = AdaptiveLayerLoss(inner, n_layers_per_step=1, kl_temperature=0.0)
    singles = [
        inner(inputs.with_columns([c[:, k] for c in inputs.details["layers"]])) for k in range(3)
    ]
    term = loss.terms(inputs)["prior_layers"]
    assert min(abs((term - single).item()) for single in singles) < 1e-6


def test_cut_around_layers_cuts_the_layers_too(model: Any) -> None:
    inputs = inputs_of(model)
    around = MatryoshkaLoss(AdaptiveLayerLoss(MultipleNegativesRankingLoss(), -1), [16, 4])
    assert set(around.terms(inputs)) == {"loss", "prior_layers", "kl_div"}


def test_unknown_weighting_is_refused() -> None:
    with pytest.raises(SettingsError, match="uniform, log, linear"):
        AdaptiveLayerLoss(MultipleNegativesRankingLoss(), layer_weighting="steep")
