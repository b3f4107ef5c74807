"""Choosing what runs a model by measuring it on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from raybert.errors import ModelError
from raybert.modules import ModuleSequence, Text, Transformer, locate_model, read_checkpoint
from raybert.modules.backends import (
    TORCH,
    TORCH_INT8,
    TORCH_UNPADDED,
    Runner,
    available_backends,
)
from raybert.modules.unpadded import HALVES

if TYPE_CHECKING:
    from raybert.encoders.base import Encoder

_WORDS = "the quick brown fox jumps over a lazy dog while seven old wizards watch from the hill "
_REPEATS = (1, 1, 2, 2, 3, 3, 4, 6, 8, 12)
"""How often the words stand in each text of the probe: texts of 15 to 200 tokens."""
_ROUNDS = 3


def fastest_backend(model: str | Path, open_with: Callable[[str], Encoder]) -> str:
    """Return the name of the back end that runs a model fastest here, torch if it is the only one.

    What was exported was held to its floor of accuracy then; speed alone decides now. A stack that
    torch does not pack in eight bits is no candidate in these.

    Args:
        model: the model's folder or name.
        open_with: opens it with a back end.
    """
    names = available_backends(read_checkpoint(locate_model(model)).transformer)
    if names == [TORCH]:
        return TORCH
    seconds = {}
    for name in names:
        try:
            seconds[name] = seconds_of(open_with(name))
        except ModelError:
            if name != TORCH_INT8:
                raise
    return min(seconds, key=seconds.__getitem__)


def seconds_of(encoder: Encoder) -> float:
    """Return the least seconds that a small set of texts takes, of a few rounds after the first."""
    texts: list[Text] = [_WORDS * count for count in _REPEATS]
    if "rerank" in encoder.capabilities:
        texts = [(_WORDS, text) for text in texts if isinstance(text, str)]
    tokens = encoder.pre(texts)
    taken = []
    for _ in range(_ROUNDS + 1):
        started = time.perf_counter()
        for _ in encoder.run_batches(encoder.core, tokens):
            continue
        taken.append(time.perf_counter() - started)
    return min(taken[1:])


def check_backend(
    backend: str, model: ModuleSequence, dtype: torch.dtype, device: torch.device
) -> None:
    """Refuse a back end that would not run anything of a model, or not in its own format.

    Raises:
        ModelError: device or format are not those of the back end, or there is no transformer.
    """
    if backend == TORCH:
        return
    if backend == TORCH_UNPADDED:
        if device.type != "cuda" or dtype not in HALVES:
            raise ModelError(
                f"backend {backend!r} computes on a GPU in bfloat16 or float16, not on "
                f"{str(device)!r} in {str(dtype).removeprefix('torch.')}"
            )
        return
    if device.type != "cpu" or dtype != torch.float32:
        raise ModelError(
            f"backend {backend!r} computes on the CPU from float32; "
            f"device {str(device)!r} and dtype {str(dtype).removeprefix('torch.')} are for torch"
        )
    wanted = Transformer if backend == TORCH_INT8 else Runner
    if not any(isinstance(part, wanted) for part in model.modules()):
        raise ModelError(f"backend {backend!r}: the model has no transformer that it could run")
