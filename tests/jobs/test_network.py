"""Hosts in network namespaces, where the machine lets us make them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from raybert.errors import PlatformError
from raybert.jobs import Network, no_namespaces


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    monkeypatch.setenv("RAYBERT_HOME", str(tmp_path))
    if reason := no_namespaces():
        pytest.skip(reason)
    made = Network.of_home(2)
    made.create()
    yield made
    made.remove()
    assert not made.exists


def reaches(network: Network, host: int, address: str) -> bool:
    probe = f"import socket; socket.create_connection(('{address}', 9), 2)"
    command = [*network.inside(host), "python3", "-c", probe]
    told = subprocess.run(command, capture_output=True, text=True).stderr
    return "ConnectionRefusedError" in told


def test_hosts_reach_each_other_until_the_cable_is_cut(network: Network) -> None:
    assert network.exists
    assert reaches(network, 1, network.address(2))
    assert reaches(network, 2, network.address(254))
    network.cut(2)
    assert not reaches(network, 1, network.address(2))
    network.mend(2)
    assert reaches(network, 1, network.address(2))


def test_without_rights_the_way_out_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYBERT_HOME", str(tmp_path))
    monkeypatch.setattr("raybert.jobs.network.os.geteuid", lambda: 1000)
    with pytest.raises(PlatformError, match=r"only root .*; use network: shared"):
        Network.of_home(3).create()
