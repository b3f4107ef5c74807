from pathlib import Path

import pytest

from raybert.artifacts import content_hash, fingerprint, fingerprint_folder, hash_bytes
from raybert.errors import ModelError


def test_fingerprint_ignores_key_order_and_sees_values() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": "1"})
    assert len(fingerprint(None)) == 32


def test_content_hash_separates_text_and_context() -> None:
    assert content_hash("b", "a") != content_hash("ab", "")
    assert content_hash("x", "one") != content_hash("x", "two")
    assert content_hash("x", "one") == content_hash("x", "one")


def test_hash_bytes_is_labelled() -> None:
    assert hash_bytes(b"") == "xxh3:2d06800538d394c2"


def test_a_model_card_does_not_make_another_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text("{}")
    before = fingerprint_folder(tmp_path)
    (tmp_path / "README.md").write_text("a card")
    (tmp_path / ".gitattributes").write_text("x")
    assert fingerprint_folder(tmp_path) == before
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    assert fingerprint_folder(tmp_path) != before


def test_no_folder_and_an_empty_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model folder"):
        fingerprint_folder(tmp_path / "absent")
    with pytest.raises(ModelError, match="empty"):
        fingerprint_folder(tmp_path)
