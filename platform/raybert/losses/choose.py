"""From a loss's name to the loss, and from a dataset's columns to yes or no."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from raybert.errors import InputError, SettingsError
from raybert.losses import (
    batch_triplets,
    contrastive,
    distillation,
    graded_pairs,
    lambda_loss,
    listwise,
    reranking,
    sparse_forms,
    unsupervised,
)
from raybert.losses.adaptive_layer import AdaptiveLayerLoss, Matryoshka2dLoss
from raybert.losses.csr import CSRLoss, CSRReconstructionLoss
from raybert.losses.in_batch import (
    GISTEmbedLoss,
    MegaBatchMarginLoss,
    MultipleNegativesRankingLoss,
)
from raybert.losses.loss import LabelKind, Loss, one_of
from raybert.losses.matryoshka import MatryoshkaLoss
from raybert.losses.regularization import GlobalOrthogonalRegularizationLoss, SumLoss
from raybert.losses.sparsity import FlopsLoss, SpladeLoss
from raybert.losses.triplet import TripletLoss

LABEL_COLUMNS = ("label", "labels", "score", "scores")
"""Names by which a dataset's label column is known."""


def _by_name(*losses: type[Loss]) -> dict[str, type[Loss]]:
    return {loss.__name__: loss for loss in losses}


MODIFIERS = _by_name(MatryoshkaLoss, Matryoshka2dLoss, AdaptiveLayerLoss, SumLoss)
"""Losses around another loss, whose columns and labels they take over."""
LOSSES: dict[str, dict[str, type[Loss]]] = {
    "dense": _by_name(
        MultipleNegativesRankingLoss,
        GISTEmbedLoss,
        MegaBatchMarginLoss,
        TripletLoss,
        graded_pairs.CoSENTLoss,
        graded_pairs.AnglELoss,
        graded_pairs.CosineSimilarityLoss,
        contrastive.OnlineContrastiveLoss,
        contrastive.ContrastiveLoss,
        contrastive.SoftmaxLoss,
        batch_triplets.BatchAllTripletLoss,
        batch_triplets.BatchHardTripletLoss,
        batch_triplets.BatchHardSoftMarginTripletLoss,
        batch_triplets.BatchSemiHardTripletLoss,
        distillation.MarginMSELoss,
        distillation.DistillKLDivLoss,
        distillation.MSELoss,
        distillation.EmbedDistillLoss,
        unsupervised.DenoisingAutoEncoderLoss,
        unsupervised.ContrastiveTensionLoss,
        unsupervised.ContrastiveTensionLossInBatchNegatives,
        GlobalOrthogonalRegularizationLoss,
    ),
    "sparse": _by_name(
        SpladeLoss,
        CSRLoss,
        sparse_forms.SparseMultipleNegativesRankingLoss,
        sparse_forms.SparseMarginMSELoss,
        sparse_forms.SparseDistillKLDivLoss,
        sparse_forms.SparseMSELoss,
        sparse_forms.SparseTripletLoss,
        sparse_forms.SparseCoSENTLoss,
        sparse_forms.SparseAnglELoss,
        sparse_forms.SparseCosineSimilarityLoss,
        FlopsLoss,
        CSRReconstructionLoss,
    ),
    "cross": _by_name(
        reranking.BinaryCrossEntropyLoss,
        reranking.CrossEntropyLoss,
        reranking.MultipleNegativesRankingLoss,
        reranking.MSELoss,
        reranking.MarginMSELoss,
        lambda_loss.LambdaLoss,
        lambda_loss.RankNetLoss,
        listwise.ListNetLoss,
        listwise.ListMLELoss,
        listwise.PListMLELoss,
        listwise.ADRMSELoss,
    ),
}
"""The losses of each kind of encoder by name, the first choices first."""

_SYMMETRIC = {
    "directions": ("query_to_doc", "doc_to_query"),
    "partition_mode": "per_direction",
}
ALIASES: dict[str, tuple[str, dict[str, Any]]] = {
    "CachedMultipleNegativesRankingLoss": ("MultipleNegativesRankingLoss", {}),
    "MultipleNegativesSymmetricRankingLoss": ("MultipleNegativesRankingLoss", _SYMMETRIC),
    "CachedMultipleNegativesSymmetricRankingLoss": ("MultipleNegativesRankingLoss", _SYMMETRIC),
    "CachedGISTEmbedLoss": ("GISTEmbedLoss", {}),
    "CachedSpladeLoss": ("SpladeLoss", {}),
}
"""Other names users know: the loss meant, with settings. Caching is a step of training here."""


