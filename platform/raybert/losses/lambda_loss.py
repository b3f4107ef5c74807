"""LambdaLoss: pairs of a query's documents, weighted by what they mean for nDCG.

Shapes: Q queries, L documents of the longest list; lists are sorted by logit, best first.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from raybert.errors import SettingsError
from raybert.losses.listwise import ListLoss
from raybert.losses.loss import one_of, positive
from raybert.losses.reranking import Activation

Weighting = Callable[[Tensor, Tensor], Tensor]
"""Weights [Q, L, L] (or what broadcasts to it) of pairs, from gain [Q, L] and discount [L]."""


def _none(gain_QL: Tensor, discount_L: Tensor) -> Tensor:
    return gain_QL.new_ones(1)


def _ndcg1(gain_QL: Tensor, discount_L: Tensor) -> Tensor:
    return (gain_QL / discount_L)[:, :, None]


def _ndcg2(gain_QL: Tensor, discount_L: Tensor) -> Tensor:
    """Weigh a pair by its gap in gain and by the discounts its distance in rank stands for."""
    places = torch.arange(len(discount_L), device=discount_L.device)
    apart_LL = (places[:, None] - places[None, :]).abs()
    inverse = discount_L.reciprocal()
    steps_LL = (inverse[apart_LL - 1] - inverse[apart_LL]).abs().masked_fill(apart_LL == 0, 0.0)
    return steps_LL * _gaps(gain_QL)


def _lambda_rank(gain_QL: Tensor, discount_L: Tensor) -> Tensor:
    inverse = discount_L.reciprocal()
    return (inverse[:, None] - inverse[None, :]).abs() * _gaps(gain_QL)


def _ndcg2pp(gain_QL: Tensor, discount_L: Tensor) -> Tensor:
    return 10 * _ndcg2(gain_QL, discount_L) + _lambda_rank(gain_QL, discount_L)


def _gaps(gain_QL: Tensor) -> Tensor:
    return (gain_QL[:, :, None] - gain_QL[:, None, :]).abs()


WEIGHTINGS: dict[str, Weighting] = {
    "NoWeighting": _none,
    "NDCGLoss1": _ndcg1,
    "NDCGLoss2": _ndcg2,
    "LambdaRank": _lambda_rank,
    "NDCGLoss2PP": _ndcg2pp,
}
"""Weightings of `LambdaLoss` by name; the last is 10 times NDCGLoss2 plus LambdaRank."""


class LambdaLoss(ListLoss):
    """Orders a list so that nDCG grows, pair by pair (LambdaLoss).

    `-mean w_ij log2 sigmoid(sigma (x_i - x_j))` over pairs with `y_i > y_j`, one of them among the
    first k; w_ij from gains `(2^y - 1) / maxDCG@k` and the discounts `log2(1 + rank)` of the
    model's own order. doi:10.1145/3269206.3271784. (NDCGLoss1 takes all pairs.)

    Args:
        weighting_scheme: one of `WEIGHTINGS`.
        k: how deep nDCG looks; None takes the whole list.
        sigma: steepness of the sigmoid.
        eps: least maxDCG.
        reduction_log: `binary` (log2) or `natural`.
        activation_fn: applied to the logits first; none.

    Prefer:
        For labelled lists of ten documents and more: mostly the best reranker. With one positive
        a query and many negatives BinaryCrossEntropyLoss does about as well.
    """

    in_batch = True

    def __init__(
        self,
        weighting_scheme: str | None = "NDCGLoss2PP",
        k: int | None = None,
        sigma: float = 1.0,
        eps: float = 1e-10,
        reduction_log: str = "binary",
        activation_fn: Activation | None = None,
    ) -> None:
        super().__init__(activation_fn)
        if k is not None and k < 1:
            raise SettingsError(f"k {k}: at least 1, or none for the whole list")
        self.weighting_scheme = one_of(
            "weighting_scheme", weighting_scheme or "NoWeighting", list(WEIGHTINGS)
        )
        self.k = k
        self.sigma = positive("sigma", sigma)
        self.eps = eps
        self.reduction_log = one_of("reduction_log", reduction_log, ("binary", "natural"))

    def over(self, logits_QL: Tensor, labels_QL: Tensor, present_QL: Tensor) -> Tensor:
        """Return the mean over the pairs that count, of all queries; 0 without any."""
        logits_QL, order = logits_QL.sort(descending=True, dim=1)
        known = labels_QL.masked_fill(~present_QL, -torch.inf)
        relevance_QL = known.gather(1, order)
        differences = relevance_QL[:, :, None] - relevance_QL[:, None, :]
        counted = differences.isfinite() & self._near_top(logits_QL.shape[1], logits_QL.device)
        if self.weighting_scheme != "NDCGLoss1":
            counted = counted & (differences > 0)
        weights = WEIGHTINGS[self.weighting_scheme](*self._gains(relevance_QL, known))
        gaps = (logits_QL[:, :, None] - logits_QL[:, None, :]).clamp(min=-1e8, max=1e8)
        costs = -(weights * F.logsigmoid(self.sigma * gaps))[counted]
        base = math.log(2) if self.reduction_log == "binary" else 1.0
        return costs.sum() / base / max(costs.numel(), 1)

    def _near_top(self, length: int, device: torch.device) -> Tensor:
        """Return which pairs of ranks [L, L] have one among the first k."""
        top = torch.arange(length, device=device) < (self.k or length)
        return top[:, None] | top[None, :]

    def _gains(self, relevance_QL: Tensor, labels_QL: Tensor) -> tuple[Tensor, Tensor]:
        """Return gains [Q, L] in the model's order, over the best possible DCG, and discounts."""
        ranks = torch.arange(relevance_QL.shape[1], device=relevance_QL.device)
        discount_L = torch.log2(2.0 + ranks)
        ideal = labels_QL.sort(descending=True, dim=1).values.clamp_min(0)
        best_Q1 = ((ideal.exp2() - 1) / discount_L)[:, : self.k].sum(dim=1, keepdim=True)
        return (relevance_QL.clamp_min(0).exp2() - 1) / best_Q1.clamp_min(self.eps), discount_L


class RankNetLoss(LambdaLoss):
    """Orders all pairs of a list alike: LambdaLoss without weights (RankNet, Burges et al. 2005).

    Args:
        k: pairs with one document among the model's first k; None takes all.
        sigma: steepness of the sigmoid.
        eps: has no effect without weights.
        reduction_log: `binary` (log2) or `natural`.
        activation_fn: applied to the logits first; none.

    Prefer:
        LambdaLoss, unless every pair of the list is equally important.
    """

    def __init__(
        self,
        k: int | None = None,
        sigma: float = 1.0,
        eps: float = 1e-10,
        reduction_log: str = "binary",
        activation_fn: Activation | None = None,
    ) -> None:
        super().__init__("NoWeighting", k, sigma, eps, reduction_log, activation_fn)
