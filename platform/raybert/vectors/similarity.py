"""Similarity of embeddings: four functions, each as a matrix and pair by pair.

Higher is always more similar; the two distances are therefore negative. Shapes: A and B rows,
D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn import functional as F

from raybert.errors import InputError

Vectors: TypeAlias = Tensor | np.ndarray[Any, Any] | Sequence[Any]
"""Rows of vectors as a tensor (dense or sparse), an array, or lists; one vector is one row."""
Matrix: TypeAlias = Callable[[Vectors, Vectors], Tensor]


class Similarity(NamedTuple):
    """One similarity, both ways: `matrix` [A, D] x [B, D] -> [A, B], `pairwise` -> [A]."""

    matrix: Matrix
    pairwise: Matrix


def as_vectors(vectors: Vectors) -> Tensor:
    """Return `vectors` as a tensor [A, D]; anything narrower than float32 becomes float32.

    Raises:
        InputError: not numbers, ragged, or more than two dimensions.
    """
    tensor = _as_tensor(vectors)
    if tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.float()
    if tensor.ndim == 1:
        tensor = tensor.unsqueeze(0)
    if tensor.ndim != 2:
        raise InputError(f"vectors of shape {tuple(tensor.shape)}: one or two dimensions allowed")
    return tensor


def cos_sim(a: Vectors, b: Vectors) -> Tensor:
    """Cosine of every row of `a` with every row of `b`; a zero vector has cosine 0.

    Returns:
        Tensor [A, B], float32 or float64, in -1 to 1.
    """
    left, right = _both(a, b)
    return _product(_unit(left), _unit(right))


def dot_score(a: Vectors, b: Vectors) -> Tensor:
    """Dot product of every row of `a` with every row of `b`, as a tensor [A, B]."""
    return _product(*_both(a, b))


def euclidean_sim(a: Vectors, b: Vectors) -> Tensor:
    """Negative Euclidean distance of every row of `a` to every row of `b`, [A, B].

    Computed from differences, not from norms and products, so equal rows are exactly 0 apart.
    """
    left, right = (_dense(side) for side in _both(a, b))
    return -torch.cdist(left, right, p=2.0, compute_mode="donot_use_mm_for_euclid_dist")


def manhattan_sim(a: Vectors, b: Vectors) -> Tensor:
    """Negative Manhattan distance of every row of `a` to every row of `b`, [A, B]."""
    left, right = (_dense(side) for side in _both(a, b))
    return -torch.cdist(left, right, p=1.0)


def pairwise_cos_sim(a: Vectors, b: Vectors) -> Tensor:
    """Cosine of row i of `a` with row i of `b`, [A]; a zero vector has cosine 0."""
    left, right = _pairs(a, b)
    return _rowwise_product(_unit(left), _unit(right))


def pairwise_dot_score(a: Vectors, b: Vectors) -> Tensor:
    """Dot product of row i of `a` with row i of `b`, [A]."""
    return _rowwise_product(*_pairs(a, b))


def pairwise_euclidean_sim(a: Vectors, b: Vectors) -> Tensor:
    """Negative Euclidean distance of row i of `a` to row i of `b`, [A]."""
    left, right = _pairs(a, b)
    distances: Tensor = torch.linalg.vector_norm(_dense(left) - _dense(right), dim=-1)
    return -distances


def pairwise_manhattan_sim(a: Vectors, b: Vectors) -> Tensor:
    """Negative Manhattan distance of row i of `a` to row i of `b`, [A]."""
    left, right = _pairs(a, b)
    return -(_dense(left) - _dense(right)).abs().sum(dim=-1)


def pairwise_angle_sim(a: Vectors, b: Vectors) -> Tensor:
    """Angle similarity in the complex plane (AnglE, arXiv:2309.12871) of paired rows, [A].

    A row's first half is the real part and its second half the imaginary part of a complex
    vector; an odd width is padded with one zero. The result is |Re + Im| of the normalised
    quotient, summed over the width.
    """
    left, right = (_unit(_even(_dense(side))) for side in _pairs(a, b))
    real_a, imaginary_a = left.chunk(2, dim=-1)
    real_b, imaginary_b = right.chunk(2, dim=-1)
    turned = imaginary_a * real_b - real_a * imaginary_b
    return ((left * right).sum(dim=-1) + turned.sum(dim=-1)).abs()


SIMILARITIES: dict[str, Similarity] = {
    "cosine": Similarity(cos_sim, pairwise_cos_sim),
    "dot": Similarity(dot_score, pairwise_dot_score),
    "euclidean": Similarity(euclidean_sim, pairwise_euclidean_sim),
    "manhattan": Similarity(manhattan_sim, pairwise_manhattan_sim),
}
"""The similarities by the name a model folder gives them (`similarity_fn_name`)."""


def pick_similarity(name: str) -> Similarity:
    """Return the similarity called `name`.

    Raises:
        InputError: there is no such similarity; the message lists those there are.
    """
    if name not in SIMILARITIES:
        raise InputError(f"similarity {name!r}: allowed are {', '.join(SIMILARITIES)}")
    return SIMILARITIES[name]


def _as_tensor(vectors: Vectors) -> Tensor:
    if isinstance(vectors, Tensor):
        return vectors
    try:
        if isinstance(vectors, np.ndarray):
            return torch.from_numpy(np.require(vectors, requirements=["C", "W"]))
        if len(vectors) and all(isinstance(row, Tensor) for row in vectors):
            return torch.stack(list(vectors))
        return torch.from_numpy(np.asarray(vectors, dtype=np.float32))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"vectors must be numbers in rows of one width: {error}") from None


def compressed_rows(vectors: Tensor) -> csr_array:
    """Return a sparse tensor on the CPU, [A, D] and of a format that NumPy has, as SciPy's rows."""
    listed = _coo(vectors).coalesce()
    row, column = listed.indices().numpy()
    return csr_array((listed.values().numpy(), (row, column)), (len(vectors), vectors.shape[1]))


