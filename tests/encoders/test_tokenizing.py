from __future__ import annotations

import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from raybert import DenseEncoder
from raybert.encoders import Tokenizing, open_tokenizing
from raybert.errors import InputError, ModelError


@pytest.fixture(scope="module")
def tokenizing(minilm: Path) -> Tokenizing:
    return open_tokenizing(minilm)


def test_tokenizing_needs_no_weights(
    tmp_path: Path, minilm: Path, tokenizing: Tokenizing, texts: list[str]
) -> None:
    folder = tmp_path / "light"
    shutil.copytree(minilm, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    light = open_tokenizing(folder)
    assert light.pre(texts) == tokenizing.pre(texts)
    with pytest.raises(ModelError, match="has no weights"):
        DenseEncoder(folder)


def test_it_is_the_encoders_own(minilm: Path, tokenizing: Tokenizing, texts: list[str]) -> None:
    assert DenseEncoder(minilm, device="cpu").pre(texts) == tokenizing.pre(texts)


def test_it_pickles(tokenizing: Tokenizing, texts: list[str]) -> None:
    assert pickle.loads(pickle.dumps(tokenizing)).pre(texts) == tokenizing.pre(texts)


def test_threads_may_share_it(tokenizing: Tokenizing, texts: list[str]) -> None:
    expected = tokenizing.pre(texts)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: tokenizing.pre(texts), range(64)))
    assert all(one == expected for one in found)


def test_a_limit_of_ones_own(minilm: Path) -> None:
    assert open_tokenizing(minilm, max_seq_length=8).pre(["word " * 20]).lengths == [8]


def test_prompt_length_counts_the_prompt_without_its_end(minilm: Path) -> None:
    prompted = open_tokenizing(minilm, prompts={"query": "query: "})
    assert prompted.pre(["what is ray"], task="query").prompt_length == 3
    assert prompted.pre(["what is ray"]).prompt_length == 0


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["passage", "corpus", "document"], "document"),
        (["corpus", "passage"], "passage"),
        (["corpus"], "corpus"),
        (["query"], ""),
    ],
)
def test_precedence_of_document_prompts(minilm: Path, names: list[str], expected: str) -> None:
    prompted = open_tokenizing(minilm, prompts={name: name for name in names})
    assert prompted.prompt(task="document") == expected
    assert prompted.prompt(task="query") == ("query" if "query" in names else "")


def test_what_is_no_pair_of_strings_is_refused(tokenizing: Tokenizing) -> None:
    with pytest.raises(InputError, match="text 1: a pair of strings is expected, not str 'b'"):
        tokenizing.pre([("a", "b"), "b"])


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        open_tokenizing(tmp_path / "nowhere")
