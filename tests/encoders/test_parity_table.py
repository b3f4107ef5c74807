"""The parity table: every architecture, pooling and module, in either library and from its files.

Each case is a small random model. What it gives must be what sentence-transformers gives with the
folder we wrote, and what we give with the folder sentence-transformers wrote: cosine >= 0.99999.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import CrossEncoder as CrossOracle
from sentence_transformers import SentenceTransformer
from sentence_transformers import SparseEncoder as SparseOracle
from tokenizers import Tokenizer
from torch import nn

from raybert import CrossEncoder, DenseEncoder, SparseEncoder
from raybert.errors import InputError
from raybert.modules import (
    CNN,
    LSTM,
    BoW,
    Dense,
    Dropout,
    LayerNorm,
    Module,
    Normalize,
    Pooling,
    Router,
    SparseAutoEncoder,
    SparseStaticEmbedding,
    SpladePooling,
    StaticEmbedding,
    Transformer,
    WeightedLayerPooling,
    WhitespaceTokenizer,
    WordEmbeddings,
    WordWeights,
)

FLOOR = 0.99999
PAIRS = [("what is ray", "Ray runs Python on many machines."), ("a", "the lazy dog"), ("", "x")]
ARCHITECTURES = [
    "bert", "distilbert", "llama", "modernbert", "mpnet", "roberta", "t5", "xlm-roberta",
]  # fmt: skip
POOLINGS: list[str | list[str]] = [
    "cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken",
    ["cls", "mean", "max"], ["mean", "cls", "max"],
]  # fmt: skip
WORDS = ["PADDING", "hello", "what", "is", "ray", "two", "words", "dog", "lazy", "the", "of"]
Small = Callable[[str], Path]
Build = Callable[..., Path]


def as_rows(found: Any) -> Any:
    """Any result as dense float64 rows."""
    if isinstance(found, torch.Tensor):
        found = found.to_dense().cpu().numpy()
    return np.atleast_2d(np.asarray(found, dtype=np.float64))


def agree(found: Any, expected: Any) -> None:
    """Hold every row to the cosine's floor, a row of zeros to zeros, and each value to 1e-5."""
    mine, theirs = as_rows(found), as_rows(expected)
    assert mine.shape == theirs.shape
    np.testing.assert_allclose(mine, theirs, atol=1e-5 * max(1.0, np.abs(theirs).max()))
    norms = np.linalg.norm(mine, axis=1) * np.linalg.norm(theirs, axis=1)
    cosines = (mine * theirs).sum(axis=1)[norms > 0] / norms[norms > 0]
    assert cosines.min(initial=1.0) >= FLOOR


def agree_both_ways(ours: Any, oracle_class: Any, folder: Path, inputs: Any, *methods: str) -> Any:
    """Write with ours, read and write with the oracle, read with ours; all give the same."""
    ours.save_pretrained(folder / "ours")
    oracle = oracle_class(str(folder / "ours"), device="cpu")
    oracle.save_pretrained(str(folder / "theirs"))
    again = type(ours)(folder / "theirs", device="cpu")
    for method in methods or ("encode",):
        expected = getattr(oracle, method)(inputs)
        agree(getattr(ours, method)(inputs), expected)
        agree(getattr(again, method)(inputs), expected)
    return again


@pytest.fixture(scope="module")
def bert(small: Small) -> Transformer:
    return Transformer.open(small("bert"))


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_architectures(kind: str, small: Small, tmp_path: Path, texts: list[str]) -> None:
    ours = DenseEncoder(small(kind), device="cpu")
    agree(ours.encode(texts), SentenceTransformer(str(small(kind)), device="cpu").encode(texts))
    agree_both_ways(ours, SentenceTransformer, tmp_path, texts)


@pytest.mark.parametrize("kind", ["bert", "llama", "modernbert", "t5"])
def test_a_tokenizer_that_pads_on_the_left(
    kind: str, small: Small, tmp_path: Path, texts: list[str]
) -> None:
    """It changes nothing: the vectors are the oracle's for each text alone."""
    folder = shutil.copytree(small(kind), tmp_path / "left")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "padding_side": "left"}))
    ours = DenseEncoder(folder, device="cpu")
    oracle = SentenceTransformer(str(folder), device="cpu")
    assert oracle.tokenizer.padding_side == ours.tokenizer.padding_side == "left"
    agree(ours.encode(texts), np.stack([oracle.encode(text) for text in texts]))


@pytest.mark.parametrize("mode", POOLINGS)
def test_poolings(
    mode: str | list[str], bert: Transformer, tmp_path: Path, texts: list[str]
) -> None:
    ours = DenseEncoder([bert, Pooling(48, mode)], device="cpu")
    agree_both_ways(ours, SentenceTransformer, tmp_path, texts)


def test_pooling_without_the_prompt(bert: Transformer, tmp_path: Path, texts: list[str]) -> None:
    pooling = Pooling(48, ["mean", "weightedmean", "lasttoken"], include_prompt=False)
    prompts = {"query": "what is: ", "document": "the text: "}
    ours = DenseEncoder([bert, pooling], device="cpu", prompts=prompts)
    agree_both_ways(
        ours, SentenceTransformer, tmp_path, texts, "encode", "encode_query", "encode_document"
    )