def _both(a: Vectors, b: Vectors) -> tuple[Tensor, Tensor]:
    """Bring both sides to one width, format and device (the first side's)."""
    left, right = as_vectors(a), as_vectors(b)
    if left.shape[1] != right.shape[1]:
        raise InputError(f"vectors {left.shape[1]} and {right.shape[1]} wide cannot be compared")
    dtype = torch.promote_types(left.dtype, right.dtype)
    return left.to(dtype), right.to(device=left.device, dtype=dtype)


def _pairs(a: Vectors, b: Vectors) -> tuple[Tensor, Tensor]:
    left, right = _both(a, b)
    if left.shape[0] != right.shape[0]:
        raise InputError(f"pairs need as many rows: {left.shape[0]} and {right.shape[0]} given")
    return left, right


def _is_sparse(vectors: Tensor) -> bool:
    return vectors.layout != torch.strided


def _dense(vectors: Tensor) -> Tensor:
    return vectors.to_dense() if _is_sparse(vectors) else vectors


def _unit(vectors: Tensor) -> Tensor:
    """Scale each row to length 1; a zero row stays zero."""
    if not _is_sparse(vectors):
        return F.normalize(vectors, p=2.0, dim=-1)
    coordinates = _coo(vectors).coalesce()
    rows, values = coordinates.indices()[0], coordinates.values()
    squares = values.new_zeros(vectors.shape[0]).index_add(0, rows, values**2)
    scaled = values / squares.sqrt().clamp_min(1e-12)[rows]
    scaled_rows = torch.sparse_coo_tensor(
        coordinates.indices(), scaled, coordinates.shape, check_invariants=False
    )
    return scaled_rows.coalesce()


def _coo(vectors: Tensor) -> Tensor:
    coordinates: Tensor = vectors.to_sparse_coo()  # type: ignore[no-untyped-call]
    return coordinates


def _product(left: Tensor, right: Tensor) -> Tensor:
    sparse_product: Callable[[Tensor, Tensor], Tensor] = torch.sparse.mm
    if not _is_sparse(left) and not _is_sparse(right):
        return left @ right.T
    if _is_sparse(right) and not _is_sparse(left):
        return sparse_product(_coo(right), left.T).T
    if not _is_sparse(right):
        return sparse_product(_coo(left), right.T)
    if left.device.type != "cpu" or left.requires_grad or right.requires_grad:
        return sparse_product(_coo(left), _coo(right).t()).to_dense()
    # SciPy's product of two sparse matrices takes a sixth of the time of torch's.
    return torch.from_numpy((compressed_rows(left) @ compressed_rows(right).T).toarray())


def _rowwise_product(left: Tensor, right: Tensor) -> Tensor:
    if _is_sparse(left) and _is_sparse(right):
        product: Tensor = torch.sparse.sum(_coo(left) * _coo(right), dim=1)
        return product.to_dense()
    return (_dense(left) * _dense(right)).sum(dim=-1)


def _even(vectors: Tensor) -> Tensor:
    return F.pad(vectors, (0, 1)) if vectors.shape[-1] % 2 else vectors
