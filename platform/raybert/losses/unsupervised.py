"""Losses that need nothing but texts. Shapes: N texts, D width, T tokens, V vocabulary."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raybert.errors import InputError
from raybert.losses.loss import LabelKind, Loss, LossInputs, positive
from raybert.vectors import pick_similarity


class ContrastiveTensionLoss(Loss):
    """Two copies of a model learn to agree on a text and to differ on two texts.

    Binary cross-entropy, summed, of the dot product `f1(s1) f2(s2)`, with label 1 where both are
    the same text. OpenReview Ov_sMNau-PF. The columns are the two copies' embeddings.

    Prefer:
        For texts without any pairs, one positive among 8. ContrastiveTensionLossInBatchNegatives
        needs no pairing; MultipleNegativesRankingLoss on (text, text) with dropout (SimCSE) needs
        no second copy; DenoisingAutoEncoderLoss for a new domain.
    """

    columns = ("sentence_1", "sentence_2")
    labels = LabelKind.BINARY
    in_batch = True

    def forward(self, inputs: LossInputs, labels: Tensor | None = None) -> Tensor:
        """Return the sum over rows; labels [N] are 1 where both texts are the same."""
        first, second = self.take(inputs)
        same = self.row_labels(labels, inputs.rows)
        logits = pick_similarity("dot").pairwise(first, second)
        return F.binary_cross_entropy_with_logits(logits, same.to(logits.dtype), reduction="sum")


class ContrastiveTensionLossInBatchNegatives(Loss):
    """Two copies of a model find each text again among those of the batch.

    Mean of both cross-entropies, along rows and along columns, of `exp(t) cos(f1(s_i), f2(s_j))`
    with a learnt t. The two tensors are the two copies' embeddings of the one column.

    Args:
        scale: exp(t) at the start.
        similarity_fct: `cosine`, `dot`, `euclidean` or `manhattan`.

    Prefer:
        As ContrastiveTensionLoss, with larger batches and no pairing of texts.
    """

    columns = ("text",)
    joined = -1
    in_batch = True

    def __init__(self, scale: float = 20.0, similarity_fct: str = "cosine") -> None:
        super().__init__()
        self.similarity_fct = similarity_fct
        self.matrix = pick_similarity(similarity_fct).matrix
        self.logit_scale = nn.Parameter(torch.tensor(math.log(positive("scale", scale))))

    def forward(self, inputs: LossInputs, labels: Tensor | None = None) -> Tensor:
        """Return the mean over rows and columns; labels are not used."""
        first, second = self.take(inputs)
        logits_NN = self.matrix(first, second) * self.logit_scale.exp()
        own = torch.arange(inputs.rows, device=logits_NN.device)
        return (F.cross_entropy(logits_NN, own) + F.cross_entropy(logits_NN.T, own)) / 2


class DenoisingAutoEncoderLoss(Loss):
    """A decoder rebuilds a text from nothing but the embedding of its damaged copy (TSDAE).

    Cross-entropy of the decoder's logits on the next token of the clean text, arXiv:2104.06979.
    The decoder belongs to the training step: it sees the embedding as its only cross-attention
    key, and its logits [N, T, V] are the one column here; the clean text's tokens are the labels.

    Args:
        pad_token_id: target id that does not count.

    Prefer:
        To adapt a model to a domain of bare texts before supervised training; delete 60 percent
        of the words, CLS pooling, decoder tied to the encoder.
    """

    columns = ("damaged_text", "text")
    labels = LabelKind.TOKENS
    joined = 1

    def __init__(self, pad_token_id: int = 0) -> None:
        super().__init__()
        self.pad_token_id = pad_token_id

    def forward(self, inputs: LossInputs, labels: Tensor | None = None) -> Tensor:
        """Return the mean over target tokens; labels [N, T] are token ids, shifted already."""
        (logits_NTV,) = self.take(inputs)
        if labels is None or labels.shape != logits_NTV.shape[:2]:
            given = "none" if labels is None else f"shape {tuple(labels.shape)}"
            raise InputError(
                f"DenoisingAutoEncoderLoss needs target ids {tuple(logits_NTV.shape[:2])}; "
                f"{given} given"
            )
        return F.cross_entropy(
            logits_NTV.flatten(0, 1), labels.flatten(), ignore_index=self.pad_token_id
        )
