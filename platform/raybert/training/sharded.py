"""Evaluation shared out: each rank encodes its part of the texts, and all ranks measure alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from scipy import sparse
from torch import Tensor

from raybert.encoders.base import Encoder
from raybert.errors import RaybertError
from raybert.training.gather import world_size
from raybert.training.ranks import gathered

SHARED = ("encode", "encode_query", "encode_document", "predict")
"""Methods whose first argument are the rows to share out."""


class ShardedEncoder:
    """Stands in for an encoder while an evaluator runs on every rank at once.

    Every rank calls the same methods with the same texts, encodes the part that is its own, and
    gets the whole result; what it has besides is the encoder's.

    Args:
        encoder: this rank's encoder, of the same weights as every other's.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._encoder, name)
        if name not in SHARED:
            return found

        def shared(rows: Any, *arguments: Any, **options: Any) -> Any:
            if isinstance(rows, str) or len(rows) < world_size():
                return found(rows, *arguments, **options)
            own = _own(rows)
            return _together(lambda: found(own, *arguments, **options))

        return shared


def sharded(encoder: Encoder) -> Any:
    """Return an encoder for an evaluator: shared out where there are several processes."""
    return encoder if world_size() == 1 else ShardedEncoder(encoder)


def _own(rows: Sequence[Any]) -> Sequence[Any]:
    """Return this rank's part of the rows: consecutive ones, as many as any other's, +-1."""
    rank, world = dist.get_rank(), world_size()
    return rows[len(rows) * rank // world : len(rows) * (rank + 1) // world]


def _together(work: Any) -> Any:
    """Do this rank's part, and return all parts joined; a fault of one is every rank's.

    Raises:
        RaybertError: what any rank's part raised.
    """
    try:
        part = work()
        part = part.cpu() if isinstance(part, Tensor) else part
    except RaybertError as error:
        part = error
    parts = gathered(part)
    faults = [each for each in parts if isinstance(each, RaybertError)]
    if faults:
        raise faults[0]
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    if isinstance(parts[0], list):
        return [row for each in parts for row in each]
    return sparse.vstack(parts) if sparse.issparse(parts[0]) else np.concatenate(parts)
