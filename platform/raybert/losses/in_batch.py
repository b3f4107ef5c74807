"""Losses in which the other rows of a batch are the negatives.

Shapes: N rows of the batch, B own rows, M = N x document columns, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from raybert.errors import SettingsError
from raybert.losses.loss import GUIDE, LabelKind, Loss, LossInputs, one_of, positive
from raybert.vectors import pick_similarity

DIRECTIONS = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")
"""Which embeddings meet which in `MultipleNegativesRankingLoss`."""
HARDNESS_MODES = ("in_batch_negatives", "hard_negatives", "all_negatives")


class MultipleNegativesRankingLoss(Loss):
    """Tells each anchor's positive from all other documents of the batch (InfoNCE).

    `mean_i(log Z_i - scale s(a_i, p_i))`, Z_i the sum of `exp(scale s)` over the candidates of
    row i: every positive and negative of the batch, and with more directions the other anchors
    too. arXiv:1807.03748; four joint directions are GTE's loss (arXiv:2308.03281), two directions
    per direction are the symmetric loss (arXiv:2310.19923).

    Args:
        scale: inverse temperature, multiplies the similarity.
        similarity_fct: `cosine`, `dot`, `euclidean` or `manhattan`.
        directions: some of `DIRECTIONS`, `query_to_doc` among them.
        partition_mode: `joint` sums all directions in one Z, `per_direction` takes the mean of
            their log Z.
        hardness_mode: negatives whose logit gains `hardness_strength` times their own similarity
            (without gradient, unscaled): in_batch_negatives (all but the row's own documents),
            hard_negatives (the row's own negatives), all_negatives (all but its positive).
        hardness_strength: factor of that gain.

    Prefer:
        The first choice for search and for pairs without labels; batches without duplicates and
        mined negatives make it stronger. CachedMultipleNegativesRankingLoss is the same loss in
        cached steps. With many false negatives take GISTEmbedLoss; with scores CoSENTLoss.
    """

    columns = ("anchor", "positive", "negative*")
    in_batch = True
    by_rows = True

    def __init__(
        self,
        scale: float = 20.0,
        similarity_fct: str = "cosine",
        directions: Sequence[str] = ("query_to_doc",),
        partition_mode: str = "joint",
        hardness_mode: str | None = None,
        hardness_strength: float = 0.0,
    ) -> None:
        super().__init__()
        self.scale = positive("scale", scale)
        self.similarity_fct = similarity_fct
        self.matrix = pick_similarity(similarity_fct).matrix
        self.directions = _directions(directions, partition_mode)
        self.partition_mode = partition_mode
        if hardness_mode is not None:
            one_of("hardness_mode", hardness_mode, HARDNESS_MODES)
        if hardness_strength < 0:
            raise SettingsError(f"hardness_strength {hardness_strength!r}: below 0 not allowed")
        self.hardness_mode = hardness_mode
        self.hardness_strength = hardness_strength

    def forward(self, inputs: LossInputs, labels: Tensor | None = None) -> Tensor:
        """Return the mean over our own rows; labels are not used."""
        queries, *documents = self.take(inputs)
        rows = inputs.own_rows
        logits = self._logits(queries, documents, rows)
        own = logits["query_to_doc"].gather(1, rows[:, None]).squeeze(1)
        if self.partition_mode == "joint":
            log_z = torch.logsumexp(torch.cat(list(logits.values()), dim=1), dim=1)
        else:
            log_z = torch.stack([part.logsumexp(dim=1) for part in logits.values()]).mean(dim=0)
        return (log_z - own).mean()

    def _logits(
        self, queries: Tensor, documents: Sequence[Tensor], rows: Tensor
    ) -> dict[str, Tensor]:
        """Return the logits [B, M or N] of each direction; impossible candidates are -inf."""
        all_documents, positives = torch.cat(list(documents)), documents[0]
        same_row = rows[:, None] == torch.arange(len(queries), device=rows.device)
        similarity = self.matrix(queries[rows], all_documents)
        logits = {"query_to_doc": similarity * self.scale + self._gain(similarity, same_row)}
        if "query_to_query" in self.directions:
            scores = self.matrix(queries[rows], queries) * self.scale
            logits["query_to_query"] = scores.masked_fill(same_row, -torch.inf)
        if "doc_to_query" in self.directions:
            logits["doc_to_query"] = self.matrix(positives[rows], queries) * self.scale
        if "doc_to_doc" in self.directions:
            scores = self.matrix(positives[rows], all_documents) * self.scale
            logits["doc_to_doc"] = scores.masked_fill(
                same_row.repeat(1, len(documents)), -torch.inf
            )
        return logits

    def _gain(self, similarity_BM: Tensor, same_row_BN: Tensor) -> Tensor | float:
        """Return what hardness adds to the logits of `query_to_doc`."""
        if self.hardness_mode is None or self.hardness_strength == 0:
            return 0.0
        copies = similarity_BM.shape[1] // same_row_BN.shape[1]
        own_document_BM = same_row_BN.repeat(1, copies)
        own_positive_BM = F.pad(same_row_BN, (0, similarity_BM.shape[1] - same_row_BN.shape[1]))
        weighted = {
            "in_batch_negatives": ~own_document_BM,
            "hard_negatives": own_document_BM & ~own_positive_BM,
            "all_negatives": ~own_positive_BM,
        }[self.hardness_mode]
        return self.hardness_strength * similarity_BM.detach() * weighted


class GISTEmbedLoss(Loss):
    """In-batch negatives without those a guide model holds for positives (GISTEmbed).

    Cross-entropy over `[a-p, a-a, p-p, a-n] / temperature`; a candidate is dropped if the guide's
    similarity is above its similarity of the row's own pair, less the margin. The own positive
    always stays. arXiv:2402.16829. The guide's embeddings come as the detail `guide`.

    Args:
        temperature: divides the cosines.
        margin_strategy: `absolute` subtracts `margin`, `relative` that share of the pair's score.
        margin: how far below the guide's own pair a candidate must lie to stay.
        contrast_anchors: other anchors are candidates too.
        contrast_positives: other positives are candidates of the positive too.

    Prefer:
        When the batch holds many false negatives (short or overlapping topics) and a good guide
        model is at hand; it costs a second forward pass. Otherwise MultipleNegativesRankingLoss.
    """

    columns = ("anchor", "positive", "negative*")
    in_batch = True
    by_rows = True

    def __init__(
        self,
        temperature: float = 0.01,
        margin_strategy: str = "absolute",
        margin: float = 0.0,
        contrast_anchors: bool = True,
        contrast_positives: bool = True,
    ) -> None:
        super().__init__()
        self.temperature = positive("temperature", temperature)
        self.margin_strategy = one_of("margin_strategy", margin_strategy, ("absolute", "relative"))
        self.margin = margin
        self.contrast_anchors = contrast_anchors
        self.contrast_positives = contrast_positives

    def forward(self, inputs: LossInputs, labels: Tensor | None = None) -> Tensor:
        """Return the mean over our own rows; labels are not used."""
        columns, guides, rows = self.take(inputs), inputs.detail(GUIDE), inputs.own_rows
        pairs = [(0, 1)]
        pairs += [(0, 0)] if self.contrast_anchors else []
        pairs += [(1, 1)] if self.contrast_positives else []
        pairs += [(0, negative) for negative in range(2, len(columns))]
        guided_BN = [_exact_cosines(guides[left][rows], guides[right]) for left, right in pairs]
        limit_B1 = self._limit(guided_BN[0].gather(1, rows[:, None]))
        dropped_BN = [guided > limit_B1 for guided in guided_BN]
        dropped_BN[0] = dropped_BN[0].scatter(1, rows[:, None], False)
        logits_BN = [_cosines(columns[left][rows], columns[right]) for left, right in pairs]
        kept = [
            logits.masked_fill(dropped, -torch.inf)
            for logits, dropped in zip(logits_BN, dropped_BN, strict=True)
        ]
        return F.cross_entropy(torch.cat(kept, dim=1) / self.temperature, rows)

    def _limit(self, own_B1: Tensor) -> Tensor:
        """Return the guide's similarity above which a candidate is dropped."""
        if self.margin_strategy == "absolute":
            return own_B1 - self.margin
        return own_B1 - own_B1.abs() * self.margin


class MegaBatchMarginLoss(Loss):
    """Pushes the pair above one margin and its hardest negative of the batch below another.

    `mean relu(m_p - cos(a_i, p_i)) + relu(max_{j != i} cos(a_i, p_j) - m_n)`, Wieting and Gimpel
    2018 (ACL P18-1042).

    Args:
        positive_margin: m_p, the cosine a pair should reach.
        negative_margin: m_n, the cosine the hardest negative should stay below.

    Prefer:
        For paraphrases, in very large cached batches (500 rows and more), where the hardest
        negative is truly hard. Otherwise MultipleNegativesRankingLoss.
    """

    columns = ("anchor", "positive")
    labels = LabelKind.NONE
    in_batch = True
    by_rows = True

    def __init__(self, positive_margin: float = 0.8, negative_margin: float = 0.3) -> None:
        super().__init__()
        self.positive_margin = positive_margin
        self.negative_margin = negative_margin

    def forward(self, inputs: LossInputs, labels: Tensor | None = None) -> Tensor:
        """Return the mean over our own rows; labels are not used."""
        anchors, positives = self.take(inputs)
        rows_B1 = inputs.own_rows[:, None]
        cosines_BN = pick_similarity("cosine").matrix(anchors[rows_B1[:, 0]], positives)
        own = cosines_BN.gather(1, rows_B1).squeeze(1)
        hardest = cosines_BN.scatter(1, rows_B1, -torch.inf).max(dim=1).values
        return (F.relu(self.positive_margin - own) + F.relu(hardest - self.negative_margin)).mean()


def _directions(directions: Sequence[str], partition_mode: str) -> tuple[str, ...]:
    """Check which directions may stand together."""
    one_of("partition_mode", partition_mode, ("joint", "per_direction"))
    for direction in directions:
        one_of("directions", direction, DIRECTIONS)
    if "query_to_doc" not in directions:
        raise SettingsError("directions: query_to_doc, which holds the positive, is needed")
    if partition_mode == "per_direction" and {"query_to_query", "doc_to_doc"} & set(directions):
        raise SettingsError(
            "partition_mode 'per_direction': query_to_query and doc_to_doc hold no positive; "
            "use partition_mode 'joint' with them"
        )
    return tuple(directions)


def _cosines(left_BD: Tensor, right_ND: Tensor) -> Tensor:
    """Return cosines [B, N] in at least float32; a zero row counts as 1e-8 long."""
    left_BD, right_ND = (t if t.dtype == torch.float64 else t.float() for t in (left_BD, right_ND))
    return F.normalize(left_BD, dim=1, eps=1e-8) @ F.normalize(right_ND, dim=1, eps=1e-8).T


def _exact_cosines(left_BD: Tensor, right_ND: Tensor) -> Tensor:
    """Return cosines computed in float64 and rounded, so that equal texts tie exactly."""
    with torch.no_grad():
        return _cosines(left_BD.double(), right_ND.double()).float()
