from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from raybert import DenseEncoder
from raybert.errors import InputError, ModelError

HELLO = [-0.03447727, 0.0310232, 0.00673498, 0.02610899, -0.03936202]


@pytest.fixture(scope="module")
def encoder(minilm: Path) -> DenseEncoder:
    return DenseEncoder(minilm, device="cpu")


@pytest.fixture(scope="module")
def oracle(minilm: Path) -> SentenceTransformer:
    return SentenceTransformer(str(minilm), device="cpu")


def least_cosine(a: Any, b: Any) -> float:
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return float(((a * b).sum(-1) / norms).min())


def test_real_weights_give_the_oracles_vectors(
    encoder: DenseEncoder, oracle: SentenceTransformer, texts: list[str]
) -> None:
    ours, theirs = encoder.encode(texts), oracle.encode(texts)
    assert least_cosine(ours, theirs) >= 0.99999
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_the_vector_of_hello_world(encoder: DenseEncoder) -> None:
    np.testing.assert_allclose(encoder.encode("Hello world")[:5], HELLO, atol=1e-6)


def test_long_texts_are_cut_at_the_models_limit_not_the_tokenizers(encoder: DenseEncoder) -> None:
    assert encoder.max_seq_length == 256
    assert encoder.pre(["word " * 1000]).lengths == [256]


def test_a_limit_set_by_hand_is_kept(minilm: Path) -> None:
    shorter = DenseEncoder(minilm, device="cpu")
    shorter.max_seq_length = 16
    assert shorter.pre(["word " * 1000, "one"]).lengths == [16, 3]


def test_a_vector_does_not_depend_on_its_batch(encoder: DenseEncoder, texts: list[str]) -> None:
    together = encoder.encode(texts)
    alone = np.stack([encoder.encode(text) for text in texts])
    tight = encoder.encode(texts, tokens_per_batch=1)
    wide = encoder.encode([*texts, "filler " * 200])[: len(texts)]
    for other in (alone, tight, wide):
        assert np.abs(together - other).max() <= 1e-5


def test_the_same_tokens_give_the_same_bits(encoder: DenseEncoder, texts: list[str]) -> None:
    first, _ = encoder.encode_tokens(encoder.pre(texts))
    again, _ = encoder.encode_tokens(encoder.pre(texts))
    assert first.tobytes() == again.tobytes()


def test_shapes(encoder: DenseEncoder) -> None:
    assert encoder.encode([]).shape == (0,)
    assert encoder.encode("").shape == (384,)
    assert encoder.encode([""]).shape == (1, 384)
    assert encoder.encode(np.array(["a", "b"])).shape == (2, 384)
    assert encoder.get_embedding_dimension() == 384


def test_outputs_as_tensors_and_lists(encoder: DenseEncoder) -> None:
    tensor = encoder.encode(["a", "b"], convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor)
    assert tensor.shape == (2, 384)
    listed = encoder.encode(["a", "b"], convert_to_numpy=False)
    assert isinstance(listed, list)
    assert torch.equal(torch.stack(listed), tensor)


def test_token_embeddings_keep_special_tokens_and_lose_padding(
    encoder: DenseEncoder, oracle: SentenceTransformer
) -> None:
    ours = encoder.encode(["a b c", "a"], output_value="token_embeddings")
    theirs = oracle.encode(["a b c", "a"], output_value="token_embeddings")
    assert [len(tokens) for tokens in ours] == [5, 3]
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other.cpu(), atol=1e-5)
    features = encoder.encode("a", output_value=None)
    assert {"token_embeddings", "sentence_embedding", "input_ids"} <= set(features)
    with pytest.raises(InputError, match="output_value 'words'"):
        encoder.encode("a", output_value="words")


def test_truncation_comes_before_normalization(encoder: DenseEncoder) -> None:
    cut = encoder.encode("Hello world", truncate_dim=64)
    assert np.linalg.norm(cut) == pytest.approx(0.40830702, abs=1e-6)
    unit = encoder.encode("Hello world", truncate_dim=64, normalize_embeddings=True)
    assert np.linalg.norm(unit) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(unit[:3], [-0.08444, 0.07598, 0.01649], atol=1e-5)
    assert encoder.encode("Hello world", truncate_dim=999).shape == (384,)


def test_truncate_dim_of_the_encoder(minilm: Path) -> None:
    small_encoder = DenseEncoder(minilm, device="cpu", truncate_dim=64)
    assert small_encoder.get_embedding_dimension() == 64
    assert small_encoder.encode(["a"]).shape == (1, 64)
    with small_encoder.truncate_embeddings(32):
        assert small_encoder.encode(["a"]).shape == (1, 32)
    assert small_encoder.truncate_dim == 64


