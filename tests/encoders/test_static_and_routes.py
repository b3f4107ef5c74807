"""Models that start without a transformer, or with one of several."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from raybert import DenseEncoder, SparseEncoder, open_encoder
from raybert.encoders import open_tokenizing
from raybert.errors import InputError, ModelError
from raybert.modules import (
    Normalize,
    Opening,
    Pooling,
    Router,
    SparseStaticEmbedding,
    StaticEmbedding,
    Transformer,
)

Small = Callable[[str], Path]


def round_trips(ours: Any, oracle_class: Any, folder: Path, texts: list[str]) -> None:
    """Ours in the oracle, the oracle's in ours, for queries, documents and neither."""
    ours.save_pretrained(folder / "ours")
    oracle = oracle_class(str(folder / "ours"), device="cpu")
    oracle.save_pretrained(str(folder / "theirs"))
    again = type(ours)(folder / "theirs", device="cpu")
    for method in ("encode", "encode_query", "encode_document"):
        expected = dense(getattr(oracle, method)(texts))
        for encoder in (ours, again):
            found = dense(getattr(encoder, method)(texts))
            np.testing.assert_allclose(found, expected, atol=1e-5)


def dense(vectors: Any) -> Any:
    return vectors.to_dense().numpy() if isinstance(vectors, torch.Tensor) else vectors


@pytest.fixture
def static(small: Small) -> StaticEmbedding:
    torch.manual_seed(2)
    tokenizer = Tokenizer.from_file(str(small("bert") / "tokenizer.json"))
    return StaticEmbedding(tokenizer, torch.randn(tokenizer.get_vocab_size(), 12))


def test_static_embeddings(static: StaticEmbedding, tmp_path: Path, texts: list[str]) -> None:
    ours = DenseEncoder([static], device="cpu")
    assert not ours.encode("").any()
    round_trips(ours, SentenceTransformer, tmp_path, texts)
    light = open_tokenizing(tmp_path / "ours")
    assert light.pre(texts).input_ids == ours.pre(texts).input_ids
    assert len(light.pre(["two words"]).input_ids[0]) < len(texts[-1])


def test_model2vec_folders(static: StaticEmbedding, tmp_path: Path, texts: list[str]) -> None:
    static.save(tmp_path)
    vocabulary = static.tokenizer.get_vocab_size()
    parts = {
        "embeddings": torch.randn(20, 12),
        "mapping": torch.randint(0, 20, (vocabulary,)),
        "weights": torch.rand(vocabulary),
    }
    save_file(parts, tmp_path / "model.safetensors")
    listing = [{"path": "", "type": "sentence_transformers.models.StaticEmbedding"}]
    (tmp_path / "modules.json").write_text(
        json.dumps([{"idx": 0, "name": "0", **entry} for entry in listing])
    )
    expected = SentenceTransformer(str(tmp_path), device="cpu").encode(texts)
    found = DenseEncoder(tmp_path, device="cpu").encode(texts)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    (tmp_path / "modules.json").unlink()
    (tmp_path / "config.json").write_text('{"model_type": "model2vec", "normalize": true}')
    plain = open_encoder(tmp_path, device="cpu")
    assert open_tokenizing(tmp_path).pre(texts).input_ids == plain.pre(texts).input_ids
    assert isinstance(plain, DenseEncoder)
    lengths = np.linalg.norm(expected, axis=1, keepdims=True).clip(min=1e-9)
    np.testing.assert_allclose(plain.encode(texts), expected / lengths, atol=1e-6)


def test_routes_of_a_dense_model(small: Small, tmp_path: Path, texts: list[str]) -> None:
    def route(kind: str) -> list[Any]:
        return [Transformer.open(small(kind), Opening()), Pooling(48)]

    router = Router.for_query_document(route("bert"), route("roberta"))
    ours = DenseEncoder([router, Normalize()], device="cpu")
    round_trips(ours, SentenceTransformer, tmp_path, texts)
    assert np.abs(ours.encode_query(texts) - ours.encode_document(texts)).max() > 0.01
    light = open_tokenizing(tmp_path / "ours")
    for task in ("query", "document"):
        assert light.pre(texts, task=task) == ours.pre(texts, task=task)


def test_a_query_has_a_term_or_not(small: Small) -> None:
    tokenizer = AutoTokenizer.from_pretrained(str(small("bert")))
    words = {word: float(place % 7) for word, place in tokenizer.get_vocab().items()}
    ours = SparseEncoder([SparseStaticEmbedding.from_weights(words, tokenizer)], device="cpu")
    repeated = ours.encode(["words words words", "words"]).to_dense()
    assert torch.equal(repeated[0], repeated[1])
    (place,) = tokenizer("words", add_special_tokens=False)["input_ids"]
    assert float(repeated[0][place]) == place % 7


def test_a_module_shared_by_two_routes_is_stored_once(small: Small, tmp_path: Path) -> None:
    transformer = Transformer.open(small("bert"), Opening())
    router = Router.for_query_document(
        [transformer, Pooling(48, "cls")], [transformer, Pooling(48)]
    )
    router.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [
        "document_1_Pooling",
        "query_0_Transformer",
        "query_1_Pooling",
    ]
    again = Router.load(tmp_path, Opening())
    assert again.sub_modules["query"][0] is again.sub_modules["document"][0]  # type: ignore[index]


@pytest.mark.parametrize(
    ("mappings", "task", "expected"),
    [
        ({("query", "text"): "b"}, "query", "b"),
        ({("query", None): "b", (None, "text"): "a"}, "query", "b"),
        ({(None, "text"): "b"}, "query", "b"),
        ({(None, None): "b"}, None, "b"),
        ({}, "b", "b"),
        ({}, None, "a"),
    ],
)
def test_order_of_routing(
    mappings: Any, task: str | None, expected: str, static: StaticEmbedding
) -> None:
    router = Router({"a": [static], "b": [static]}, route_mappings=mappings)
    assert router.routes.of(task) == expected


def test_faults(static: StaticEmbedding, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="route 'c': this router has a, b"):
        Router({"a": [static], "b": [static]}, default_route="c")
    router = Router({"a": [static], "b": [static]}, allow_empty_key=False)
    with pytest.raises(InputError, match="task None: this model has routes for a, b"):
        DenseEncoder([router], device="cpu").encode("x")
    with pytest.raises(ModelError, match="the first module must tokenize; Normalize does not"):
        DenseEncoder([Normalize()], device="cpu")
    (tmp_path / "router_config.json").write_text('{"types": {}}')
    with pytest.raises(ModelError, match="'structure' is missing"):
        Router.load(tmp_path, Opening())
    with pytest.raises(ModelError, match=r"has no tokenizer \(tokenizer\.json\)"):
        StaticEmbedding.open_tokenization(tmp_path, Opening())
