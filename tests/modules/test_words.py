from __future__ import annotations

from pathlib import Path

import pytest
import torch

from raybert.errors import InputError, ModelError
from raybert.modules import BoW, Opening, WhitespaceTokenizer, WordEmbeddings, WordWeights
from raybert.modules.checkpoint import write_config

WORDS = ["PAD", "hello", "Ray", "light", "of"]


def test_words_are_tried_as_they_are_then_bare_then_lower_cased() -> None:
    split = WhitespaceTokenizer(WORDS, stop_words=["of"])
    assert split(["hello, Ray! LIGHT. of unknown"])["input_ids"] == [[1, 2, 3]]
    assert split(["Of (of) hello"], max_length=1)["input_ids"] == [[1]]
    lowered = WhitespaceTokenizer(["ray"], do_lower_case=True)
    assert lowered(["RAY ray"])["input_ids"] == [[0, 0]]
    assert split.convert_ids_to_tokens([1, 3]) == ["hello", "light"]


def test_pairs_are_refused() -> None:
    module = WordEmbeddings(WhitespaceTokenizer(WORDS), torch.randn(5, 3))
    with pytest.raises(InputError, match="single texts, not pairs"):
        module.tokenization([("a", "b")])


def test_texts_are_cut_at_the_limit() -> None:
    module = WordEmbeddings(WhitespaceTokenizer(WORDS), torch.randn(5, 3), max_seq_length=2)
    assert module.tokenization(["hello hello hello"]).lengths == [2]


def test_a_bag_counts() -> None:
    module = BoW(WORDS, {"hello": 2.0, "ray": 3.0}, unknown_word_weight=0.5)
    features = module.tokenization.pad(module.tokenization(["hello hello Ray light", ""]))
    found = module(features)["sentence_embedding"]
    assert found.tolist() == [[0, 4, 3, 0.5, 0], [0, 0, 0, 0, 0]]


def test_weights_divide_what_they_multiplied() -> None:
    words = WordEmbeddings(WhitespaceTokenizer(WORDS), torch.eye(5))
    features = words(words.tokenization.pad(words.tokenization(["hello Ray"])))
    found = WordWeights(WORDS, {"hello": 3.0})(features)
    assert found["token_embeddings"].diagonal(dim1=1, dim2=2).shape == (1, 2)
    assert found["token_weights_sum"].tolist() == [4.0]
    assert found["token_embeddings"][0, 0, 1] == 3


def test_word_vectors_from_text(tmp_path: Path) -> None:
    path = tmp_path / "glove.txt"
    path.write_text("2 3\nhello 1 2 3\nray 4 5 6\n")
    module = WordEmbeddings.from_text_file(path)
    assert module.emb_layer.weight.tolist() == [[0, 0, 0], [1, 2, 3], [4, 5, 6]]
    assert module.tokenization(["Ray, hello"]).input_ids == [[2, 1]]
    assert len(WordEmbeddings.from_text_file(path, max_words=1).emb_layer.weight) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hello 1 2\nray 1\n", "line 2: 1 numbers; 2 are expected"),
        ("hello 1 2\nray a b\n", "line 2: a word and its numbers are expected"),
        ("", "has no word vectors"),
    ],
)
def test_word_vectors_that_are_none(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "glove.txt"
    path.write_text(text)
    with pytest.raises(ModelError, match=said):
        WordEmbeddings.from_text_file(path)


def test_faults_in_folders(tmp_path: Path) -> None:
    WordEmbeddings(WhitespaceTokenizer(WORDS[:2]), torch.randn(2, 3)).save(tmp_path)
    WhitespaceTokenizer(WORDS).save_pretrained(str(tmp_path))
    with pytest.raises(ModelError, match=r"emb_layer.weight, \[5 words, D\] is expected"):
        WordEmbeddings.load(tmp_path, Opening())
    write_config(tmp_path / "wordembedding_config.json", {"tokenizer_class": "evil.code.Run"})
    with pytest.raises(ModelError, match="tokenizer_class 'Run': allowed are Whitespace"):
        WordEmbeddings.open_tokenization(tmp_path, Opening())
    write_config(tmp_path / "config.json", {})
    with pytest.raises(ModelError, match="vocab is missing"):
        BoW.load(tmp_path, Opening())
