from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses as oracle
from torch import Tensor, nn
from torch.nn import functional as F

from raybert.encoders import DenseEncoder
from raybert.losses import (
    CoSENTLoss,
    GISTEmbedLoss,
    Loss,
    LossInputs,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
    SoftmaxLoss,
    SparseMultipleNegativesRankingLoss,
    SpladeLoss,
    total,
)
from raybert.records import TokenizedTexts
from raybert.training.cached_step import EMBEDDING, cached_step, plain_step
from raybert.training.mini_batches import MiniBatches, TensorRows

WIDTH = 8
LOSSES: dict[str, Loss] = {
    "ranking": MultipleNegativesRankingLoss(),
    "scores": CoSENTLoss(),
    "guided": GISTEmbedLoss(temperature=0.1),
    "matryoshka": MatryoshkaLoss(MultipleNegativesRankingLoss(), [8, 3]),
    "splade": SpladeLoss(SparseMultipleNegativesRankingLoss(), 0.1, 0.2),
}


class Encoder(nn.Module):
    """Embeds token ids by a mean over tokens, with dropout before and behind."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(20, WIDTH)
        self.layer = nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(dropout)
        self.double()

    def forward(self, features: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        mask = features["attention_mask"][:, :, None].to(self.words.weight.dtype)
        words = self.dropout(self.words(features["input_ids"])) * mask
        pooled = self.dropout(torch.tanh(self.layer(words.sum(1) / mask.sum(1))))
        with torch.no_grad():
            guide = self.words(features["input_ids"][:, 0]).detach()
        return {EMBEDDING: pooled, "guide": guide}


def texts(rows: int, seed: int) -> TensorRows:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 7, (rows,), generator=generator)
    mask = (torch.arange(7)[None, :] < lengths[:, None]).long()
    ids = torch.randint(1, 20, (rows, 7), generator=generator) * mask
    return TensorRows({"input_ids": ids, "attention_mask": mask})


def gradients(model: nn.Module) -> list[Tensor]:
    found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    return found


def backward(value: Tensor) -> None:
    value.backward()  # type: ignore[no-untyped-call]


def same_mini_batches(
    model: nn.Module,
    columns: list[TensorRows],
    loss: Loss,
    labels: Tensor | None,
    limits: MiniBatches,
) -> Tensor:
    """The plain step over the same mini-batches: one graph over all of them."""
    outputs = []
    for rows in columns:
        split = limits.split(rows.lengths)
        parts = [model(rows.take(part)) for part in split]
        back = torch.tensor([row for part in split for row in part]).argsort()
        outputs.append({name: torch.cat([part[name] for part in parts])[back] for name in parts[0]})
    inputs = LossInputs.of(
        *(output[EMBEDDING] for output in outputs), guide=[output["guide"] for output in outputs]
    )
    return total(loss.terms(inputs, labels))


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_cached_equals_plain_with_dropout_on(name: str, data: st.DataObject) -> None:
    rows, seed = data.draw(st.integers(1, 9)), data.draw(st.integers(0, 99))
    tokens = data.draw(st.sampled_from([None, 6, 20]))
    limits = MiniBatches(
        data.draw(st.integers(1, 10)), tokens, data.draw(st.sampled_from([None, 2]))
    )
    columns = [texts(rows, seed + number) for number in range(2)]
    labels = torch.linspace(0, 1, rows) if name == "scores" else None
    model, loss = Encoder(dropout=0.3), LOSSES[name]

    torch.manual_seed(seed)
    plain = same_mini_batches(model, columns, loss, labels, limits)
    state_after = torch.get_rng_state()
    backward(plain)
    expected = gradients(model)

    torch.manual_seed(seed)
    cached = cached_step(lambda _, part: model(part), columns, loss, labels, limits=limits)
    assert torch.equal(torch.get_rng_state(), state_after)
    backward(cached.loss)
    assert torch.equal(torch.get_rng_state(), state_after)
    torch.testing.assert_close(cached.loss, plain, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradients(model), expected, rtol=1e-7, atol=1e-9)


def test_without_dropout_cached_equals_the_whole_batch() -> None:
    model, loss = Encoder(dropout=0.0), MultipleNegativesRankingLoss()
    columns = [texts(40, 1), texts(40, 2), texts(40, 3)]
    plain = plain_step(lambda _, part: model(part), columns, loss)
    backward(plain.loss)
    expected = gradients(model)
    cached = cached_step(
        lambda _, part: model(part), columns, loss, limits=MiniBatches(7, loss_rows=16)
    )
    backward(cached.loss)
    torch.testing.assert_close(cached.loss, plain.loss, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(cached.terms, plain.terms, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradients(model), expected, rtol=1e-7, atol=1e-9)


def test_outer_gradient_multiplies_and_two_steps_may_be_open() -> None:
    model, loss = Encoder(dropout=0.4), MultipleNegativesRankingLoss()
    batches = [[texts(6, 1), texts(6, 2)], [texts(5, 3), texts(5, 4)]]
    limits = MiniBatches(2)
    torch.manual_seed(1)
    steps = [
        cached_step(lambda _, part: model(part), each, loss, limits=limits) for each in batches
    ]
    torch.rand(3)
    backward(steps[1].loss * 8 + steps[0].loss / 4)
    found = gradients(model)
    torch.manual_seed(1)
    plain = [same_mini_batches(model, each, loss, None, limits) for each in batches]
    backward(plain[1] * 8 + plain[0] / 4)
    torch.testing.assert_close(found, gradients(model), rtol=1e-7, atol=1e-9)


def test_mixed_precision_is_taken_up_again() -> None:
    model, loss = Encoder(dropout=0.0).float(), MultipleNegativesRankingLoss()
    columns, seen = [texts(6, 1), texts(6, 2)], []

    def embed(_: int, part: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        output = model(part)
        seen.append((torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()))
        return dict(output)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain = plain_step(embed, columns, loss).loss
    backward(plain)
    expected = gradients(model)
    seen.clear()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cached = cached_step(embed, columns, loss, limits=MiniBatches(6)).loss
    backward(cached)
    assert seen == [(True, True)] * 4
    torch.testing.assert_close(gradients(model), expected, rtol=2e-2, atol=2e-3)


def test_parameters_of_the_loss_are_trained_along() -> None:
    model, columns = Encoder(dropout=0.0), [texts(6, 1), texts(6, 2)]
    loss, labels = SoftmaxLoss(WIDTH, 3).double(), torch.tensor([0, 1, 2, 0, 1, 2])
    both = nn.ModuleList([model, loss])
    backward(plain_step(lambda _, part: model(part), columns, loss, labels).loss * 3)
    expected = gradients(both)
    step = cached_step(lambda _, part: model(part), columns, loss, labels, limits=MiniBatches(4))
    backward(step.loss * 3)
    torch.testing.assert_close(gradients(both), expected, rtol=1e-7, atol=1e-9)


def test_gradients_are_sent_only_with_the_last_trained_mini_batch() -> None:
    """The second column is frozen, so the first column's last mini-batch is the last one."""
    model, frozen = Encoder(dropout=0.0), Encoder(dropout=0.0).requires_grad_(False)
    towers, log = [model, frozen], []
    quiet = [False]

    class NoSync:
        def __enter__(self) -> None:
            quiet[0] = True

        def __exit__(self, *_: object) -> None:
            quiet[0] = False

    def embed(column: int, part: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        output: Mapping[str, Tensor] = towers[column](part)
        log.append((column, quiet[0]))
        return output

    columns = [texts(5, 1), texts(5, 2)]
    step = cached_step(
        embed, columns, MultipleNegativesRankingLoss(), limits=MiniBatches(2), no_sync=NoSync
    )
    assert log == [(0, True)] * 3 + [(1, True)] * 3
    log.clear()
    backward(step.loss)
    assert log == [(0, True), (0, True), (0, False)]
    assert all(parameter.grad is None for parameter in frozen.parameters())


def test_evaluation_embeds_once_and_without_gradient() -> None:
    model, calls = Encoder(dropout=0.0), []

    def embed(_: int, part: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        calls.append(len(part["input_ids"]))
        return dict(model(part))

    with torch.no_grad():
        step = cached_step(
            embed, [texts(5, 1), texts(5, 2)], MultipleNegativesRankingLoss(), limits=MiniBatches(3)
        )
    assert calls == [3, 2, 3, 2]
    assert not step.loss.requires_grad


WIDTHS = [384, 128, 32]
QUERIES = ["what is ray", "how to mine negatives", "a cat on a mat", "python", "blue sky", "rain"]
ANSWERS = [
    "Ray runs Python on many machines.",
    "Hard negatives are texts near the query which do not answer it; they are found by search.",
    "The cat sat down.",
    "A language, and a snake.",
    "Air scatters short waves of light more than long ones.",
    "Water falls from clouds.",
]


REAL: dict[str, tuple[Loss, Callable[..., Any]]] = {
    "ranking": (
        MultipleNegativesRankingLoss(),
        lambda model: oracle.CachedMultipleNegativesRankingLoss(model, mini_batch_size=4),
    ),
    "matryoshka": (
        MatryoshkaLoss(MultipleNegativesRankingLoss(), WIDTHS),
        lambda model: oracle.MatryoshkaLoss(
            model, oracle.CachedMultipleNegativesRankingLoss(model, mini_batch_size=4), WIDTHS
        ),
    ),
    "guided by itself": (
        GISTEmbedLoss(),
        lambda model: oracle.CachedGISTEmbedLoss(model, model, mini_batch_size=4),
    ),
}
"""Our loss, and the reference's around a model."""


@pytest.mark.parametrize("name", REAL)
def test_a_real_model_gives_the_reference_value_and_gradients(minilm: Path, name: str) -> None:
    """Hard cases 12, 13 and 28: cached in sorted mini-batches, plain, and the reference's."""
    loss, made = REAL[name]
    encoder = DenseEncoder(minilm, device="cpu")
    columns = [encoder.pre(QUERIES), encoder.pre(ANSWERS)]

    def embed(_: int, tokens: TokenizedTexts) -> Mapping[str, Tensor]:
        embeddings = encoder.model(encoder.collate(tokens))[EMBEDDING]
        return {EMBEDDING: embeddings, "guide": embeddings.detach()}

    encoder.model.eval()
    plain = plain_step(embed, columns, loss).loss
    step = cached_step(embed, columns, loss, limits=MiniBatches(rows=4, tokens=40))
    torch.testing.assert_close(step.loss, plain, rtol=1e-6, atol=1e-6)
    backward(step.loss)

    theirs = SentenceTransformer(str(minilm), device="cpu").eval()
    reference = made(theirs)
    expected = reference([theirs.preprocess(QUERIES), theirs.preprocess(ANSWERS)], None)
    backward(expected)
    torch.testing.assert_close(step.loss, expected, rtol=1e-5, atol=1e-6)
    wanted = {tuple(p.shape): p.grad for p in theirs.parameters() if p.grad is not None}
    found = {tuple(p.shape): p.grad for p in encoder.model.parameters() if p.grad is not None}
    for shape, gradient in wanted.items():
        assert gradient is not None
        largest = float(gradient.abs().max())
        torch.testing.assert_close(found[shape], gradient, rtol=1e-4, atol=1e-4 * largest)


def test_a_real_model_that_guides_itself_drops_only_what_is_strictly_nearer(minilm: Path) -> None:
    """Two rows share a positive, as near to the anchor as its own: it stays a candidate."""
    encoder = DenseEncoder(minilm, device="cpu")
    anchors, positives = (
        torch.from_numpy(encoder.encode(texts)) for texts in (QUERIES, [ANSWERS[0], *ANSWERS[:5]])
    )
    cosines = F.normalize(anchors) @ F.normalize(positives).T
    dropped = cosines > cosines.diagonal()[:, None]
    assert dropped.any()
    assert not dropped[0, 1]
    expected = F.cross_entropy(cosines.masked_fill(dropped, -torch.inf) / 0.01, torch.arange(6))
    loss = GISTEmbedLoss(contrast_anchors=False, contrast_positives=False)
    value = loss(LossInputs.of(anchors, positives, guide=(anchors, positives)))
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.requires_gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_dropout_of_a_gpu_is_replayed() -> None:
    model, loss = Encoder(dropout=0.3).cuda(), MultipleNegativesRankingLoss()
    columns = [
        TensorRows({name: tensor.cuda() for name, tensor in texts(9, seed).features.items()})
        for seed in range(2)
    ]
    limits = MiniBatches(4)
    torch.manual_seed(5)
    plain = same_mini_batches(model, columns, loss, None, limits)
    backward(plain)
    expected = gradients(model)
    torch.manual_seed(5)
    cached = cached_step(lambda _, part: model(part), columns, loss, limits=limits)
    backward(cached.loss)
    torch.testing.assert_close(cached.loss, plain, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradients(model), expected, rtol=1e-7, atol=1e-9)
