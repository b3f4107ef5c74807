from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import CrossEncoder as CrossOracle
from sentence_transformers import SentenceTransformer

from raybert import CrossEncoder, DenseEncoder, open_encoder
from raybert.errors import ModelError

Write = Callable[[Path, Any], None]


def test_a_sentence_transformer_is_dense(minilm: Path) -> None:
    assert isinstance(open_encoder(minilm, device="cpu"), DenseEncoder)


def test_a_plain_encoder_is_dense(small: Callable[[str], Path]) -> None:
    encoder = open_encoder(small("bert"), device="cpu")
    assert isinstance(encoder, DenseEncoder)
    assert encoder.get_embedding_dimension() == 48


def test_a_classifier_is_a_cross_encoder(build_model: Callable[..., Path], tmp_path: Path) -> None:
    plain = build_model(tmp_path / "plain", "bert", "ForSequenceClassification", num_labels=1)
    assert isinstance(open_encoder(plain, device="cpu"), CrossEncoder)
    CrossOracle(str(plain), device="cpu").save_pretrained(str(tmp_path / "saved"))
    assert isinstance(open_encoder(tmp_path / "saved", device="cpu"), CrossEncoder)


def test_folders_of_todays_version_open(
    small: Callable[[str], Path], tmp_path: Path, texts: list[str]
) -> None:
    oracle = SentenceTransformer(str(small("mpnet")), device="cpu", prompts={"query": "q: "})
    oracle.similarity_fn_name = "dot"
    oracle.max_seq_length = 20
    oracle.save_pretrained(str(tmp_path))
    ours = DenseEncoder(tmp_path, device="cpu")
    assert (ours.max_seq_length, ours.similarity_fn_name) == (20, "dot")
    assert abs(ours.encode_query(texts) - oracle.encode_query(texts)).max() <= 1e-5


def test_a_kind_without_an_encoder_is_refused(
    minilm: Path, tmp_path: Path, write_json: Write
) -> None:
    folder = tmp_path / "late"
    shutil.copytree(minilm, folder)
    write_json(folder / "config_sentence_transformers.json", {"model_type": "MultiVectorEncoder"})
    with pytest.raises(ModelError, match=r"model_type 'MultiVectorEncoder'; known are"):
        open_encoder(folder)


def test_a_dense_folder_opened_as_a_cross_encoder_gets_a_new_head(minilm: Path) -> None:
    encoder = CrossEncoder(minilm, device="cpu", num_labels=3)
    assert encoder.num_labels == 3
    assert encoder.predict([("a", "b")]).shape == (1, 3)


def test_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        open_encoder(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"model 'owner/none': no such folder, and not to be had"):
        open_encoder("owner/none")
