"""The dense losses with the defaults that sparse embeddings need: dot products, small scales.

Each is meant as the base of SpladeLoss or CSRLoss, which keep the embeddings sparse.
"""

from __future__ import annotations

from collections.abc import Sequence

from raybert.losses.distillation import DistillKLDivLoss, MarginMSELoss, MSELoss
from raybert.losses.graded_pairs import AnglELoss, CoSENTLoss, CosineSimilarityLoss
from raybert.losses.in_batch import MultipleNegativesRankingLoss
from raybert.losses.triplet import TripletLoss


class SparseMultipleNegativesRankingLoss(MultipleNegativesRankingLoss):
    """MultipleNegativesRankingLoss on dot products, which are large already: scale 1.

    Args:
        scale: inverse temperature.
        similarity_fct: `dot`, `cosine`, `euclidean` or `manhattan`.
        directions, partition_mode, hardness_mode, hardness_strength: as in the dense loss.

    Prefer:
        The usual base of SpladeLoss and CSRLoss. With teacher scores SparseMarginMSELoss.
    """

    def __init__(
        self,
        scale: float = 1.0,
        similarity_fct: str = "dot",
        directions: Sequence[str] = ("query_to_doc",),
        partition_mode: str = "joint",
        hardness_mode: str | None = None,
        hardness_strength: float = 0.0,
    ) -> None:
        super().__init__(
            scale, similarity_fct, directions, partition_mode, hardness_mode, hardness_strength
        )


class SparseMarginMSELoss(MarginMSELoss):
    """MarginMSELoss on dot products of sparse embeddings.

    Args:
        similarity_fct: `dot`, `cosine`, `euclidean` or `manhattan`.

    Prefer:
        Inside SpladeLoss for negatives scored by a cross-encoder: the strongest SPLADE models are
        trained so. With many candidates a row SparseDistillKLDivLoss.
    """


class SparseDistillKLDivLoss(DistillKLDivLoss):
    """DistillKLDivLoss on dot products of sparse embeddings, softened by temperature 2.

    Args:
        similarity_fct: `dot`, `cosine`, `euclidean` or `manhattan`.
        temperature: softens both sides.
        student_temperature: the student's, if it differs.
        teacher_temperature: the teacher's, if it differs.

    Prefer:
        Inside SpladeLoss for lists of scored candidates. With few negatives SparseMarginMSELoss.
    """

    def __init__(
        self,
        similarity_fct: str = "dot",
        temperature: float = 2.0,
        student_temperature: float | None = None,
        teacher_temperature: float | None = None,
    ) -> None:
        super().__init__(similarity_fct, temperature, student_temperature, teacher_temperature)


class SparseMSELoss(MSELoss):
    """MSELoss on sparse embeddings: the student copies a sparse teacher.

    Args:
        projection_dim: leave out, the vocabularies are equal.
        embedding_dimension: leave out.

    Prefer:
        For a smaller student of the same vocabulary; SparseMarginMSELoss for ranking.
    """


class SparseTripletLoss(TripletLoss):
    """TripletLoss on sparse embeddings.

    Args:
        distance_metric: `euclidean`, `cosine` or `manhattan`.
        triplet_margin: in units of the distance.

    Prefer:
        SparseMultipleNegativesRankingLoss, which learns more from the same triplets.
    """


class SparseCoSENTLoss(CoSENTLoss):
    """CoSENTLoss on cosines of sparse embeddings.

    Args:
        scale: inverse temperature.
        similarity_fct: `cosine`, `dot`, `euclidean` or `manhattan`.

    Prefer:
        Inside SpladeLoss for pairs with scores.
    """


class SparseAnglELoss(AnglELoss):
    """AnglELoss on sparse embeddings.

    Args:
        scale: inverse temperature.

    Prefer:
        SparseCoSENTLoss; halves of a vocabulary are no complex plane, so try both.
    """


class SparseCosineSimilarityLoss(CosineSimilarityLoss):
    """CosineSimilarityLoss on sparse embeddings.

    Args:
        loss_fct: what compares prediction and score, both [N]; mean squared error.
        cos_score_transformation: applied to the cosine; identity.

    Prefer:
        SparseCoSENTLoss, unless the scores themselves must come out.
    """