def test_a_prompt_is_put_before_the_text(encoder: DenseEncoder, minilm: Path) -> None:
    prompted = DenseEncoder(
        minilm, device="cpu", prompts={"query": "query: ", "passage": "passage: "}
    )
    plain = encoder.encode("query: what is ray")
    for found in (
        prompted.encode("what is ray", prompt="query: "),
        prompted.encode("what is ray", prompt_name="query"),
        prompted.encode("what is ray", prompt="query: ", prompt_name="passage"),
        prompted.encode_query("what is ray"),
    ):
        assert found.tobytes() == plain.tobytes()
    document = prompted.encode_document("what is ray")
    assert document.tobytes() == encoder.encode("passage: what is ray").tobytes()
    with pytest.raises(InputError, match="prompt_name 'bogus': this model has query, passage"):
        prompted.encode("a", prompt_name="bogus")


def test_a_default_prompt_and_how_to_turn_it_off(encoder: DenseEncoder, minilm: Path) -> None:
    prompted = DenseEncoder(minilm, device="cpu", prompts={"q": "query: "}, default_prompt_name="q")
    assert prompted.encode("a").tobytes() == encoder.encode("query: a").tobytes()
    assert prompted.encode("a", prompt="").tobytes() == encoder.encode("a").tobytes()
    with pytest.raises(ModelError, match="default_prompt_name 'x': this model has q"):
        DenseEncoder(minilm, device="cpu", prompts={"q": ""}, default_prompt_name="x")


def test_prompt_tokens_may_be_left_out_of_the_mean(
    encoder: DenseEncoder,
    minilm: Path,
    tmp_path: Path,
    write_json: Callable[[Path, Any], None],
) -> None:
    folder = tmp_path / "instructor"
    shutil.copytree(minilm, folder)
    config = {"word_embedding_dimension": 384, "pooling_mode_mean_tokens": True}
    write_json(folder / "1_Pooling" / "config.json", {**config, "include_prompt": False})
    without = DenseEncoder(folder, device="cpu")
    theirs = SentenceTransformer(str(folder), device="cpu").encode("what is ray", prompt="query: ")
    ours = without.encode("what is ray", prompt="query: ")
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    both = encoder.encode("what is ray", prompt="query: ")
    assert least_cosine(ours[None], both[None]) == pytest.approx(0.96497, abs=1e-4)


def test_similarity_is_the_folders_or_the_one_asked_for(encoder: DenseEncoder) -> None:
    vectors = encoder.encode(["a cat", "a kitten", "the stock market"])
    scores = encoder.similarity(vectors, vectors)
    assert scores.shape == (3, 3)
    assert scores[0, 1] > scores[0, 2]
    pairs = encoder.similarity_pairwise(vectors[:2], vectors[1:])
    torch.testing.assert_close(pairs, torch.stack([scores[0, 1], scores[1, 2]]))
    assert encoder.similarity_fn_name == "cosine"
    with pytest.raises(InputError, match="similarity 'cos'"):
        encoder.similarity_fn_name = "cos"
    assert encoder.similarity_fn_name == "cosine"


def test_precisions(encoder: DenseEncoder, oracle: SentenceTransformer, texts: list[str]) -> None:
    for precision in ("int8", "uint8", "binary", "ubinary"):
        ours = encoder.encode(texts, precision=precision)
        theirs = oracle.encode(texts, precision=precision)
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        assert (ours == theirs).mean() > 0.99
    with pytest.raises(InputError, match="one text has no ranges"):
        encoder.encode("a", precision="int8")


def test_what_is_no_text_is_refused_with_its_row(encoder: DenseEncoder) -> None:
    with pytest.raises(InputError, match=r"text 1: a string is expected, not NoneType 'None'"):
        encoder.encode(["a", None])  # type: ignore[list-item]
    with pytest.raises(InputError, match=r"text 0: a string is expected, not float"):
        encoder.pre([3.5])  # type: ignore[list-item]
    with pytest.raises(InputError, match="not one string"):
        encoder.pre("a")
    with pytest.raises(InputError, match="not int"):
        encoder.encode(3)  # type: ignore[arg-type]


def test_bfloat16_stays_near(minilm: Path, encoder: DenseEncoder, texts: list[str]) -> None:
    half = DenseEncoder(minilm, device="cpu", dtype="bfloat16")
    assert half.dtype == torch.bfloat16
    vectors = half.encode(texts)
    assert vectors.dtype == np.float32
    assert least_cosine(vectors, encoder.encode(texts)) > 0.999


def test_capabilities_and_fingerprint(encoder: DenseEncoder, minilm: Path) -> None:
    assert encoder.capabilities == {"dense"}
    assert encoder.fingerprint == DenseEncoder(minilm, device="cpu").fingerprint
    assert encoder.prompts == {}
    assert encoder.device.type == "cpu"
    assert encoder.dtype == torch.float32


def test_usage_counts_tokens_and_padding(encoder: DenseEncoder) -> None:
    tokens = encoder.pre(["a", "a b c d e f g h"])
    _, usage = encoder.encode_tokens(tokens)
    assert (usage.tokens, usage.computed_tokens) == (13, 20)
    _, usage = encoder.encode_tokens(tokens, tokens_per_batch=10)
    assert usage.padding_share == 0