def words() -> WordEmbeddings:
    torch.manual_seed(5)
    vectors = torch.randn(len(WORDS), 12)
    vectors[0] = 0
    return WordEmbeddings(WhitespaceTokenizer(WORDS, stop_words=["of"]), vectors)


WEIGHTS = {"ray": 3.0, "dog": 2.0, "lazy": 0.25}
BEHIND: dict[str, Callable[[], list[Module]]] = {
    "dense": lambda: [Pooling(48), Dense(48, 20)],
    "dense residual": lambda: [Pooling(48), Dense(48, 20, use_residual=True), Normalize()],
    "dense on tokens": lambda: [
        Dense(48, 20, False, nn.Identity(), module_input_name="token_embeddings"),
        Pooling(20),
    ],
    "layer norm": lambda: [Pooling(48), LayerNorm(48)],
    "dropout": lambda: [Pooling(48), Dropout(0.4)],
    "normalize": lambda: [Pooling(48), Normalize()],
}
WHOLE: dict[str, Callable[[], list[Module]]] = {
    "bag of words": lambda: [BoW(WORDS, WEIGHTS, 0.5)],
    "bag of words once": lambda: [BoW(WORDS, WEIGHTS, 0.5, False), Dense(len(WORDS), 5)],
    "word vectors": lambda: [words(), Pooling(12, ["mean", "max"])],
    "word weights": lambda: [
        words(),
        WordWeights(WORDS, WEIGHTS, 0.5),
        Pooling(12, ["mean", "mean_sqrt_len_tokens", "weightedmean"]),
    ],
    "cnn": lambda: [words(), CNN(12, 6, [1, 3]), Pooling(12)],
    "lstm": lambda: [words(), LSTM(12, 6), Pooling(12)],
}


@pytest.mark.parametrize("name", BEHIND)
def test_modules_behind_a_transformer(
    name: str, bert: Transformer, tmp_path: Path, texts: list[str]
) -> None:
    torch.manual_seed(4)
    ours = DenseEncoder([bert, *BEHIND[name]()], device="cpu")
    agree_both_ways(ours, SentenceTransformer, tmp_path, texts)


@pytest.mark.parametrize("name", WHOLE)
def test_models_of_words(name: str, tmp_path: Path) -> None:
    torch.manual_seed(4)
    known = ["What is Ray?", "two words, of the lazy dog", "hello hello (hello)"]
    ours = DenseEncoder(WHOLE[name](), device="cpu")
    again = agree_both_ways(ours, SentenceTransformer, tmp_path, known)
    assert not np.allclose(again.encode(known)[0], again.encode(known)[1])
    assert not np.isnan(again.encode(["", "all unknown"])).any()


def test_static_vectors(small: Small, tmp_path: Path, texts: list[str]) -> None:
    torch.manual_seed(2)
    tokenizer = Tokenizer.from_file(str(small("bert") / "tokenizer.json"))
    static = StaticEmbedding(tokenizer, torch.randn(tokenizer.get_vocab_size(), 12))
    ours = DenseEncoder([static, Normalize()], device="cpu")
    agree_both_ways(ours, SentenceTransformer, tmp_path, texts)


def test_weighted_layers(build_model: Build, tmp_path: Path, texts: list[str]) -> None:
    plain = build_model(tmp_path / "plain", "bert", output_hidden_states=True)
    layers = WeightedLayerPooling(48, 2, 1)
    with torch.no_grad():
        layers.layer_weights.copy_(torch.tensor([0.2, 1.5]))
    transformer = Transformer.open(plain)
    ours = DenseEncoder([transformer, layers, Pooling(48)], device="cpu")
    agree_both_ways(ours, SentenceTransformer, tmp_path, texts)
    last_only = DenseEncoder([transformer, Pooling(48)], device="cpu").encode(texts)
    assert np.abs(last_only - ours.encode(texts)).max() > 1e-2


def test_routes(bert: Transformer, small: Small, tmp_path: Path, texts: list[str]) -> None:
    other = [Transformer.open(small("roberta")), Pooling(48, "cls")]
    router = Router.for_query_document([bert, Pooling(48)], other)
    ours = DenseEncoder([router, Normalize()], device="cpu")
    agree_both_ways(
        ours, SentenceTransformer, tmp_path, texts, "encode", "encode_query", "encode_document"
    )


@pytest.mark.parametrize("strategy", ["max", "sum"])
@pytest.mark.parametrize("activation", ["relu", "log1p_relu"])
def test_splade(
    strategy: str, activation: str, build_model: Build, tmp_path: Path, texts: list[str]
) -> None:
    plain = build_model(tmp_path / "plain", "bert", "ForMaskedLM")
    masked = Transformer.open(plain, task="fill-mask")
    ours = SparseEncoder([masked, SpladePooling(strategy, activation)], device="cpu")
    agree_both_ways(ours, SparseOracle, tmp_path, texts)


