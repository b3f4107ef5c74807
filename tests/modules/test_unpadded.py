"""A stack without its padding. FlashAttention needs a GPU: here each text attends by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F

from raybert import DenseEncoder
from raybert.errors import ModelError
from raybert.modules.stacks import find_stack
from raybert.modules.unpadded import UnpaddedForward, unpad

SIZE = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "vocab_size": 10}
IDS = torch.tensor([[2, 5, 6, 7, 3], [2, 8, 3, 1, 1], [1, 1, 2, 9, 3]])
MASK = (IDS != 1).long()


def one_by_one(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, longest: int) -> Tensor:
    """Stand in for FlashAttention: a text at a time."""
    assert longest >= int(bounds.diff().max())
    found = []
    for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        own_q, own_k, own_v = (each[start:stop].transpose(0, 1)[None] for each in (q, k, v))
        found.append(F.scaled_dot_product_attention(own_q, own_k, own_v)[0].transpose(0, 1))
    return torch.cat(found)


def hidden(model: torch.nn.Module, mask: Tensor | None) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(input_ids=IDS, attention_mask=mask).last_hidden_state
    return found


@pytest.mark.parametrize("mask", [MASK, None])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_real_tokens_are_the_same_without_padding(attention: str, mask: Tensor | None) -> None:
    torch.manual_seed(0)
    config = transformers.BertConfig(intermediate_size=64, pad_token_id=1, **SIZE)
    config._attn_implementation = attention
    model = transformers.BertModel(config).eval()
    before = hidden(model, mask)
    found = find_stack(model)
    assert found is not None
    stack, config, parts = found
    seen: list[int] = []

    def attend(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, longest: int) -> Tensor:
        seen.append(len(q))
        return one_by_one(q, k, v, bounds, longest)

    stack.forward = UnpaddedForward(stack, config, parts, device="cpu", attend=attend)
    after = hidden(model, mask)
    real = torch.ones_like(MASK).bool() if mask is None else MASK.bool()
    torch.testing.assert_close(after[real], before[real], atol=2e-6, rtol=0)
    assert seen == [int(real.sum())] * 2
    assert not after[~real].any()
    stack.forward.device = "cuda"
    torch.testing.assert_close(hidden(model, mask), before, atol=0, rtol=0)


def test_what_cannot_be_unpadded_is_refused(minilm: Path) -> None:
    config = transformers.MPNetConfig(intermediate_size=64, **SIZE)
    with pytest.raises(ModelError, match=r"it: torch:unpadded is for BERT-like stacks without rel"):
        unpad(transformers.MPNetModel(config), "it")
    with pytest.raises(ModelError, match=r"on a GPU in bfloat16 or float16, not on 'cpu' in float"):
        DenseEncoder(minilm, device="cpu", backend="torch:unpadded")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_flash_attention_on_a_gpu(minilm: Path) -> None:
    texts = ["one", "a somewhat longer sentence about trains", "word " * 300]
    padded = DenseEncoder(minilm, device="cuda", dtype="float32").encode(texts)
    encoder = DenseEncoder(minilm, device="cuda", dtype="bfloat16", backend="torch:unpadded")
    cosines = (padded * encoder.encode(texts)).sum(axis=1)
    assert cosines.min() > 0.999
