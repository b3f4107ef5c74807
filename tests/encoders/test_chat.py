"""Models that read conversations, against sentence-transformers, which writes them by template."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import CrossEncoder as CrossOracle
from sentence_transformers import SentenceTransformer

from raybert import CrossEncoder, DenseEncoder, open_encoder
from raybert.encoders import open_tokenizing
from raybert.errors import ModelError

PAIRS = [("what is ray", "Ray runs Python on many machines."), ("a", "the lazy dog"), ("", "x")]
CUT = ("what is the limit", "the lazy dog is long, " * 20)
FLAT = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }} {% endfor %}"
    "{% if add_generation_prompt %}what is the limit{% endif %}"
)
STRUCTURED = "{% for m in messages %}{{ m.role }} {{ m.content[0].text }} of {% endfor %}the dog"


def write(folder: Path, template: str) -> Path:
    (folder / "chat_template.jinja").write_text(template)
    return folder


def same(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("template", [FLAT, STRUCTURED], ids=["flat", "structured"])
def test_a_reranker_that_chats(template: str, answering: Path, tmp_path: Path) -> None:
    """One by one, as the reference counts positions from the padding; the last pair is cut."""
    ours = CrossEncoder(write(answering, template), device="cpu")
    oracle = CrossOracle(str(answering), device="cpu")
    pairs = [*PAIRS, CUT]
    expected = [float(oracle.predict(pair)) for pair in pairs]
    assert len(set(expected)) == len(pairs)
    same(ours.predict(pairs), expected)
    prompted = [float(oracle.predict(pair, prompt="two words")) for pair in pairs]
    assert not np.allclose(prompted, expected)
    same(ours.predict(pairs, prompt="two words"), prompted)

    ours.save_pretrained(tmp_path / "ours")
    theirs = CrossOracle(str(tmp_path / "ours"), device="cpu")
    same([float(theirs.predict(pair)) for pair in pairs], expected)
    theirs.save_pretrained(str(tmp_path / "theirs"))
    same(open_encoder(tmp_path / "theirs", device="cpu").predict(pairs), expected)  # type: ignore[attr-defined]


def test_the_folder_says_what_else_the_template_is_given(answering: Path, tmp_path: Path) -> None:
    oracle = CrossOracle(str(write(answering, FLAT)), device="cpu")
    bare = [float(oracle.predict(pair)) for pair in PAIRS]
    oracle[0].processing_kwargs = {"chat_template": {"add_generation_prompt": True}}
    oracle.save_pretrained(str(tmp_path / "theirs"))
    expected = [float(oracle.predict(pair)) for pair in [*PAIRS, CUT]]
    assert not np.allclose(expected[:3], bare)
    ours = CrossEncoder(tmp_path / "theirs", device="cpu")
    same(ours.predict([*PAIRS, CUT]), expected)
    ours.save_pretrained(tmp_path / "ours")
    again = CrossOracle(str(tmp_path / "ours"), device="cpu")
    same([float(again.predict(pair)) for pair in [*PAIRS, CUT]], expected)


def test_a_dense_model_that_chats(
    build_model: Callable[..., Path], tmp_path: Path, texts: list[str]
) -> None:
    plain = write(build_model(tmp_path / "plain", "llama"), FLAT)
    ours, oracle = DenseEncoder(plain, device="cpu"), SentenceTransformer(str(plain), device="cpu")
    same(ours.encode(texts), oracle.encode(texts))
    same(ours.encode(texts, prompt="two"), oracle.encode(texts, prompt="two"))
    ours.save_pretrained(tmp_path / "ours")
    same(
        SentenceTransformer(str(tmp_path / "ours"), device="cpu").encode(texts), ours.encode(texts)
    )


def test_a_folder_of_texts_stays_one_though_its_tokenizer_could_chat(
    build_model: Callable[..., Path], tmp_path: Path, texts: list[str]
) -> None:
    plain = build_model(tmp_path / "plain", "llama")
    folder = DenseEncoder(plain, device="cpu").save_pretrained(tmp_path / "texts")
    before = DenseEncoder(folder, device="cpu").encode(texts)
    again = DenseEncoder(write(folder, FLAT), device="cpu")
    same(again.encode(texts), before)
    same(SentenceTransformer(str(folder), device="cpu").encode(texts), before)
    same(DenseEncoder(again.save_pretrained(tmp_path / "new"), device="cpu").encode(texts), before)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for m in messages %}{{ m.content if m.role == 'query' }}{% endfor %}",
         "does not write the roles 'query' and 'document'"),
        ("{{ raise_exception('roles must alternate') }}", "template failed: roles must alternate"),
    ],
)  # fmt: skip
def test_a_template_that_cannot_read_pairs(template: str, said: str, answering: Path) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        open_tokenizing(write(answering, template)).pre([("a", "b")])
    assert "\n" not in str(caught.value)
