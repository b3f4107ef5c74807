from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder as Oracle

from raybert import CrossEncoder
from raybert.errors import InputError, ModelError

PAIRS = [
    ("what is ray", "Ray runs Python on many machines."),
    ("what is ray", "The quick brown fox jumps over the lazy dog. " * 6),
    ("a", ""),
    ("naïve café", "漢字 and emoji 🚀"),
]
HEAD = "ForSequenceClassification"


@pytest.fixture(scope="session")
def folder(
    build_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, int], Path]:
    def built(kind: str, labels: int) -> Path:
        return build_model(tmp_path_factory.mktemp(kind), kind, HEAD, num_labels=labels)

    return built


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("labels", [1, 3])
def test_scores_are_the_oracles(kind: str, labels: int, folder: Callable[..., Path]) -> None:
    path = folder(kind, labels)
    ours, theirs = CrossEncoder(path, device="cpu"), Oracle(str(path), device="cpu")
    assert ours.num_labels == labels
    np.testing.assert_allclose(ours.predict(PAIRS), theirs.predict(PAIRS), atol=1e-5)
    softened = ours.predict(PAIRS, apply_softmax=True)
    np.testing.assert_allclose(softened, theirs.predict(PAIRS, apply_softmax=True), atol=1e-5)
    shape = (len(PAIRS),) if labels == 1 else (len(PAIRS), labels)
    assert ours.predict(PAIRS).shape == shape


def test_one_pair_and_none(folder: Callable[..., Path]) -> None:
    one = CrossEncoder(folder("bert", 1), device="cpu")
    assert np.ndim(one.predict(PAIRS[0])) == 0
    assert np.ndim(one.predict(list(PAIRS[0]))) == 0
    assert one.predict([]).shape == (0,)
    assert one.predict(PAIRS, convert_to_tensor=True).shape == (4,)
    assert one.capabilities == {"rerank"}


def test_a_score_does_not_depend_on_its_batch(folder: Callable[..., Path]) -> None:
    one = CrossEncoder(folder("bert", 1), device="cpu")
    together = one.predict(PAIRS)
    alone = np.array([one.predict(pair) for pair in PAIRS])
    assert np.abs(together - alone).max() <= 1e-5


def test_pairs_carry_segments_where_the_tokenizer_has_them(minilm: Path) -> None:
    encoder = CrossEncoder(minilm, device="cpu")
    tokens = encoder.pre([("a b", "c")])
    assert tokens.token_type_ids is not None
    assert list(tokens.token_type_ids[0]) == [0, 0, 0, 0, 1, 1]
    assert encoder.num_labels == 1


def test_rank(folder: Callable[..., Path]) -> None:
    path = folder("bert", 1)
    ours, theirs = CrossEncoder(path, device="cpu"), Oracle(str(path), device="cpu")
    documents = [document for _, document in PAIRS]
    found = ours.rank("what is ray", documents, return_documents=True)
    expected = theirs.rank("what is ray", documents, return_documents=True)
    assert [hit["corpus_id"] for hit in found] == [hit["corpus_id"] for hit in expected]
    assert [hit["text"] for hit in found] == [hit["text"] for hit in expected]
    assert all(type(hit["score"]) is float for hit in found)
    assert len(ours.rank("what is ray", documents, top_k=2)) == 2
    tied = ours.rank("a", ["same", "same", "same"])
    assert [hit["corpus_id"] for hit in tied] == [0, 1, 2]
    with pytest.raises(ModelError, match="rank needs a model with 1 label; this one has 3"):
        CrossEncoder(folder("bert", 3), device="cpu").rank("a", documents)


IDENTITY = "torch.nn.modules.linear.Identity"
SIGMOID = "torch.nn.modules.activation.Sigmoid"


@pytest.mark.parametrize(
    ("labels", "config", "settings", "expected"),
    [
        (1, {}, {}, "Sigmoid"),
        (3, {}, {}, "Identity"),
        (1, {"sbert_ce_default_activation_function": IDENTITY}, {}, "Identity"),
        (3, {"sentence_transformers": {"activation_fn": SIGMOID, "version": "4.1"}}, {}, "Sigmoid"),
        (1, {}, {"activation_fn": "evil.module.Run"}, "Sigmoid"),
    ],
)
def test_activation_of_every_generation(
    labels: int,
    config: dict[str, Any],
    settings: dict[str, Any],
    expected: str,
    build_model: Callable[..., Path],
    write_json: Callable[[Path, Any], None],
    tmp_path: Path,
) -> None:
    path = build_model(tmp_path, "bert", HEAD, num_labels=labels, **config)
    if settings:
        write_json(path / "config_sentence_transformers.json", settings)
    ours = CrossEncoder(path, device="cpu")
    assert type(ours.activation_fn).__name__ == expected
    theirs = Oracle(str(path), device="cpu").predict(PAIRS)
    np.testing.assert_allclose(ours.predict(PAIRS), theirs, atol=1e-5)


@pytest.mark.parametrize("activation", [torch.nn.Identity(), torch.nn.Tanh()])
def test_a_folder_of_today_keeps_its_activation(
    activation: torch.nn.Module, folder: Callable[..., Path], tmp_path: Path
) -> None:
    oracle = Oracle(str(folder("bert", 1)), device="cpu", activation_fn=activation)
    oracle.save_pretrained(str(tmp_path))
    ours = CrossEncoder(tmp_path, device="cpu")
    assert type(ours.activation_fn) is type(activation)
    np.testing.assert_allclose(ours.predict(PAIRS), oracle.predict(PAIRS), atol=1e-5)


def test_an_activation_for_one_call_is_not_kept(folder: Callable[..., Path]) -> None:
    one = CrossEncoder(folder("bert", 1), device="cpu")
    logits = one.predict(PAIRS, activation_fn=torch.nn.Identity())
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), one.predict(PAIRS), atol=1e-6)


def test_a_prompt_goes_before_the_query(folder: Callable[..., Path]) -> None:
    one = CrossEncoder(folder("bert", 1), device="cpu", prompts={"web": "find: "})
    expected = one.predict([("find: a", "b")])
    np.testing.assert_array_equal(one.predict([("a", "b")], prompt_name="web"), expected)


def test_an_unknown_activation_of_torch_is_refused(
    build_model: Callable[..., Path], write_json: Callable[[Path, Any], None], tmp_path: Path
) -> None:
    path = build_model(tmp_path, "bert", HEAD, num_labels=1)
    write_json(path / "config_sentence_transformers.json", {"activation_fn": "torch.load"})
    with pytest.raises(ModelError, match=r"activation 'torch.load' is not one of torch.nn"):
        CrossEncoder(path, device="cpu")


def test_what_is_no_pair_is_refused(folder: Callable[..., Path]) -> None:
    one = CrossEncoder(folder("bert", 1), device="cpu")
    with pytest.raises(InputError, match="pair 1: two strings are expected"):
        one.predict([("a", "b"), "c"])
    with pytest.raises(InputError, match="text 0: a pair of strings is expected"):
        one.predict([("a", None)])


def test_half_floats_become_whole_before_the_activation(folder: Callable[..., Path]) -> None:
    one = CrossEncoder(folder("bert", 1), device="cpu")
    logits = torch.tensor([[8.5], [8.75]], dtype=torch.float16)
    assert len(set(torch.sigmoid(logits)[:, 0].tolist())) == 1
    found = one.post(logits)
    assert found[0] < found[1]
    np.testing.assert_allclose(found, torch.sigmoid(logits.float())[:, 0], rtol=1e-6)
