from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from raybert.encoders import DenseEncoder
from raybert.errors import InputError, SettingsError
from raybert.serving import Embedder, ModelSettings
from raybert.serving.sources import model_folder
from raybert.tracking import Registry


@pytest.fixture
def tracking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A tracking server's address, as the environment names it."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("RAYBERT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    yield uri
    mlflow.set_tracking_uri(None)


def test_a_path_or_a_hub_name_stays_as_it_is() -> None:
    assert model_folder("some/folder") == "some/folder"


@pytest.mark.parametrize(
    "path", ["models:/", "models:/a", "models:/a@", "models:/a@b@c", "models:a"]
)
def test_what_names_no_registered_model_is_refused(path: str) -> None:
    with pytest.raises(SettingsError, match="models:/NAME@ALIAS"):
        model_folder(path)


def test_the_champion_is_served_under_the_name_requests_use(tracking: str, minilm: Path) -> None:
    registry = Registry(tracking)
    registry.register("search", minilm)
    with pytest.raises(InputError, match="no version champion"):
        model_folder("models:/search@champion")
    registry.promote("search", 1)
    embedder = Embedder.open({"minilm": ModelSettings(path="models:/search@champion")}, threads=1)
    card = embedder.models["minilm"].card
    assert card.fingerprint == DenseEncoder(minilm).fingerprint
    assert model_folder("models:/search/1") == model_folder("models:/search@champion")
