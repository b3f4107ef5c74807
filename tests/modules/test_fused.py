from __future__ import annotations

import copy
import pickle

import pytest
import torch
import transformers

from raybert.errors import ModelError
from raybert.modules.fused import FusedForward, fuse, pack_int8
from raybert.modules.packed import QuantizedLinear

SIZE = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32}
IDS = torch.tensor([[2, 5, 6, 7, 3], [2, 8, 3, 1, 1]])
MASK = (IDS != 1).long()


def bert(**settings: object) -> transformers.BertModel:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=10, intermediate_size=64, pad_token_id=1, **SIZE, **settings
    )
    return transformers.BertModel(config).eval()


def hidden(model: torch.nn.Module, mask: torch.Tensor | None = MASK) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS, attention_mask=mask).last_hidden_state
    return found


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
@pytest.mark.parametrize("mask", [MASK, None])
def test_fused_is_the_same_function(activation: str, mask: torch.Tensor | None) -> None:
    model = bert(hidden_act=activation)
    before = hidden(model, mask)
    assert fuse(model)
    seen = MASK.bool() if mask is not None else torch.ones_like(MASK).bool()
    torch.testing.assert_close(hidden(model, mask)[seen], before[seen], atol=2e-6, rtol=0)
    assert model.encoder.forward.layers.made is not None


def test_changed_weights_are_packed_anew() -> None:
    model, plain = bert(), bert()
    fuse(model)
    hidden(model)
    with torch.no_grad():
        for mine, other in zip(model.parameters(), plain.parameters(), strict=True):
            mine.add_(0.01)
            other.add_(0.01)
    torch.testing.assert_close(hidden(model), hidden(plain), atol=2e-6, rtol=0)
    model.load_state_dict(bert().state_dict())
    torch.testing.assert_close(hidden(model), hidden(bert()), atol=2e-6, rtol=0)


def test_training_uses_the_stacks_own_forward() -> None:
    model = bert()
    fuse(model)
    out = model(input_ids=IDS, attention_mask=MASK).last_hidden_state
    out.sum().backward()
    assert model.encoder.layer[0].attention.self.query.weight.grad is not None
    assert model.encoder.forward.layers.made is None


def test_other_formats_and_outputs_use_the_stacks_own_forward() -> None:
    model = bert().to(torch.bfloat16)
    fuse(model)
    assert hidden(model).dtype == torch.bfloat16
    assert model.encoder.forward.layers.made is None
    recording = bert(output_hidden_states=True)
    assert not fuse(recording)


class Doubling(torch.nn.Linear):
    """Stands for an adapter in a layer's place: it has the weights, and does more with them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


def test_a_layer_that_is_another_now_is_not_passed_over() -> None:
    model, plain = bert(), bert()
    fuse(model)
    for one in (model, plain):
        one.encoder.layer[1].attention.self.value.__class__ = Doubling
    torch.testing.assert_close(hidden(model), hidden(plain), atol=2e-6, rtol=0)
    assert (hidden(model) - hidden(bert())).abs().max() > 1e-3


def test_copies_and_pickles_carry_no_packed_weights() -> None:
    model = bert()
    fuse(model)
    before = hidden(model)
    twin = copy.deepcopy(model)
    assert isinstance(twin.encoder.forward, FusedForward)
    assert twin.encoder.forward.stack is twin.encoder
    again = pickle.loads(pickle.dumps(model))
    for one in (twin, again):
        assert one.encoder.forward.layers.made is None
        assert torch.equal(hidden(one), before)


def test_unknown_stacks_and_activations_are_left_alone() -> None:
    assert not fuse(bert(hidden_act="silu"))
    assert not fuse(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_eight_bits_come_near_and_do_not_depend_on_the_batch(activation: str) -> None:
    model, plain = bert(hidden_act=activation), bert(hidden_act=activation)
    assert fuse(model, QuantizedLinear)
    found, expected = hidden(model), hidden(plain)
    seen = MASK.bool()
    cosines = torch.cosine_similarity(found[seen], expected[seen])
    assert cosines.min() > 0.999
    assert not torch.equal(found[seen], expected[seen])
    with torch.no_grad():
        alone = model(input_ids=IDS[1:, :3], attention_mask=MASK[1:, :3]).last_hidden_state
    torch.testing.assert_close(alone[0], found[1, :3], atol=1e-5, rtol=0)


def test_eight_bits_of_a_row_of_zeros_and_of_great_numbers_are_finite() -> None:
    torch.manual_seed(1)
    linear = torch.nn.Linear(16, 8)
    packed = QuantizedLinear(linear)
    x = torch.stack([torch.zeros(16), torch.full((16,), 1e6), torch.randn(16)])
    with torch.no_grad():
        expected, found = linear(x), packed(x)
        assert torch.equal(found[0], linear.bias)
        torch.testing.assert_close(found[2], expected[2], rtol=0, atol=0.05)
        torch.testing.assert_close(found[1], expected[1], rtol=0, atol=0.01 * 1e6)
        norm = torch.nn.LayerNorm(8)
        torch.testing.assert_close(packed.normed(x, x[:, :8], norm), norm(found + x[:, :8]))


def test_eight_bits_are_refused_for_unknown_stacks() -> None:
    with pytest.raises(ModelError, match="m: torch:int8 is for BERT-like stacks"):
        pack_int8(bert(hidden_act="silu"), "m")


def test_a_row_with_a_value_that_is_no_number_stays_without_number() -> None:
    packed = QuantizedLinear(torch.nn.Linear(24, 8))
    x = torch.randn(5, 24)
    x[1, 3], x[3, 0], x[4, 23] = torch.nan, torch.inf, -torch.inf
    found = packed(x)
    assert torch.isnan(found).all(dim=1).tolist() == [False, True, False, True, True]
    assert torch.isfinite(found[[0, 2]]).all()


@pytest.mark.parametrize(
    "family", ["Bert", "Roberta", "XLMRoberta", "Electra", "DistilBert", "MPNet"]
)
@pytest.mark.parametrize("mask", [MASK, None])
def test_a_classifier_asks_the_last_layer_for_first_tokens_only(
    family: str, mask: torch.Tensor | None
) -> None:
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=10, intermediate_size=64, pad_token_id=1, num_labels=3, **SIZE
    )
    model = getattr(transformers, f"{family}ForSequenceClassification")(config).eval()
    with torch.no_grad():
        before = model(input_ids=IDS, attention_mask=mask).logits
        assert fuse(model)
        torch.testing.assert_close(
            model(input_ids=IDS, attention_mask=mask).logits, before, atol=2e-6, rtol=0
        )
    (fused,) = [
        part.forward
        for part in model.modules()
        if isinstance(part.__dict__.get("forward"), FusedForward)
    ]
    assert [type(layer).__name__ for layer in fused.layers()][-1] == "FirstTokenLayer"
