from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from raybert.artifacts import Folder, Input, Manifest, write_manifest
from raybert.encoders import DenseEncoder
from raybert.errors import InputError
from raybert.tracking import Registry, Usage

TEXTS = ["a cat sits", "the dog ran"]


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.setenv("RAYBERT_HOME", str(tmp_path / "home"))
    yield Registry(f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain transformers folder: tiny random BERT."""
    path = tmp_path_factory.mktemp("tiny")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "the", "cat", "dog", "sits", "ran"]
    (path / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab=str(path / "vocab.txt")).save_pretrained(path)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertModel(config).save_pretrained(path)
    return path


def test_versions_are_registered_promoted_and_rolled_back(registry: Registry, folder: Path) -> None:
    first = registry.register("encoder", folder, metrics={"ndcg@10": 0.5})
    second = registry.register("encoder", folder, metrics={"ndcg@10": 0.6})
    assert (first.version, second.version) == (1, 2)
    assert registry.promote("encoder", 1).aliases == ("champion",)
    assert registry.promote("encoder", 2, must_beat="ndcg@10").aliases == ("champion",)
    assert registry.find("encoder", "previous").version == 1
    assert registry.rollback("encoder").version == 1
    assert registry.find("encoder", "champion").version == 1
    assert registry.rollback("encoder").version == 2
    assert [found.version for found in registry.versions()] == [2, 1]


def test_who_does_not_beat_the_champion_is_not_promoted(registry: Registry, folder: Path) -> None:
    registry.register("encoder", folder, metrics={"ndcg@10": 0.5})
    registry.register("encoder", folder, metrics={"ndcg@10": 0.5})
    registry.promote("encoder", 1)
    with pytest.raises(InputError, match=r"0\.5000.*the champion \(version 1\) 0\.5000"):
        registry.promote("encoder", 2, must_beat="ndcg@10")
    with pytest.raises(InputError, match="no metric 'mrr@10'; there are ndcg_at_10"):
        registry.promote("encoder", 2, must_beat="mrr@10")
    assert registry.find("encoder", "champion").version == 1


def report(folder: Path, ndcg: float, questions: str = "same") -> Path:
    """A report artifact of one figure."""
    inputs = [Input(kind="qrels", uri="q", fingerprint=questions)]
    inputs.append(Input(kind="run", uri="r", fingerprint=str(ndcg)))
    made = Manifest(kind="report", details={"metrics": {"ndcg@10": ndcg}}, inputs=tuple(inputs))
    write_manifest(Folder(folder), made)
    return folder


def test_a_named_report_decides(registry: Registry, folder: Path, tmp_path: Path) -> None:
    for version, ndcg in enumerate((0.5, 0.6, 0.4), start=1):
        registry.register("encoder", folder, metrics={"ndcg@10": 1 - ndcg})
        registry.add_report("encoder", version, "held-out", report(tmp_path / str(ndcg), ndcg))
    registry.promote("encoder", 1)
    with pytest.raises(InputError, match=r"version 3 has ndcg@10 0\.4000, the champion .* 0\.5000"):
        registry.promote("encoder", 3, must_beat="ndcg@10", report="held-out")
    with pytest.raises(InputError, match="no report 'sts'; there are held-out"):
        registry.promote("encoder", 2, must_beat="ndcg@10", report="sts")
    with pytest.raises(InputError, match="has no metric 'mrr@10'; there are ndcg@10"):
        registry.promote("encoder", 2, must_beat="mrr@10", report="held-out")
    made = registry.promote("encoder", 2, must_beat="ndcg@10", report="held-out")
    assert "champion" in made.aliases
    assert made.reports["held-out"].metrics == {"ndcg@10": 0.6}
    other = report(tmp_path / "other", 0.9, questions="others")
    registry.add_report("encoder", 3, "held-out", other)
    with pytest.raises(InputError, match="of other data than the champion's"):
        registry.promote("encoder", 3, must_beat="ndcg@10", report="held-out")


def test_what_is_not_there_is_one_line(registry: Registry, folder: Path) -> None:
    with pytest.raises(InputError, match="'encoder': not registered; there are none"):
        registry.promote("encoder", 1)
    with pytest.raises(InputError, match="no such folder"):
        registry.register("encoder", folder / "missing")
    registry.register("encoder", folder)
    with pytest.raises(InputError, match="no version 7; there are 1"):
        registry.promote("encoder", 7)
    with pytest.raises(InputError, match="no champion before"):
        registry.rollback("encoder")


def test_a_registered_model_opens_in_raybert_and_in_mlflow(
    registry: Registry, folder: Path
) -> None:
    usage = Usage(example=[[text] for text in TEXTS])
    registry.register("encoder", folder, usage=usage)
    registry.promote("encoder", 1)
    expected = DenseEncoder(folder).encode(TEXTS)
    fetched = registry.fetch("encoder", "champion")
    assert (fetched / "model.safetensors").exists()
    np.testing.assert_array_equal(DenseEncoder(fetched).encode(TEXTS), expected)
    loaded = mlflow.pyfunc.load_model("models:/encoder@champion")
    found = loaded.predict(pd.DataFrame({"text": TEXTS}))
    np.testing.assert_array_equal(np.asarray(found), expected)
    assert list(loaded.input_example["text"]) == TEXTS
