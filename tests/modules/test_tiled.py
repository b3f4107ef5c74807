from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import transformers
from torch.nn import functional as F

from raybert.devices import set_threads, tiles_work
from raybert.modules import fused
from raybert.modules.fused import fuse_float32
from raybert.modules.packed import PackedLinear, float32_linear

pytestmark = pytest.mark.skipif(not tiles_work(), reason="this CPU has no AMX tiles")
GELU = ("gelu", "none")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    set_threads(1)
    yield
    set_threads(before)


def linear(width: int, outputs: int) -> torch.nn.Linear:
    torch.manual_seed(width + outputs)
    return torch.nn.Linear(width, outputs)


def exact(layer: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x.double(), layer.weight.double(), layer.bias.double())


@pytest.mark.parametrize(
    ("rows", "width", "outputs"),
    [
        (64, 32, 32),
        (65, 64, 96),
        (300, 384, 1536),
        (257, 1536, 384),
        (100, 96, 50),
        (1000, 384, 384),
    ],
)
@torch.no_grad()
def test_tiles_are_no_less_exact_than_float32(rows: int, width: int, outputs: int) -> None:
    layer, x = linear(width, outputs), torch.randn(rows, width) * 3
    residual, norm = torch.randn(rows, outputs), torch.nn.LayerNorm(outputs, eps=1e-12)
    norm.weight.uniform_(0.5, 2)
    norm.bias.normal_()
    tiled, packed, product = float32_linear(layer), PackedLinear(layer), exact(layer, x)
    found = tiled(x), tiled.activated(x, GELU), tiled.normed(x, residual, norm)
    usual = packed(x), packed.activated(x, GELU), packed.normed(x, residual, norm)
    expected = (
        product,
        F.gelu(product),
        F.layer_norm(
            product + residual, (outputs,), norm.weight.double(), norm.bias.double(), norm.eps
        ),
    )
    assert not torch.equal(found[0], usual[0])
    for ours, theirs, number in zip(found, usual, expected, strict=True):
        assert ours.shape == (rows, outputs)
        assert (ours - number).abs().max() < 2e-6 + 1.5 * (theirs - number).abs().max()


@torch.no_grad()
def test_parts_that_float32_holds_are_all_there() -> None:
    layer = linear(32, 32)
    layer.weight.copy_(torch.eye(32))
    layer.bias.zero_()
    x = torch.randn(64, 32) * torch.logspace(-20, 30, 32)
    assert torch.equal(float32_linear(layer)(x), x)


@torch.no_grad()
def test_a_row_without_number_stays_so_and_alone() -> None:
    layer, x = linear(64, 32), torch.randn(70, 64)
    x[3, 5], x[40, 0], x[69, 63] = torch.nan, torch.inf, -torch.inf
    for found in (float32_linear(layer)(x), float32_linear(layer).activated(x, GELU)):
        lacking = ~torch.isfinite(found).all(dim=1)
        assert lacking.nonzero().flatten().tolist() == [3, 40, 69]


@torch.no_grad()
def test_gelu_of_great_and_small_numbers() -> None:
    layer = linear(32, 32)
    layer.weight.copy_(torch.eye(32))
    layer.bias.zero_()
    x, usual = torch.linspace(-30, 30, 640 * 32).view(640, 32), PackedLinear(layer)
    found, expected = float32_linear(layer).activated(x, GELU), F.gelu(x.double())
    error = (found - expected).abs().max()
    assert error < 1.2 * (usual.activated(x, GELU) - expected).abs().max() < 2e-6
    assert found[0, 0] == 0
    assert found[-1, -1] == 30


@torch.no_grad()
def test_several_layers_side_by_side_and_other_activations() -> None:
    one, two, x = linear(64, 40), linear(64, 24), torch.randn(200, 64)
    both = float32_linear(one, two)
    torch.testing.assert_close(both(x), torch.cat([one(x), two(x)], dim=1), atol=2e-6, rtol=0)
    torch.testing.assert_close(
        both.activated(x, ("relu", ""))[:, :40], one(x).relu(), atol=2e-6, rtol=0
    )
    tanh = F.gelu(two(x), approximate="tanh")
    torch.testing.assert_close(both.activated(x, ("gelu", "tanh"))[:, 40:], tanh, atol=2e-6, rtol=0)


@torch.no_grad()
def test_few_rows_shared_batches_and_other_widths_are_left_to_onednn() -> None:
    layer, x = linear(64, 32), torch.randn(40, 64)
    tiled, packed = float32_linear(layer), PackedLinear(layer)
    assert torch.equal(tiled(x[:20]), packed(x[:20]))
    assert not torch.equal(tiled(x), packed(x))
    set_threads(2)
    assert torch.equal(tiled(x), packed(x))
    assert type(float32_linear(linear(48, 32))) is PackedLinear


@torch.no_grad()
def test_threads_side_by_side_do_not_disturb_each_other() -> None:
    layer = linear(384, 384)
    tiled, texts = float32_linear(layer), [torch.randn(200, 384) for _ in range(40)]
    alone = [tiled(x) for x in texts]
    with ThreadPoolExecutor(4, initializer=torch.get_num_threads) as pool:
        beside = list(pool.map(tiled, texts))
    assert all(torch.equal(one, other) for one, other in zip(alone, beside, strict=True))


def modern_bert() -> transformers.ModernBertModel:
    torch.manual_seed(0)
    config = transformers.ModernBertConfig(
        vocab_size=60, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, pad_token_id=0,
    )  # fmt: skip
    return transformers.ModernBertModel(config).eval()


@torch.no_grad()
def test_a_stack_that_is_not_known_has_its_products_on_tiles() -> None:
    model, plain, ids = modern_bert(), modern_bert(), torch.randint(1, 60, (4, 20))
    fuse_float32(model, head=False)
    before = plain(input_ids=ids).last_hidden_state
    found = model(input_ids=ids).last_hidden_state
    assert not torch.equal(found, before)
    torch.testing.assert_close(found, before, atol=2e-6, rtol=0)
    few = model(input_ids=ids[:1]).last_hidden_state
    assert torch.equal(few, plain(input_ids=ids[:1]).last_hidden_state)
    model.layers[0].mlp.Wi.weight.mul_(2)
    plain.layers[0].mlp.Wi.weight.mul_(2)
    found = model(input_ids=ids).last_hidden_state
    torch.testing.assert_close(found, plain(input_ids=ids).last_hidden_state, atol=2e-6, rtol=0)
    twin = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    assert torch.equal(twin(input_ids=ids).last_hidden_state, found)


def test_a_stack_that_is_not_known_trains_as_before() -> None:
    model, plain, ids = modern_bert(), modern_bert(), torch.randint(1, 60, (4, 20))
    fuse_float32(model, head=False)
    for each in (model, plain):
        each(input_ids=ids).last_hidden_state.square().sum().backward()
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)


@torch.no_grad()
def test_a_great_stack_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "MOST_TILED_WEIGHTS", 1000)
    model, ids = modern_bert(), torch.randint(1, 60, (4, 20))
    before = model(input_ids=ids).last_hidden_state
    fuse_float32(model, head=False)
    assert torch.equal(model(input_ids=ids).last_hidden_state, before)