def choose_loss(name: str, family: str = "dense", **settings: Any) -> Loss:
    """Return the loss called `name` with `settings`.

    Args:
        name: as in `LOSSES`, `MODIFIERS` or `ALIASES`.
        family: `dense`, `sparse` or `cross`; some names mean different losses in them.
        settings: the loss's arguments. One that takes a loss may be given its name, or a mapping
            with `name` and that loss's settings, as YAML has it.

    Raises:
        SettingsError: no such loss or setting, or a value that is not allowed; in one line.
    """
    known = LOSSES[one_of("family", family, list(LOSSES))]
    name, preset = ALIASES.get(name, (name, {}))
    allowed = {**known, **({} if family == "cross" else MODIFIERS)}
    one_of(f"{family} loss", name, list(allowed))
    loss = allowed[name]
    arguments = {**preset, **{key: _nested(value, family) for key, value in settings.items()}}
    _check_settings(name, arguments, _parameters(loss))
    return loss(**arguments)


def default_loss(family: str, num_labels: int = 1) -> Loss:
    """Return the loss that is used when none is named.

    CoSENTLoss for dense encoders, BinaryCrossEntropyLoss or (with more labels) CrossEntropyLoss
    for cross-encoders, SpladeLoss around MNRL with weights 3e-5 and 5e-5 for sparse encoders.
    """
    one_of("family", family, list(LOSSES))
    if family == "dense":
        return graded_pairs.CoSENTLoss()
    if family == "sparse":
        return SpladeLoss(sparse_forms.SparseMultipleNegativesRankingLoss(), 3e-5, 5e-5)
    return reranking.BinaryCrossEntropyLoss() if num_labels == 1 else reranking.CrossEntropyLoss()


def check_columns(loss: Loss, columns: Sequence[str], where: str = "the data") -> None:
    """Check that data with these columns can train `loss`; columns match by their number.

    Args:
        loss: the loss.
        columns: the data's columns in order; the label column is one of `LABEL_COLUMNS`.
        where: the data's name in the message.

    Raises:
        InputError: too few or too many text columns, a label missing or not used.
    """
    labels = [column for column in columns if column in LABEL_COLUMNS]
    texts = [column for column in columns if column not in LABEL_COLUMNS]
    fewest, most = loss.column_counts
    wanted = loss.wants_label(len(texts))
    fits = fewest <= len(texts) <= (most or len(texts)) and len(labels) <= 1
    if not fits or (wanted is not None and wanted != bool(labels)):
        kind = "no label" if wanted is False else f"a label ({', '.join(LABEL_COLUMNS)}): "
        raise InputError(
            f"{type(loss).__name__} needs the columns {', '.join(loss.columns)} and {kind}"
            f"{'' if wanted is False else loss.labels.value}; {where} has "
            f"{', '.join(columns) or 'no columns'}"
        )


def check_labels(loss: Loss, labels: Tensor, where: str = "the data") -> None:
    """Check the values of a label column.

    Raises:
        InputError: a value is not finite, not 0 or 1, or no class of this loss; the message has
            the value, its row and what is allowed.
    """
    classes = getattr(loss, "num_labels", None)
    wrong, allowed = ~labels.isfinite(), "finite numbers"
    if loss.labels is LabelKind.BINARY:
        wrong, allowed = (labels != 0) & (labels != 1), "0 and 1"
    elif loss.labels is LabelKind.CLASS:
        wrong, allowed = wrong | (labels != labels.round()), "class numbers"
        if classes is not None:
            wrong, allowed = wrong | (labels < 0) | (labels >= classes), f"0 to {classes - 1}"
    elif loss.labels is LabelKind.LIST:
        wrong = labels.isinf()
    if wrong.any():
        place = wrong.nonzero()[0]
        raise InputError(
            f"label {labels[tuple(place)].item()} in row {int(place[0])} of {where}: "
            f"{type(loss).__name__} allows {allowed}"
        )


def _nested(value: Any, family: str) -> Any:
    """Make losses of names and mappings inside settings."""
    if isinstance(value, Mapping) and "name" in value:
        return choose_loss(family=family, **value)
    if isinstance(value, str) and value in {**LOSSES[family], **ALIASES}:
        return choose_loss(value, family)
    if isinstance(value, list):
        return [_nested(each, family) for each in value]
    return value


def _parameters(loss: type[Loss]) -> dict[str, inspect.Parameter]:
    """Return the settings of a loss; `*args` of one without any do not count."""
    parameters = inspect.signature(loss).parameters
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: each for name, each in parameters.items() if each.kind not in variable}


def _check_settings(
    name: str, settings: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]
) -> None:
    for key in settings:
        if key not in parameters:
            allowed = ", ".join(parameters) or "none"
            raise SettingsError(f"{name} has no setting {key!r}: allowed are {allowed}")
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in settings:
            raise SettingsError(f"{name} needs the setting {key!r}")
