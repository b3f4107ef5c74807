"""Losses that make embeddings sparse: FLOPS, and SPLADE's sum with its weight schedule.

Shapes: N rows, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from raybert.errors import SettingsError
from raybert.losses.loss import CompoundLoss, Loss, LossInputs, Terms, one_of

SCHEDULES = ("quadratic", "linear")


class FlopsLoss(Loss):
    """Expected multiplications of a search over the embeddings: `sum_j (mean_i |x_ij|)^2`.

    arXiv:2004.05665. SPLADE's weights are not negative, so no absolute value is taken.

    Args:
        threshold: rows with at most so many active dimensions count as empty (the mean still is
            over all rows), so that short texts are not thinned out further.

    Prefer:
        As the regularizer inside SpladeLoss; alone it drives all weights to zero.
    """

    columns = ("text", "text*")
    in_batch = True

    def __init__(self, threshold: int | None = None) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, inputs: LossInputs, labels: Tensor | None = None) -> Tensor:
        """Return the FLOPS of all columns' rows together; labels are not used."""
        rows_NV = torch.cat(self.take(inputs))
        if self.threshold is not None:
            active = (rows_NV != 0).sum(dim=1, keepdim=True)
            rows_NV = rows_NV * (active > self.threshold)
        return rows_NV.mean(dim=0).square().sum()


class SpladeLoss(CompoundLoss):
    """A loss plus FLOPS of documents and queries, with weights that grow at the start (SPLADE).

    `L + w_d FLOPS(documents) + w_q FLOPS(queries)`, queries being the first column,
    arXiv:2205.04733. `at_step` sets the weights: over the first `warmup_ratio` of the steps they
    grow from 0, by the square of the share or linearly; without it they stand in full.

    Args:
        loss: a loss over sparse embeddings, such as SparseMultipleNegativesRankingLoss.
        document_regularizer_weight: w_d, about 3e-5 for dot products over a BERT vocabulary.
        query_regularizer_weight: w_q, about 5e-5; None leaves the queries alone, as an
            inference-free query side needs.
        document_regularizer: instead of FLOPS, any loss over columns.
        query_regularizer: the same for queries.
        document_regularizer_threshold: of FLOPS, see FlopsLoss.
        query_regularizer_threshold: of FLOPS, see FlopsLoss.
        use_document_regularizer_only: all columns are documents, the first too.
        scheduler_type: `quadratic` or `linear`.
        warmup_ratio: share of the steps over which the weights grow, above 0 and at most 1.

    Prefer:
        For every SPLADE model, around MNRL without a teacher, around SparseMarginMSELoss or
        SparseDistillKLDivLoss with one. CSRLoss makes a dense model's embeddings sparse instead.
    """

    in_batch = True

    def __init__(
        self,
        loss: Loss,
        document_regularizer_weight: float,
        query_regularizer_weight: float | None = None,
        document_regularizer: Loss | None = None,
        query_regularizer: Loss | None = None,
        document_regularizer_threshold: int | None = None,
        query_regularizer_threshold: int | None = None,
        use_document_regularizer_only: bool = False,
        scheduler_type: str = "quadratic",
        warmup_ratio: float = 1 / 3,
    ) -> None:
        super().__init__()
        if not 0 < warmup_ratio <= 1:
            raise SettingsError(f"warmup_ratio {warmup_ratio!r}: above 0 and at most 1 is needed")
        if use_document_regularizer_only and query_regularizer_weight is not None:
            raise SettingsError(
                "query_regularizer_weight: leave it out with use_document_regularizer_only, "
                "all columns are documents then"
            )
        self.loss = loss
        self.weights = (document_regularizer_weight, query_regularizer_weight)
        self.document_regularizer_weight: float = document_regularizer_weight
        self.query_regularizer_weight = query_regularizer_weight
        self.document_regularizer = document_regularizer or FlopsLoss(
            document_regularizer_threshold
        )
        self.query_regularizer = query_regularizer or FlopsLoss(query_regularizer_threshold)
        self.use_document_regularizer_only = use_document_regularizer_only
        self.scheduler_type = one_of("scheduler_type", scheduler_type, SCHEDULES)
        self.warmup_ratio = warmup_ratio
        self.follow(loss)
        self.in_batch, self.by_rows = True, False

    def terms(self, inputs: LossInputs, labels: Tensor | None = None) -> Terms:
        """Return the base loss's terms and the weighted regularizers."""
        columns = inputs.columns
        terms = dict(self.loss.terms(inputs, labels))
        documents = columns if self.use_document_regularizer_only else columns[1:]
        if documents:
            flops = self.document_regularizer(inputs.with_columns(documents))
            terms["document_regularizer"] = flops * self.document_regularizer_weight
        if self.query_regularizer_weight is not None:
            flops = self.query_regularizer(inputs.with_columns(columns[:1]))
            terms["query_regularizer"] = flops * self.query_regularizer_weight
        return terms

    def at_step(self, step: int, total_steps: int) -> None:
        """Set the weights of optimizer step `step`, from 0, of `total_steps`."""
        share = regularizer_share(step, total_steps, self.warmup_ratio, self.scheduler_type)
        documents, queries = self.weights
        self.document_regularizer_weight = documents * share
        self.query_regularizer_weight = None if queries is None else queries * share
        self.loss.at_step(step, total_steps)


def regularizer_share(
    step: int, total_steps: int, warmup_ratio: float = 1 / 3, scheduler_type: str = "quadratic"
) -> float:
    """Return the share of the full weight at a step, 0 to 1.

    The warm-up lasts `int(total_steps * warmup_ratio)` steps, one at least.
    """
    warmup = max(int(total_steps * warmup_ratio), 1)
    share = min(step / warmup, 1.0)
    return share**2 if scheduler_type == "quadratic" else share