def test_inference_free_splade(build_model: Build, tmp_path: Path, texts: list[str]) -> None:
    plain = build_model(tmp_path / "plain", "distilbert", "ForMaskedLM")
    masked = Transformer.open(plain, task="fill-mask")
    tokenizer = masked.tokenization.tokenizer
    idf = {word: 1 + place % 7 for word, place in tokenizer.get_vocab().items()}
    queries = SparseStaticEmbedding.from_weights(idf, tokenizer, frozen=True)
    router = Router.for_query_document([queries], [masked, SpladePooling()])
    ours = SparseEncoder([router], device="cpu")
    agree_both_ways(ours, SparseOracle, tmp_path, texts, "encode_query", "encode_document")


def test_sparse_auto_encoder(bert: Transformer, tmp_path: Path, texts: list[str]) -> None:
    torch.manual_seed(6)
    ours = SparseEncoder([bert, Pooling(48), SparseAutoEncoder(48, 96, k=12)], device="cpu")
    agree_both_ways(ours, SparseOracle, tmp_path, texts)


@pytest.mark.parametrize(
    ("labels", "activation"), [(1, None), (3, None), (3, nn.Sigmoid())], ids=["1", "3", "multi"]
)
@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_cross_encoders(
    kind: str, labels: int, activation: Any, build_model: Build, tmp_path: Path
) -> None:
    head = "ForSequenceClassification"
    plain = build_model(tmp_path / "plain", kind, head, num_labels=labels)
    ours = CrossEncoder(plain, device="cpu", activation_fn=activation)
    agree_both_ways(ours, CrossOracle, tmp_path, PAIRS, "predict")
    assert isinstance(ours.activation_fn, nn.Sigmoid) == (labels == 1 or activation is not None)


def test_a_cross_encoder_of_modules(bert: Transformer, tmp_path: Path) -> None:
    torch.manual_seed(8)
    head = Dense(48, 1, activation_function=nn.Identity(), module_output_name="scores")
    ours = CrossEncoder([bert, Pooling(48, "cls"), head], device="cpu")
    agree_both_ways(ours, CrossOracle, tmp_path, PAIRS, "predict")


def test_a_cross_encoder_that_answers_yes_or_no(answering: Path, tmp_path: Path) -> None:
    ours = CrossEncoder(answering, device="cpu")
    oracle = CrossOracle(str(answering), device="cpu")
    alone = [float(oracle.predict(pair)) for pair in PAIRS]
    agree(ours.predict(PAIRS), alone)
    agree([float(ours.predict(pair)) for pair in PAIRS], alone)
    agree_both_ways(ours, CrossOracle, tmp_path, PAIRS, "predict")


@pytest.fixture
def clip(tmp_path: Path, small: Small) -> Path:
    """A plain CLIP folder of two layers a half."""
    layers = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2}
    layers["num_attention_heads"] = 2
    text = {**layers, "vocab_size": 320, "max_position_embeddings": 64, "eos_token_id": 3}
    vision = {**layers, "image_size": 32, "patch_size": 8}
    torch.manual_seed(9)
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    folder = tmp_path / "clip"
    transformers.CLIPModel(config).eval().save_pretrained(str(folder))
    square = {"height": 32, "width": 32}
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=square)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(small("bert")))
    transformers.CLIPProcessor(processor, tokenizer).save_pretrained(str(folder))
    return folder


def test_texts_and_images(clip: Path, tmp_path: Path, texts: list[str]) -> None:
    from PIL import Image

    noise = np.random.default_rng(3).integers(0, 256, (3, 40, 52, 3), dtype=np.uint8)
    images = [Image.fromarray(pixels) for pixels in noise]
    oracle = SentenceTransformer(str(clip), device="cpu")
    ours = DenseEncoder(clip, device="cpu")
    assert ours.capabilities == {"dense", "image"}
    agree(ours.encode(texts), oracle.encode(texts))
    agree(ours.encode(images), oracle.encode(images))
    again = agree_both_ways(ours, SentenceTransformer, tmp_path, texts)
    agree(again.encode(images), oracle.encode(images))
    reopened = SentenceTransformer(str(tmp_path / "ours"), device="cpu")
    agree(reopened.encode(images), oracle.encode(images))
    images[0].save(tmp_path / "one.png")
    for one in (images[0], noise[0], tmp_path / "one.png", (tmp_path / "one.png").read_bytes()):
        agree(again.encode(one), oracle.encode([images[0]])[0])
    agree(again.encode_images(images, batch_size=1), ours.encode(images))


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (Path("nowhere.png"), "image 0: 'nowhere.png' no such file"),
        (b"no image at all", "image 0: bytes is not an image"),
    ],
)
def test_an_image_that_is_none(image: Any, said: str, clip: Path) -> None:
    encoder = DenseEncoder(clip, device="cpu")
    with pytest.raises(InputError, match=said):
        encoder.encode([image])
    with pytest.raises(InputError, match="image 1: 'a text' no such file"):
        encoder.encode([np.zeros((9, 9, 3), np.uint8), "a text"])
