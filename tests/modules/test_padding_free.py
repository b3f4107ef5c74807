"""Training without padding: the gradients of the padded model, from the real tokens alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from raybert.modules import lean_training
from raybert.modules.lean_training import make_lean
from raybert.modules.padding_free import PaddingFree, Pieces

VOCABULARY: dict[str, Any] = {"vocab_size": 60, "max_position_embeddings": 120}
SIZE: dict[str, Any] = VOCABULARY | {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
DISTIL: dict[str, Any] = VOCABULARY | {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}
LENGTHS = [90, 3, 33, 32, 64, 1, 40]
MODELS = {
    "bert": lambda: transformers.BertModel(transformers.BertConfig(**SIZE)),
    "camembert": lambda: transformers.CamembertModel(transformers.CamembertConfig(**SIZE)),
    "distilbert": lambda: transformers.DistilBertModel(transformers.DistilBertConfig(**DISTIL)),
    "electra": lambda: transformers.ElectraModel(
        transformers.ElectraConfig(embedding_size=16, **SIZE)
    ),
    "roberta": lambda: transformers.RobertaModel(transformers.RobertaConfig(**SIZE)),
    "xlm-roberta": lambda: transformers.XLMRobertaModel(transformers.XLMRobertaConfig(**SIZE)),
}


def is_free(part: nn.Module) -> bool:
    return isinstance(part.__dict__.get("forward"), PaddingFree)


def two(name: str) -> tuple[Any, Any]:
    """A model whose look-ups and dropout are lean, with its padding and without."""
    torch.manual_seed(4)
    model: Any = MODELS[name]().train()
    make_lean(model)
    padded = copy.deepcopy(model)
    for part in padded.modules():
        if is_free(part):
            part.forward = part.forward.plain
    return padded, model


def batch(side: str = "right") -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(5)
    mask = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.long)
    for row, length in enumerate(LENGTHS):
        mask[row, :length] = 1
    mask = mask if side == "right" else mask.flip(1)
    ids = torch.where(mask.bool(), torch.randint(5, 60, mask.shape, generator=draws), 1)
    return {"input_ids": ids, "attention_mask": mask}


def tokens_and_gradients(model: Any, inputs: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The real tokens' outputs, and the gradients of a sum of them with fixed weights."""
    found = model(**inputs).last_hidden_state[inputs["attention_mask"].bool()]
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(6))
    (found * weights).sum().backward()
    grads = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    return found, grads


@pytest.fixture
def no_dice(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Dropout that drops nothing, but is asked; how many values it saw each time."""
    seen: list[int] = []

    def keep(values: Tensor, share: float) -> Tensor:
        seen.append(values.numel())
        return values

    monkeypatch.setattr(lean_training, "lean_dropout", keep)
    return seen


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("attention", ["written out", "sdpa"])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_outputs_and_gradients_are_those_with_padding(
    name: str, attention: str, side: str, no_dice: list[int]
) -> None:
    padded, free = two(name)
    if attention == "sdpa":
        for part in [*padded.modules(), *free.modules()]:
            if isinstance(part, nn.Dropout):
                part.p = 0.0
    known, gradients = tokens_and_gradients(padded, batch(side))
    most = max(no_dice)
    no_dice.clear()
    found, ours = tokens_and_gradients(free, batch(side))
    torch.testing.assert_close(found, known, rtol=1e-5, atol=2e-6)
    assert ours.keys() == gradients.keys()
    for each, gradient in ours.items():
        torch.testing.assert_close(gradient, gradients[each], rtol=1e-4, atol=2e-5, msg=each)
    assert sum(LENGTHS) * 32 in no_dice  # hidden states of real tokens alone
    assert max(no_dice) < most or attention == "sdpa"


def test_layers_see_real_tokens_alone() -> None:
    model = MODELS["bert"]().train()
    make_lean(model)
    seen: list[tuple[int, ...]] = []
    for part in model.encoder.modules():
        if isinstance(part, nn.Linear):
            part.register_forward_hook(lambda _, x, __: seen.append(tuple(x[0].shape[:2])))
    assert not model(**batch()).last_hidden_state[~batch()["attention_mask"].bool()].any()
    assert set(seen) == {(1, sum(LENGTHS))}


def test_gradient_checkpoints_and_copies_and_dropout() -> None:
    _, model = two("bert")
    other = copy.deepcopy(model)
    other.activation_checkpointing_enable({"use_reentrant": False})
    torch.manual_seed(1)
    known, gradients = tokens_and_gradients(model, batch())
    torch.manual_seed(1)
    found, ours = tokens_and_gradients(other, batch())
    torch.testing.assert_close(found, known, rtol=0, atol=0)
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, gradients[name], rtol=1e-6, atol=1e-7)
    with torch.no_grad():  # as the first pass of a cached step: the same dice
        torch.manual_seed(1)
        again = model(**batch()).last_hidden_state[batch()["attention_mask"].bool()]
    torch.testing.assert_close(again, known, rtol=0, atol=0)
    torch.manual_seed(2)
    assert not tokens_and_gradients(model, batch())[0].equal(known)


def test_what_keeps_its_padding() -> None:
    mpnet: Any = transformers.MPNetModel(transformers.MPNetConfig(**SIZE)).train()
    make_lean(mpnet)
    assert not any(map(is_free, mpnet.modules()))
    _, model = two("bert")
    longest = max(LENGTHS)
    model.config.output_hidden_states = True  # every layer's tokens are asked for, text by text
    assert {each.shape[:2] for each in model(**batch()).hidden_states} == {(len(LENGTHS), longest)}
    model.config.output_hidden_states = False
    free, inputs = model.encoder.forward, batch()
    model.encoder.forward = free.plain
    known = model.eval()(**inputs).last_hidden_state
    model.encoder.forward = free
    torch.testing.assert_close(model(**inputs).last_hidden_state, known, rtol=0, atol=0)


def test_texts_without_tokens_are_left_out() -> None:
    _, model = two("bert")
    inputs = batch()
    inputs["attention_mask"][2] = 0
    tokens = model(**inputs).last_hidden_state
    assert not tokens[2].any()
    assert tokens[[0, 1, 3]].isfinite().all()
    tokens.sum().backward()
    assert all(each.grad.isfinite().all() for each in model.encoder.parameters())
    inputs["attention_mask"][:] = 0
    assert model(**inputs).last_hidden_state.shape == tokens.shape


def test_pieces_hold_texts_of_about_one_length() -> None:
    pieces = Pieces.of(batch()["attention_mask"].bool())
    assert [(each.tokens, each.texts, each.width) for each in pieces.pieces] == [
        (36, 3, 32), (137, 3, 64), (90, 1, 90)
    ]  # fmt: skip
    assert [each.mask is None for each in pieces.pieces] == [False, False, True]
    real = batch()["attention_mask"].flatten().nonzero()[:, 0]
    assert sorted(pieces.order.tolist()) == real.tolist()
