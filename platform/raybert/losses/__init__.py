"""Losses: functions of tensors that state their columns; they never see a model.

    from raybert.losses import LossInputs, MultipleNegativesRankingLoss

    loss = MultipleNegativesRankingLoss(scale=20.0)
    value = loss(LossInputs.of(anchors, positives))

Cross-encoder losses whose names dense ones have too lie in `raybert.losses.reranking`.
`choose_loss` finds a loss by its name, `check_columns` refuses data that does not fit.
"""

from raybert.losses.adaptive_layer import AdaptiveLayerLoss, Matryoshka2dLoss
from raybert.losses.batch_triplets import (
    BatchAllTripletLoss,
    BatchHardSoftMarginTripletLoss,
    BatchHardTripletLoss,
    BatchSemiHardTripletLoss,
)
from raybert.losses.choose import check_columns, check_labels, choose_loss, default_loss
from raybert.losses.contrastive import ContrastiveLoss, OnlineContrastiveLoss, SoftmaxLoss
from raybert.losses.csr import CSRLoss, CSRReconstructionLoss
from raybert.losses.distillation import (
    DistillKLDivLoss,
    EmbedDistillLoss,
    MarginMSELoss,
    MSELoss,
)
from raybert.losses.graded_pairs import AnglELoss, CoSENTLoss, CosineSimilarityLoss
from raybert.losses.in_batch import (
    GISTEmbedLoss,
    MegaBatchMarginLoss,
    MultipleNegativesRankingLoss,
)
from raybert.losses.lambda_loss import LambdaLoss, RankNetLoss
from raybert.losses.listwise import (
    ADRMSELoss,
    ListMLELoss,
    ListNetLoss,
    PListMLELoss,
    pad_labels,
)
from raybert.losses.loss import GUIDE, LAYERS, LabelKind, Loss, LossInputs, Terms, total
from raybert.losses.matryoshka import MatryoshkaLoss
from raybert.losses.regularization import GlobalOrthogonalRegularizationLoss, SumLoss
from raybert.losses.reranking import (
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    in_batch_negatives,
)
from raybert.losses.sparse_forms import (
    SparseAnglELoss,
    SparseCoSENTLoss,
    SparseCosineSimilarityLoss,
    SparseDistillKLDivLoss,
    SparseMarginMSELoss,
    SparseMSELoss,
    SparseMultipleNegativesRankingLoss,
    SparseTripletLoss,
)
from raybert.losses.sparsity import FlopsLoss, SpladeLoss, regularizer_share
from raybert.losses.triplet import TripletLoss
from raybert.losses.unsupervised import (
    ContrastiveTensionLoss,
    ContrastiveTensionLossInBatchNegatives,
    DenoisingAutoEncoderLoss,
)

__all__ = [
    "GUIDE",
    "LAYERS",
    "ADRMSELoss",
    "AdaptiveLayerLoss",
    "AnglELoss",
    "BatchAllTripletLoss",
    "BatchHardSoftMarginTripletLoss",
    "BatchHardTripletLoss",
    "BatchSemiHardTripletLoss",
    "BinaryCrossEntropyLoss",
    "CSRLoss",
    "CSRReconstructionLoss",
    "CoSENTLoss",
    "ContrastiveLoss",
    "ContrastiveTensionLoss",
    "ContrastiveTensionLossInBatchNegatives",
    "CosineSimilarityLoss",
    "CrossEntropyLoss",
    "DenoisingAutoEncoderLoss",
    "DistillKLDivLoss",
    "EmbedDistillLoss",
    "FlopsLoss",
    "GISTEmbedLoss",
    "GlobalOrthogonalRegularizationLoss",
    "LabelKind",
    "LambdaLoss",
    "ListMLELoss",
    "ListNetLoss",
    "Loss",
    "LossInputs",
    "MSELoss",
    "MarginMSELoss",
    "Matryoshka2dLoss",
    "MatryoshkaLoss",
    "MegaBatchMarginLoss",
    "MultipleNegativesRankingLoss",
    "OnlineContrastiveLoss",
    "PListMLELoss",
    "RankNetLoss",
    "SoftmaxLoss",
    "SparseAnglELoss",
    "SparseCoSENTLoss",
    "SparseCosineSimilarityLoss",
    "SparseDistillKLDivLoss",
    "SparseMSELoss",
    "SparseMarginMSELoss",
    "SparseMultipleNegativesRankingLoss",
    "SparseTripletLoss",
    "SpladeLoss",
    "SumLoss",
    "Terms",
    "TripletLoss",
    "check_columns",
    "check_labels",
    "choose_loss",
    "default_loss",
    "in_batch_negatives",
    "pad_labels",
    "regularizer_share",
    "total",
]
