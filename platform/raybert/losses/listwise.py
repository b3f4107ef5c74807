"""Cross-encoder losses on a query's whole list of documents.

The one tensor is the logits of all (query, document) pairs, query by query: [P]. The labels are
[Q, L], a row a query in the same order, NaN where a query has fewer than L documents; see
`pad_labels`. Shapes: Q queries, L documents of the longest list, P pairs.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raybert.errors import InputError
from raybert.losses.loss import LabelKind, Loss, LossInputs, positive
from raybert.losses.reranking import Activation

_ABSENT = -1e16
"""Logit of a place without a document: sorts last and has no share in a softmax."""


def pad_labels(lists: Sequence[Sequence[float] | Tensor]) -> Tensor:
    """Return labels [Q, L] of lists of unequal length, filled up with NaN."""
    rows = [torch.as_tensor(each, dtype=torch.float32) for each in lists]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=torch.nan)


class ListLoss(Loss):
    """A loss over lists: puts logits and labels into [Q, L] and hands them on."""

    columns = ("query", "documents")
    joined = 1
    labels = LabelKind.LIST

    def __init__(self, activation_fn: Activation | None = None) -> None:
        super().__init__()
        self.activation_fn = activation_fn or nn.Identity()

    def forward(self, inputs: LossInputs, labels: Tensor | None = None) -> Tensor:
        """Return the loss; labels [Q, L] are relevances, NaN where there is no document."""
        (logits,) = self.take(inputs)
        if labels is None or labels.ndim != 2:
            raise InputError(f"{type(self).__name__} needs labels [queries, documents]")
        present = ~labels.isnan()
        if logits.numel() != int(present.sum()):
            raise InputError(
                f"{type(self).__name__}: {int(present.sum())} labels for {logits.numel()} logits "
                "of documents"
            )
        logits_P = self.activation_fn(logits.reshape(-1).float())
        places = torch.full(labels.shape, _ABSENT, device=logits.device)
        logits_QL = places.masked_scatter(present, logits_P)
        return self.over(logits_QL, labels.float(), present)

    @abstractmethod
    def over(self, logits_QL: Tensor, labels_QL: Tensor, present_QL: Tensor) -> Tensor:
        """Return the loss; absent places have the logit -1e16 and the label NaN."""


class ListNetLoss(ListLoss):
    """Draws the distribution over a list's documents to that of its labels.

    Cross-entropy of `softmax(labels)` and `softmax(logits)`, mean over queries, Cao et al. 2007.

    Args:
        activation_fn: applied to the logits first; none.

    Prefer:
        For graded labels with clear differences; LambdaLoss when the top of the list matters.
    """

    def over(self, logits_QL: Tensor, labels_QL: Tensor, present_QL: Tensor) -> Tensor:
        """Return the mean over queries."""
        targets = labels_QL.masked_fill(~present_QL, -torch.inf).softmax(dim=1)
        return F.cross_entropy(logits_QL, targets)


class PListMLELoss(ListLoss):
    """Likelihood of the right order, with more weight on its first places.

    `-sum_r w_r (x_r - logsumexp_{s >= r} x_s)`, w_r in proportion to `2^(n - r) - 1`, mean over
    queries. Lan et al. 2014.

    Args:
        lambda_weight: gives weights [Q, L] for the mask of present documents; the paper's by
            default, None weighs all places alike (ListMLE).
        activation_fn: applied to the logits first; none.
        respect_input_order: the documents stand in the right order already; else they are sorted
            by their labels.

    Prefer:
        When the order as such is known (an LLM's ranking) and the top matters most; LambdaLoss
        for graded labels.
    """

    def __init__(
        self,
        lambda_weight: Callable[[Tensor], Tensor] | None = None,
        activation_fn: Activation | None = None,
        respect_input_order: bool = True,
    ) -> None:
        super().__init__(activation_fn)
        self.lambda_weight = lambda_weight or place_weights
        self.respect_input_order = respect_input_order

    def over(self, logits_QL: Tensor, labels_QL: Tensor, present_QL: Tensor) -> Tensor:
        """Return the mean over queries."""
        if not self.respect_input_order:
            known = labels_QL.masked_fill(~present_QL, -torch.inf)
            order = known.sort(descending=True, dim=1).indices
            logits_QL = logits_QL.gather(1, order)
            present_QL = present_QL.gather(1, order)
        rest = logits_QL.flip(1).logcumsumexp(dim=1).flip(1)
        log_shares = (logits_QL - rest).masked_fill(~present_QL, 0.0)
        return -(log_shares * self._weights(present_QL)).sum(dim=1).mean()

    def _weights(self, present_QL: Tensor) -> Tensor:
        weights = self.lambda_weight(present_QL)
        return weights / (weights.sum(dim=1, keepdim=True) + 1e-10)


class ListMLELoss(PListMLELoss):
    """Likelihood of the right order under the Plackett-Luce model.

    `-sum_r (x_r - logsumexp_{s >= r} x_s)`, mean over queries. Xia et al. 2008,
    doi:10.1145/1390156.1390306.

    Args:
        activation_fn: applied to the logits first; none.
        respect_input_order: the documents stand in the right order already.

    Prefer:
        PListMLELoss, which spends less on the order of the last places.
    """

    def __init__(
        self, activation_fn: Activation | None = None, respect_input_order: bool = True
    ) -> None:
        super().__init__(None, activation_fn, respect_input_order)

    def _weights(self, present_QL: Tensor) -> Tensor:
        return present_QL.float()


class ADRMSELoss(ListLoss):
    """Squared distance of approximate ranks to the true ones, discounted by rank.

    `mean (r_i - r^_i)^2 / log2(1 + r_i)` over documents, `r^_i = 1/2 + sum_j sigmoid(alpha (x_j -
    x_i))`; equal labels share their mean rank. Rank-DistiLLM, doi:10.1007/978-3-031-88714-7_31.

    Args:
        alpha: steepness of the sigmoid.
        activation_fn: applied to the logits first; none.

    Prefer:
        For distilling rankings of LLMs; LambdaLoss for relevance labels.
    """

    in_batch = True

    def __init__(self, alpha: float = 1.0, activation_fn: Activation | None = None) -> None:
        super().__init__(activation_fn)
        self.alpha = positive("alpha", alpha)

    def over(self, logits_QL: Tensor, labels_QL: Tensor, present_QL: Tensor) -> Tensor:
        """Return the mean over all documents of all queries."""
        higher = labels_QL[:, None, :] > labels_QL[:, :, None]
        equal = labels_QL[:, None, :] == labels_QL[:, :, None]
        ranks = higher.sum(dim=2) + (equal.sum(dim=2) + 1) / 2
        wins = torch.sigmoid(self.alpha * (logits_QL[:, None, :] - logits_QL[:, :, None]))
        approximate = 0.5 + (wins * present_QL[:, None, :]).sum(dim=2)
        costs = (ranks - approximate).square() / torch.log2(ranks + 1)
        return costs.masked_fill(~present_QL, 0.0).sum() / present_QL.sum()


def place_weights(present_QL: Tensor) -> Tensor:
    """Return `2^(n - r) - 1` for place r of n, 0 where there is no document.

    Long lists are scaled down by a power of two, so that the first weight stays finite.
    """
    documents_Q1 = present_QL.sum(dim=1, keepdim=True)
    ranks = torch.arange(1, present_QL.shape[1] + 1, device=present_QL.device)
    down = (documents_Q1 - 127).clamp_min(0)
    two = torch.tensor(2.0, device=present_QL.device)
    return (two.pow(documents_Q1 - ranks - down) - two.pow(-down)) * present_QL
