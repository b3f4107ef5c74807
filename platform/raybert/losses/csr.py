"""Contrastive sparse representation: a sparse auto-encoder over dense embeddings.

Shapes: N rows, D width of the dense embedding, H width of the sparse one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from raybert.losses.loss import CompoundLoss, Loss, LossInputs, Terms
from raybert.losses.sparse_forms import SparseMultipleNegativesRankingLoss

BACKBONE = "sentence_embedding_backbone"
"""Detail: the dense embedding [N, D] that is reconstructed."""
DECODED_K = "decoded_embedding_k"
"""Detail: its reconstruction [N, D] from the k largest activations."""
DECODED_4K = "decoded_embedding_4k"
"""Detail: its reconstruction [N, D] from the 4 k largest activations."""
DECODED_AUX = "decoded_embedding_aux"
"""Detail, may be missing: what dead activations make of the residual, [N, D]."""
DECODED_K_PRE_BIAS = "decoded_embedding_k_pre_bias"
"""Detail: the reconstruction from k before the bias is added, [N, D]."""


class CSRReconstructionLoss(CompoundLoss):
    """How well a sparse auto-encoder rebuilds the dense embedding, mean over columns.

    `MSE(x, x_k) + MSE(x, x_4k) / 8 + beta NMSE(x_aux, x - x_k)`, the last against what the k
    activations leave over, so that dead ones wake up. arXiv:2503.01776.

    Args:
        beta: factor of the last term.

    Prefer:
        As part of CSRLoss; alone it keeps the dense space and learns no ranking.
    """

    columns = ("text", "text*")
    in_batch = True

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = beta

    def terms(self, inputs: LossInputs, labels: Tensor | None = None) -> Terms:
        """Return the terms `reconstruction_k`, `_4k` and `_aux`; labels are not used."""
        dense = inputs.detail(BACKBONE)
        by_k = _mean([_mse(x, y) for x, y in _pairs(dense, inputs.detail(DECODED_K))])
        by_4k = _mean([_mse(x, y) for x, y in _pairs(dense, inputs.detail(DECODED_4K))])
        terms = {"reconstruction_k": by_k, "reconstruction_4k": by_4k / 8}
        if DECODED_AUX in inputs.details:
            plain = inputs.detail(DECODED_K_PRE_BIAS)
            residuals = [x - k.detach() for x, k in _pairs(dense, plain)]
            aux = _pairs(inputs.detail(DECODED_AUX), residuals)
            terms["reconstruction_aux"] = self.beta * _mean([normalized_mse(*pair) for pair in aux])
        return terms


class CSRLoss(CompoundLoss):
    """Sparse auto-encoder plus a ranking loss on its activations (CSR).

    `MSE(x, x_k) + MSE(x, x_4k) / 8 + beta NMSE(aux) + gamma L`, arXiv:2503.01776. The dense
    embedding and its reconstructions come as details, see this module's constants.

    Args:
        loss: L, over sparse embeddings; SparseMultipleNegativesRankingLoss by default.
        beta: factor of the auxiliary term.
        gamma: factor of L.

    Prefer:
        To make a good dense model's embeddings sparse without training the model itself.
        SpladeLoss for a sparse model over a vocabulary, with terms people can read.
    """

    in_batch = True

    def __init__(self, loss: Loss | None = None, beta: float = 0.1, gamma: float = 1.0) -> None:
        super().__init__()
        self.loss = loss or SparseMultipleNegativesRankingLoss()
        self.gamma = gamma
        self.reconstruction = CSRReconstructionLoss(beta)
        self.follow(self.loss)
        self.in_batch, self.by_rows = True, False

    def terms(self, inputs: LossInputs, labels: Tensor | None = None) -> Terms:
        """Return the reconstruction's terms and those of L."""
        terms = self.reconstruction.terms(inputs)
        for name, term in self.loss.terms(inputs, labels).items():
            terms[name] = self.gamma * term
        return terms

    def at_step(self, step: int, total_steps: int) -> None:
        """Pass the step on."""
        self.loss.at_step(step, total_steps)


def normalized_mse(reconstruction_ND: Tensor, target_ND: Tensor) -> Tensor:
    """Return the squared error over the target's own variance (1 if all its rows are equal)."""
    spread = _mse(target_ND.mean(dim=0).expand_as(target_ND), target_ND)
    constant = (spread == 0) | (target_ND == target_ND[:1]).all()
    return _mse(reconstruction_ND, target_ND) / torch.where(constant, 1.0, spread)


def _mse(left: Tensor, right: Tensor) -> Tensor:
    return F.mse_loss(left, right)


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean()


def _pairs(left: Sequence[Tensor], right: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    return list(zip(left, right, strict=True))
