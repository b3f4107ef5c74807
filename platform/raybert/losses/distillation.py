"""Losses that teach a student what a teacher says: its vectors or its scores.

Shapes: N rows, D width, K candidates of a row (positive and negatives).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raybert.errors import InputError, SettingsError
from raybert.losses.loss import LabelKind, Loss, LossInputs, one_of, positive
from raybert.vectors import pick_similarity


class EmbedDistillLoss(Loss):
    """Draws a student's embeddings to a teacher's (EmbedDistill), mean over rows and columns.

    `cosine`: 1 less the cosine; `l2`: length of the difference; `mse`: mean squared difference of
    the coordinates. arXiv:2301.12005.

    Args:
        distance_metric: `cosine`, `l2` or `mse`.
        projection_dim: width of the teacher; the student is brought to it by a linear layer that
            is trained along and dropped afterwards. None: both are equally wide.
        embedding_dimension: width of the student, needed with `projection_dim`.

    Prefer:
        To copy a teacher's space from text alone, no labels needed; with parallel sentences this
        teaches a student new languages. For ranking, MarginMSELoss or DistillKLDivLoss.
    """

    columns = ("text", "text*")
    labels = LabelKind.VECTOR

    def __init__(
        self,
        distance_metric: str = "cosine",
        projection_dim: int | None = None,
        embedding_dimension: int | None = None,
    ) -> None:
        super().__init__()
        self.distance_metric = one_of("distance_metric", distance_metric, ("cosine", "l2", "mse"))
        self.projection: nn.Module = nn.Identity()
        if projection_dim is not None:
            if embedding_dimension is None:
                raise SettingsError("projection_dim needs embedding_dimension, the student's width")
            self.projection = nn.Linear(embedding_dimension, projection_dim)

    def forward(self, inputs: LossInputs, labels: Tensor | None = None) -> Tensor:
        """Return the loss; labels are [N, D] for all columns, or [N, columns, D]."""
        columns = self.take(inputs)
        teachers = self._teachers(labels, len(columns))
        losses = [
            self._distance(self.projection(student), teacher.to(student))
            for student, teacher in zip(columns, teachers, strict=True)
        ]
        return torch.stack(losses).mean()

    def _teachers(self, labels: Tensor | None, columns: int) -> Sequence[Tensor]:
        """Return the teacher's vectors [N, D] of each column."""
        if labels is not None and labels.ndim == 2:
            return [labels.detach()] * columns
        if labels is not None and labels.ndim == 3 and labels.shape[1] == columns:
            return labels.detach().unbind(1)
        given = "none" if labels is None else f"shape {tuple(labels.shape)}"
        raise InputError(
            f"{type(self).__name__} needs teacher vectors [rows, width] or "
            f"[rows, {columns} columns, width] as labels; {given} given"
        )

    def _distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        if student.shape != teacher.shape:
            raise InputError(
                f"{type(self).__name__}: student {tuple(student.shape)} and teacher "
                f"{tuple(teacher.shape)} differ; projection_dim brings them to one width"
            )
        if self.distance_metric == "mse":
            return F.mse_loss(student, teacher)
        if self.distance_metric == "l2":
            lengths: Tensor = torch.linalg.vector_norm(student - teacher, dim=-1)
            return lengths.mean()
        return (1 - F.cosine_similarity(student, teacher, dim=-1)).mean()


class MSELoss(EmbedDistillLoss):
    """Makes a student's embeddings equal to a teacher's, coordinate by coordinate.

    `mean (student - teacher)^2`; multilingual distillation, arXiv:2004.09813.

    Args:
        projection_dim: width of the teacher, if it differs; see EmbedDistillLoss.
        embedding_dimension: width of the student, needed with `projection_dim`.

    Prefer:
        For parallel sentences (teacher reads the source, student learns both sides) and for
        smaller students. EmbedDistillLoss with `cosine` when lengths do not matter.
    """

    def __init__(
        self, projection_dim: int | None = None, embedding_dimension: int | None = None
    ) -> None:
        super().__init__("mse", projection_dim, embedding_dimension)


