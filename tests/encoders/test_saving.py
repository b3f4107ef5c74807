"""A folder written by either library opens in the other with the same result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sentence_transformers import CrossEncoder as CrossOracle
from sentence_transformers import SentenceTransformer

from raybert import CrossEncoder, DenseEncoder
from raybert.encoders import ModelCard
from raybert.modules import Dense, Normalize, Opening, Pooling, Transformer

PAIRS = [("what is ray", "Ray runs Python."), ("a", "the lazy dog")]


def built(small: Callable[[str], Path], kind: str) -> DenseEncoder:
    """A model built from modules by hand."""
    transformer = Transformer.open(small(kind), Opening())
    width = transformer.width(0)
    torch.manual_seed(3)
    modules = [transformer, Pooling(width, ["cls", "mean"]), Dense(2 * width, 24), Normalize()]
    return DenseEncoder(modules, device="cpu", prompts={"query": "q: "}, similarity_fn_name="dot")


def test_ours_opens_in_the_oracle(
    small: Callable[[str], Path], tmp_path: Path, texts: list[str]
) -> None:
    ours = built(small, "bert")
    ours.max_seq_length = 32
    ours.save_pretrained(tmp_path / "model")
    oracle = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    np.testing.assert_allclose(ours.encode_query(texts), oracle.encode_query(texts), atol=1e-5)
    assert oracle.max_seq_length == 32
    assert oracle.similarity_fn_name == "dot"
    assert oracle.prompts == {"query": "q: ", "document": ""}
    again = DenseEncoder(tmp_path / "model", device="cpu")
    assert again.encode(texts).tobytes() == ours.encode(texts).tobytes()
    assert (again.max_seq_length, again.similarity_fn_name) == (32, "dot")


def test_a_model_built_by_hand_is_the_folder(minilm: Path, texts: list[str]) -> None:
    transformer = Transformer.open(minilm, max_seq_length=256)
    modules = [transformer, Pooling(transformer.width(), "mean"), Normalize()]
    built = DenseEncoder(modules, device="cpu")
    folder = DenseEncoder(minilm, device="cpu")
    assert built.encode(texts).tobytes() == folder.encode(texts).tobytes()
    assert built.max_seq_length == 256
    assert built.folder is None


def test_real_weights_keep_every_bit(minilm: Path, tmp_path: Path, texts: list[str]) -> None:
    before = DenseEncoder(minilm, device="cpu")
    vectors = before.encode(texts)
    before.save_pretrained(tmp_path / "model")
    assert DenseEncoder(tmp_path / "model", device="cpu").encode(texts).tobytes() == (
        vectors.tobytes()
    )


def test_keys_and_types_are_those_of_every_version(
    small: Callable[[str], Path], tmp_path: Path
) -> None:
    built(small, "bert").save_pretrained(tmp_path / "model")
    listing = json.loads((tmp_path / "model" / "modules.json").read_text())
    assert [(entry["path"], entry["type"]) for entry in listing] == [
        ("", "sentence_transformers.models.Transformer"),
        ("1_Pooling", "sentence_transformers.models.Pooling"),
        ("2_Dense", "sentence_transformers.models.Dense"),
        ("3_Normalize", "sentence_transformers.models.Normalize"),
    ]
    pooling = json.loads((tmp_path / "model" / "1_Pooling" / "config.json").read_text())
    assert "pooling_mode" not in pooling
    assert pooling["word_embedding_dimension"] == 48
    settings = json.loads((tmp_path / "model" / "sentence_bert_config.json").read_text())
    assert set(settings) == {"max_seq_length", "do_lower_case"}


def test_settings_are_those_of_every_version(small: Callable[[str], Path], tmp_path: Path) -> None:
    transformer = Transformer.open(small("bert"))
    DenseEncoder([transformer, Pooling(48)], device="cpu").save_pretrained(tmp_path / "model")
    settings = json.loads((tmp_path / "model" / "config_sentence_transformers.json").read_text())
    assert settings["default_prompt_name"] is None
    assert settings["prompts"] == {"query": "", "document": ""}
    assert (settings["model_type"], settings["similarity_fn_name"]) == (
        "SentenceTransformer",
        "cosine",
    )


def test_the_fingerprint_is_the_saved_folders(small: Callable[[str], Path], tmp_path: Path) -> None:
    ours = built(small, "bert")
    ours.save_pretrained(tmp_path / "model")
    first = ours.fingerprint
    assert first == DenseEncoder(tmp_path / "model", device="cpu").fingerprint
    with torch.no_grad():
        next(ours.model.parameters()).add_(1)
    ours.save_pretrained(tmp_path / "model")
    assert ours.fingerprint != first


def test_truncation_is_kept(minilm: Path, tmp_path: Path) -> None:
    DenseEncoder(minilm, device="cpu", truncate_dim=32).save_pretrained(tmp_path / "model")
    assert DenseEncoder(tmp_path / "model", device="cpu").get_embedding_dimension() == 32


def test_cross_encoders_keep_activation_and_length(
    build_model: Callable[..., Path], tmp_path: Path
) -> None:
    plain = build_model(tmp_path / "plain", "bert", "ForSequenceClassification", num_labels=1)
    ours = CrossEncoder(plain, device="cpu", activation_fn=torch.nn.Identity(), max_length=20)
    ours.save_pretrained(tmp_path / "ours")
    oracle = CrossOracle(str(tmp_path / "ours"), device="cpu")
    np.testing.assert_allclose(ours.predict(PAIRS), oracle.predict(PAIRS), atol=1e-5)
    assert oracle.max_seq_length == 20
    oracle.save_pretrained(str(tmp_path / "theirs"))
    again = CrossEncoder(tmp_path / "theirs", device="cpu")
    np.testing.assert_allclose(again.predict(PAIRS), ours.predict(PAIRS), atol=1e-5)
    assert CrossEncoder(tmp_path / "ours", device="cpu").max_seq_length == 20


def test_the_card_says_what_it_was_told(small: Callable[[str], Path], tmp_path: Path) -> None:
    card = ModelCard(
        name="Tiny",
        base_model="owner/base",
        languages=["en"],
        licence="apache-2.0",
        datasets=["questions | answers, 12 rows"],
        losses=["MultipleNegativesRanking"],
        settings={"learning_rate": 2e-5},
        metrics={"ndcg@10": 0.5},
        lineage="model abc\n└ pairs def",
    )
    built(small, "bert").save_pretrained(tmp_path / "model", card=card)
    text = (tmp_path / "model" / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert front["tags"] == ["sentence-transformers", "sentence-similarity", "raybert"]
    assert front["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.5
    for said in ("# Tiny", "12 rows", "MultipleNegatives", "2e-05", "0.5000", "└ pairs def"):
        assert said in text


def test_a_failed_save_leaves_the_old_model(
    minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = DenseEncoder(minilm, device="cpu")
    ours.save_pretrained(tmp_path / "model")
    before = ours.fingerprint

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Pooling, "save", full)
    with pytest.raises(OSError, match="No space left"):
        ours.save_pretrained(tmp_path / "model")
    assert DenseEncoder(tmp_path / "model", device="cpu").fingerprint == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
