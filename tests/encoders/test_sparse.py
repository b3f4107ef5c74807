from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SparseEncoder as Oracle

from raybert import SparseEncoder, open_encoder
from raybert.errors import InputError


@pytest.fixture(scope="session")
def masked(
    build_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A plain masked language model of a kind."""
    built: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in built:
            built[kind] = build_model(tmp_path_factory.mktemp(kind), kind, "ForMaskedLM")
        return built[kind]

    return folder


def both(folder: Path, **options: Any) -> tuple[SparseEncoder, Oracle]:
    return SparseEncoder(folder, device="cpu", **options), Oracle(
        str(folder), device="cpu", **options
    )


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_splade_weights_are_the_oracles(
    kind: str, masked: Callable[[str], Path], texts: list[str]
) -> None:
    ours, theirs = both(masked(kind))
    mine, other = ours.encode(texts), theirs.encode(texts)
    assert mine.is_sparse
    np.testing.assert_allclose(mine.to_dense(), other.to_dense(), atol=1e-5)
    assert ours.get_embedding_dimension() == other.shape[1]
    torch.testing.assert_close(ours.similarity(mine, mine), theirs.similarity(other, other))
    assert ours.similarity_fn_name == "dot"


def test_shapes_and_forms(masked: Callable[[str], Path], texts: list[str]) -> None:
    ours = SparseEncoder(masked("bert"), device="cpu")
    width = ours.get_embedding_dimension()
    assert ours.encode("a").shape == (width,)
    assert ours.encode(["a"]).shape == (1, width)
    assert ours.encode([]).shape == (0, width)
    dense = ours.encode(texts, convert_to_sparse_tensor=False)
    assert not dense.is_sparse
    listed = ours.encode(texts, convert_to_tensor=False)
    assert len(listed) == len(texts)
    rows, usage = ours.encode_tokens(ours.pre(texts))
    np.testing.assert_array_equal(rows.toarray(), dense.numpy())
    assert rows.dtype == np.float32
    assert usage.tokens == sum(ours.pre(texts).lengths)


def test_weights_do_not_depend_on_the_batch(
    masked: Callable[[str], Path], texts: list[str]
) -> None:
    ours = SparseEncoder(masked("bert"), device="cpu")
    together = ours.encode(texts, convert_to_sparse_tensor=False)
    tight = ours.encode(texts, convert_to_sparse_tensor=False, tokens_per_batch=1)
    assert (together - tight).abs().max() <= 1e-5


@pytest.mark.parametrize("limit", [1, 8, 10_000])
def test_max_active_dims(limit: int, masked: Callable[[str], Path], texts: list[str]) -> None:
    ours, theirs = both(masked("bert"))
    mine = ours.encode(texts, max_active_dims=limit)
    other = theirs.encode(texts, max_active_dims=limit)
    np.testing.assert_allclose(mine.to_dense(), other.to_dense(), atol=1e-5)
    assert (mine.to_dense() != 0).sum(1).max() <= limit
    kept = SparseEncoder(masked("bert"), device="cpu", max_active_dims=limit)
    assert torch.equal(kept.encode(texts).to_dense(), mine.to_dense())


def test_decode(masked: Callable[[str], Path], texts: list[str]) -> None:
    ours, theirs = both(masked("bert"))
    vectors = theirs.encode(texts)
    for found, expected in zip(
        ours.decode(vectors, top_k=5), theirs.decode(vectors, top_k=5), strict=True
    ):
        assert found == expected
    assert ours.decode(vectors[0], top_k=3) == theirs.decode(vectors[0], top_k=3)
    assert len(ours.decode(vectors)[0]) == int((vectors[0].to_dense() != 0).sum())
    assert ours.decode(torch.zeros(2, vectors.shape[1])) == [[], []]
    with pytest.raises(InputError, match="top_k 0: must be at least 1"):
        ours.decode(vectors, top_k=0)


def test_sparsity_and_intersection(masked: Callable[[str], Path], texts: list[str]) -> None:
    ours, theirs = both(masked("bert"), max_active_dims=20)
    vectors = theirs.encode(texts)
    mine, other = ours.sparsity(vectors), theirs.sparsity(vectors)
    assert mine == pytest.approx(other)
    assert SparseEncoder.sparsity(torch.zeros(0, 5)) == theirs.sparsity(torch.zeros(0, 5))
    for second in (vectors, vectors[1]):
        torch.testing.assert_close(
            ours.intersection(vectors[0], second).to_dense(),
            theirs.intersection(vectors[0], second).to_dense(),
        )
    with pytest.raises(InputError, match="is expected"):
        ours.intersection(vectors, vectors)
    with pytest.raises(InputError, match="sparse embeddings of str"):
        ours.decode("no vector")


def test_the_largest_by_absolute_value() -> None:
    from raybert.encoders.sparse_rows import strongest

    found = strongest(torch.tensor([[0.1, -0.9, 0.5, 0.2]]), 2)
    assert torch.equal(found, torch.tensor([[0, -0.9, 0.5, 0]]))


def test_ours_and_the_oracles_folders(
    masked: Callable[[str], Path], tmp_path: Path, texts: list[str]
) -> None:
    ours = SparseEncoder(masked("bert"), device="cpu", max_active_dims=12)
    ours.save_pretrained(tmp_path / "ours")
    oracle = Oracle(str(tmp_path / "ours"), device="cpu")
    expected = ours.encode(texts).to_dense()
    np.testing.assert_allclose(oracle.encode(texts).to_dense(), expected, atol=1e-5)
    assert oracle.max_active_dims == 12
    oracle.save_pretrained(str(tmp_path / "theirs"))
    again = open_encoder(tmp_path / "theirs", device="cpu")
    assert isinstance(again, SparseEncoder)
    np.testing.assert_allclose(again.encode(texts).to_dense(), expected, atol=1e-5)


def test_a_dense_model_with_a_sparse_auto_encoder(
    small: Callable[[str], Path], tmp_path: Path, texts: list[str]
) -> None:
    torch.manual_seed(5)
    ours = SparseEncoder(small("bert"), device="cpu")
    assert ours.get_embedding_dimension() == 4 * 48
    ours.model[2].k = 16  # type: ignore[assignment]
    ours.save_pretrained(tmp_path / "ours")
    oracle = Oracle(str(tmp_path / "ours"), device="cpu")
    expected = ours.encode(texts).to_dense()
    assert (expected != 0).sum(1).max() <= 16
    np.testing.assert_allclose(oracle.encode(texts).to_dense(), expected, atol=1e-5)
    fewer = ours.encode(texts, max_active_dims=4).to_dense()
    np.testing.assert_allclose(oracle.encode(texts, max_active_dims=4).to_dense(), fewer, atol=1e-5)
    oracle.save_pretrained(str(tmp_path / "theirs"))
    again = SparseEncoder(tmp_path / "theirs", device="cpu")
    np.testing.assert_allclose(again.encode(texts).to_dense(), expected, atol=1e-5)


def test_a_dense_folder_gets_a_new_auto_encoder(minilm: Path) -> None:
    ours = SparseEncoder(minilm, device="cpu")
    assert ours.get_embedding_dimension() == 4 * 384
    assert SparseEncoder.sparsity(ours.encode(["a b c"]))["active_dims"] <= 384 // 4
    assert ours.capabilities == {"sparse"}


def test_the_logits_of_a_batch_are_bounded(masked: Callable[[str], Path]) -> None:
    from raybert.encoders.sparse import LOGIT_BYTES

    ours = SparseEncoder(masked("bert"), device="cpu")
    assert ours.tokens_per_batch * ours.get_embedding_dimension() * 4 <= LOGIT_BYTES