class MarginMSELoss(Loss):
    """Teaches the gap between a positive and a negative, as a teacher scores them.

    `mean ((s(q, p) - s(q, n_k)) - margin_k)^2`, arXiv:2010.02666. Labels are the margins, or the
    teacher's scores of positive and negatives, from which the margins follow.

    Args:
        similarity_fct: `dot`, `cosine`, `euclidean` or `manhattan`.

    Prefer:
        For mined negatives scored by a cross-encoder, few negatives a row. With many candidates a
        row DistillKLDivLoss uses their whole distribution.
    """

    columns = ("query", "positive", "negative", "negative*")
    labels = LabelKind.MARGIN

    def __init__(self, similarity_fct: str = "dot") -> None:
        super().__init__()
        self.similarity_fct = similarity_fct
        self.pairwise = pick_similarity(similarity_fct).pairwise

    def forward(self, inputs: LossInputs, labels: Tensor | None = None) -> Tensor:
        """Return the loss; labels are margins [N, negatives] or scores [N, 1 + negatives]."""
        query, *candidates = self.take(inputs)
        scores_NK = torch.stack([self.pairwise(query, each) for each in candidates], dim=1)
        margins = teacher_margins(labels, scores_NK.shape[0], scores_NK.shape[1] - 1)
        return F.mse_loss(scores_NK[:, :1] - scores_NK[:, 1:], margins.to(scores_NK.dtype))


class DistillKLDivLoss(Loss):
    """Teaches a student the teacher's distribution over a row's candidates.

    `T_s^2 KL(softmax(teacher / T_t) || softmax(student / T_s))`, mean over rows, arXiv:2010.11386.

    Args:
        similarity_fct: `dot`, `cosine`, `euclidean` or `manhattan`.
        temperature: softens both sides.
        student_temperature: T_s, if it differs.
        teacher_temperature: T_t, if it differs.

    Prefer:
        For lists of candidates scored by a cross-encoder or an LLM. With one negative a row
        MarginMSELoss; teacher scores far apart need a higher temperature.
    """

    columns = ("query", "positive", "negative", "negative*")
    labels = LabelKind.SCORES

    def __init__(
        self,
        similarity_fct: str = "dot",
        temperature: float = 1.0,
        student_temperature: float | None = None,
        teacher_temperature: float | None = None,
    ) -> None:
        super().__init__()
        self.similarity_fct = similarity_fct
        self.pairwise = pick_similarity(similarity_fct).pairwise
        student = temperature if student_temperature is None else student_temperature
        teacher = temperature if teacher_temperature is None else teacher_temperature
        self.student_temperature = positive("student_temperature", student)
        self.teacher_temperature = positive("teacher_temperature", teacher)

    def forward(self, inputs: LossInputs, labels: Tensor | None = None) -> Tensor:
        """Return the loss; labels [N, K] are teacher scores, the positive's first."""
        query, *candidates = self.take(inputs)
        scores_NK = torch.stack([self.pairwise(query, each) for each in candidates], dim=1)
        if labels is None or labels.shape != scores_NK.shape:
            given = "none" if labels is None else f"shape {tuple(labels.shape)}"
            raise InputError(
                f"{type(self).__name__} needs teacher scores {tuple(scores_NK.shape)}, one a "
                f"candidate; {given} given"
            )
        teacher = torch.softmax(labels.detach().to(scores_NK.dtype) / self.teacher_temperature, 1)
        student = torch.log_softmax(scores_NK / self.student_temperature, dim=1)
        return F.kl_div(student, teacher, reduction="batchmean") * self.student_temperature**2


def teacher_margins(labels: Tensor | None, rows: int, negatives: int) -> Tensor:
    """Return margins [N, negatives] from margins, or from scores of positive and negatives.

    Raises:
        InputError: the labels are of neither shape.
    """
    if labels is not None:
        labels = labels.detach()
        if labels.shape == (rows, negatives + 1):
            return labels[:, :1] - labels[:, 1:]
        if labels.shape == (rows, negatives) or (labels.shape == (rows,) and negatives == 1):
            return labels.reshape(rows, negatives)
    given = "none" if labels is None else f"shape {tuple(labels.shape)}"
    raise InputError(
        f"margins [{rows}, {negatives}] or scores [{rows}, {negatives + 1}] are needed as labels; "
        f"{given} given"
    )
