"""The greatest products of queries with many rows: candidates for an exact search.

Matrix products come from torch, whose kernels are several times those of FAISS on a CPU. Keys are
float32 as they come; who ranks by them scores what was found again. Shapes: Q queries, N rows,
D width, C candidates, G groups of a tile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

QUERY_TILE = 128
CORPUS_TILE = 32768
GROUP = 64


def are_plain() -> bool:
    """Say whether torch multiplies float32 as float32, not as shorter numbers."""
    return torch.get_float32_matmul_precision() == "highest"


def greatest_products(queries_QD: Floats, rows_ND: Floats, count: int) -> tuple[Floats, Rows]:
    """Return keys and rows, both [Q, C], of the `count` greatest products, in no order.

    No row that is left out has a greater key than those returned. Memory beside the result is some
    tens of megabytes.

    Args:
        queries_QD: queries.
        rows_ND: rows, at least `count` of them.
        count: candidates C a query.
    """
    queries, rows = torch.from_numpy(queries_QD), torch.from_numpy(rows_ND)
    keys = np.empty((len(queries), count), np.float32)
    found = np.empty((len(queries), count), np.int64)
    for start in range(0, len(queries), QUERY_TILE):
        part = slice(start, start + QUERY_TILE)
        values, places = _greatest(queries[part], rows, count)
        keys[part], found[part] = values.numpy(), places.numpy()
    return keys, found


def _greatest(queries_QD: Tensor, rows_ND: Tensor, count: int) -> tuple[Tensor, Tensor]:
    tile = min(CORPUS_TILE, len(rows_ND))
    room: Any = torch.empty(len(queries_QD) * tile)
    parts = []
    for first in range(0, len(rows_ND), tile):
        block = rows_ND[first : first + tile]
        products = room[: len(queries_QD) * len(block)].view(len(queries_QD), len(block))
        torch.mm(queries_QD, block.T, out=products)
        values, columns = _greatest_of(products, min(count, len(block)))
        parts.append((values, columns + first))
    values, places = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    if len(parts) == 1:
        return values, places
    values, at = values.topk(count, dim=1, sorted=False)
    return values, places.gather(1, at)


def _greatest_of(products: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the greatest of a tile: they stand in the groups whose own greatest are greatest."""
    width = products.shape[1]
    groups = width // GROUP
    if groups <= 2 * count:
        return products.topk(count, dim=1, sorted=False)
    whole = groups * GROUP
    tops = products[:, :whole].view(len(products), groups, GROUP).amax(dim=2)
    chosen = tops.topk(count, dim=1, sorted=False).indices
    columns = (chosen[:, :, None] * GROUP + torch.arange(GROUP)).flatten(1)
    rest = torch.arange(whole, width).expand(len(products), -1)
    columns = torch.cat([columns, rest], dim=1)
    values, at = products.gather(1, columns).topk(count, dim=1, sorted=False)
    return values, columns.gather(1, at)
