from __future__ import annotations

from pathlib import Path

import pytest

from raybert.errors import PlatformError, SettingsError
from raybert.jobs import find_cluster


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYBERT_HOME", str(tmp_path))
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)


def test_an_address_needs_no_scheme() -> None:
    assert find_cluster("head:8265").address == "http://head:8265"
    assert find_cluster("https://head/").address == "https://head"


def test_a_cluster_file_names_address_and_variables(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("address: head:8265\nenv: {MLFLOW_TRACKING_URI: 'http://mlflow:5000'}\n")
    cluster = find_cluster(file=file)
    assert cluster.address == "http://head:8265"
    assert cluster.env == {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}


def test_the_example_is_a_cluster_file(root: Path) -> None:
    assert find_cluster(file=root / "cluster" / "remote.yaml").address == "http://head:8265"


@pytest.mark.parametrize("address", ["ray://head:10001", "http://"])
def test_a_wrong_address_is_one_line(address: str) -> None:
    with pytest.raises(SettingsError, match="allowed is http://HOST:8265"):
        find_cluster(address)


def test_a_wrong_key_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("address: head:8265\nadress: twice\n")
    with pytest.raises(SettingsError, match=r"cluster\.yaml: adress: .*allowed: address, env"):
        find_cluster(file=file)


def test_without_a_platform_the_way_to_one_is_told() -> None:
    with pytest.raises(PlatformError, match="`raybert up`"):
        find_cluster()
    with pytest.raises(SettingsError, match="give one of them"):
        find_cluster("head:8265", "cluster.yaml")
