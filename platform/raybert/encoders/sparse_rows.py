"""Sparse embeddings as compressed rows and as tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from raybert.errors import InputError
from raybert.vectors.similarity import compressed_rows


def strongest(weights_BV: Tensor, limit: int) -> Tensor:
    """Keep the `limit` weights of each row that are largest by absolute value."""
    if limit >= weights_BV.shape[-1]:
        return weights_BV
    places = weights_BV.abs().topk(limit, dim=-1).indices
    return torch.zeros_like(weights_BV).scatter(-1, places, weights_BV.gather(-1, places))


def compressed(weights_BV: Tensor) -> sparse.csr_array:
    """Return dense weights on any device as float32 compressed rows on the CPU."""
    rows, columns = weights_BV.nonzero(as_tuple=True)
    values = weights_BV[rows, columns].float().cpu().numpy()
    counts = torch.bincount(rows, minlength=len(weights_BV)).cpu().numpy()
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    places = columns.to(torch.int32).cpu().numpy()
    return sparse.csr_array((values, places, starts), shape=_two(weights_BV.shape))


def as_tensor(rows: sparse.csr_array) -> Tensor:
    """Return compressed rows as a sparse (COO) tensor."""
    listed = rows.tocoo()
    places = torch.from_numpy(np.stack(listed.coords).astype(np.int64))
    values = torch.from_numpy(np.ascontiguousarray(listed.data))
    made = torch.sparse_coo_tensor(places, values, listed.shape, check_invariants=False)
    return made.coalesce()


def as_rows(embeddings: Any) -> tuple[sparse.csr_array, bool]:
    """Return sparse embeddings of any form as compressed rows, and whether it was one [V].

    Raises:
        InputError: neither a tensor, an array nor a sparse matrix of one or two dimensions.
    """
    single = getattr(embeddings, "ndim", 0) == 1
    if isinstance(embeddings, Tensor):
        embeddings = embeddings.unsqueeze(0) if single else embeddings
        rows = _rows_of(embeddings.cpu()) if embeddings.ndim == 2 else None
    elif isinstance(embeddings, np.ndarray) or sparse.issparse(embeddings):
        matrix: Any = embeddings
        rows = sparse.csr_array(matrix.reshape(1, -1) if single else matrix)
    else:
        rows = None
    if rows is None:
        said = getattr(embeddings, "shape", type(embeddings).__name__)
        raise InputError(f"sparse embeddings of {said}: [V] or [N, V] is expected")
    rows.eliminate_zeros()
    return rows, single


def _rows_of(tensor: Tensor) -> sparse.csr_array:
    """Return a two-dimensional tensor as compressed rows."""
    if not tensor.is_sparse:
        return sparse.csr_array(tensor.float().numpy())
    return compressed_rows(tensor.float())


def _two(shape: torch.Size) -> tuple[int, int]:
    """Return the shape of a matrix."""
    return shape[0], shape[1]
