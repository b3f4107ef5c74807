from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch

from raybert.errors import InputError, SettingsError
from raybert.losses.choose import (
    ALIASES,
    LOSSES,
    check_columns,
    check_labels,
    choose_loss,
    default_loss,
)
from raybert.losses.contrastive import SoftmaxLoss
from raybert.losses.in_batch import MultipleNegativesRankingLoss
from raybert.losses.matryoshka import MatryoshkaLoss
from raybert.losses.regularization import SumLoss
from raybert.losses.sparsity import SpladeLoss

NEEDED: dict[str, dict[str, Any]] = {
    "SoftmaxLoss": {"embedding_dimension": 4, "num_labels": 3},
    "SpladeLoss": {
        "loss": "SparseMultipleNegativesRankingLoss",
        "document_regularizer_weight": 3e-5,
    },
}


@pytest.mark.parametrize(
    ("family", "name"), [(family, name) for family, known in LOSSES.items() for name in known]
)
def test_every_loss_is_found_by_its_name(family: str, name: str) -> None:
    loss = choose_loss(name, family, **NEEDED.get(name, {}))
    assert type(loss) is LOSSES[family][name]
    assert type(pickle.loads(pickle.dumps(loss))) is type(loss)
    fewest, _ = loss.column_counts
    columns = [f"column_{number}" for number in range(fewest)]
    check_columns(loss, [*columns, "label"] if loss.wants_label(fewest) else columns)


def test_other_names_mean_the_same_losses() -> None:
    for alias, (name, _) in ALIASES.items():
        family = "sparse" if name == "SpladeLoss" else "dense"
        assert type(choose_loss(alias, family, **NEEDED.get(name, {}))).__name__ == name
    symmetric = choose_loss("MultipleNegativesSymmetricRankingLoss", scale=5.0)
    assert isinstance(symmetric, MultipleNegativesRankingLoss)
    assert (symmetric.partition_mode, symmetric.scale) == ("per_direction", 5.0)


def test_losses_nest_as_yaml_has_them() -> None:
    loss = choose_loss(
        "SumLoss",
        loss={
            "name": "MatryoshkaLoss",
            "loss": {"name": "MultipleNegativesRankingLoss", "scale": 3.0},
            "matryoshka_dims": [8, 4],
        },
        others=["GlobalOrthogonalRegularizationLoss"],
    )
    assert isinstance(loss, SumLoss)
    inner = loss.losses[0]
    assert isinstance(inner, MatryoshkaLoss)
    assert isinstance(inner.loss, MultipleNegativesRankingLoss)
    assert inner.loss.scale == 3.0
    assert loss.columns == MultipleNegativesRankingLoss.columns


@pytest.mark.parametrize(
    ("name", "family", "arguments", "said"),
    [
        ("NoSuchLoss", "dense", {}, "allowed are MultipleNegativesRankingLoss"),
        ("LambdaLoss", "dense", {}, "dense loss 'LambdaLoss'"),
        ("MatryoshkaLoss", "cross", {}, "cross loss 'MatryoshkaLoss'"),
        ("CoSENTLoss", "images", {}, "dense, sparse, cross"),
        ("CoSENTLoss", "dense", {"warmth": 1}, "no setting 'warmth': allowed are scale"),
        ("SoftmaxLoss", "dense", {"num_labels": 2}, "needs the setting 'embedding_dimension'"),
    ],
)
def test_what_does_not_exist_is_refused_in_one_line(
    name: str, family: str, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        choose_loss(name, family, **arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("MultipleNegativesRankingLoss", ["text"]),
        ("MultipleNegativesRankingLoss", ["anchor", "positive", "label"]),
        ("CoSENTLoss", ["sentence_a", "sentence_b"]),
        ("CoSENTLoss", ["a", "b", "c", "score"]),
        ("CoSENTLoss", ["a", "b", "score", "label"]),
        ("TripletLoss", ["a", "b"]),
        ("AnglELoss", ["a", "b"]),
        ("BatchAllTripletLoss", []),
    ],
)
def test_columns_that_do_not_match_are_refused_with_those_needed(
    name: str, columns: list[str]
) -> None:
    loss = choose_loss(name)
    with pytest.raises(InputError, match=", ".join(loss.columns).replace("*", r"\*")) as caught:
        check_columns(loss, columns, where="pairs.parquet")
    assert "pairs.parquet has" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_matching_columns_pass_whatever_their_names() -> None:
    check_columns(choose_loss("MultipleNegativesRankingLoss"), ["q", "p", "n1", "n2", "n3"])
    check_columns(choose_loss("CoSENTLoss"), ["score", "x", "y"])
    check_columns(choose_loss("AnglELoss"), ["a", "p", "n"])
    check_columns(choose_loss("AnglELoss"), ["a", "p", "n", "label"])
    check_columns(choose_loss("LambdaLoss", "cross"), ["query", "documents", "labels"])
    check_columns(choose_loss("MarginMSELoss", "cross"), ["query", "p", "n", "scores"])


def test_label_values_are_checked() -> None:
    softmax = SoftmaxLoss(4, 3)
    check_labels(softmax, torch.tensor([0, 1, 2]))
    with pytest.raises(InputError, match="label 3 in row 1 of nli: SoftmaxLoss allows 0 to 2"):
        check_labels(softmax, torch.tensor([0, 3]), "nli")
    with pytest.raises(InputError, match=r"label 0\.5 in row 0"):
        check_labels(choose_loss("ContrastiveLoss"), torch.tensor([0.5]))
    with pytest.raises(InputError, match="finite"):
        check_labels(choose_loss("CoSENTLoss"), torch.tensor([0.0, torch.nan]))
    check_labels(choose_loss("LambdaLoss", "cross"), torch.tensor([[1.0, torch.nan]]))


def test_defaults_are_those_users_know() -> None:
    names = [type(default_loss(family)).__name__ for family in ("dense", "sparse", "cross")]
    assert names == ["CoSENTLoss", "SpladeLoss", "BinaryCrossEntropyLoss"]
    assert type(default_loss("cross", num_labels=3)).__name__ == "CrossEntropyLoss"
    splade = default_loss("sparse")
    assert isinstance(splade, SpladeLoss)
    assert splade.weights == (3e-5, 5e-5)
