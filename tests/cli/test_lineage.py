from __future__ import annotations

import json
from pathlib import Path

import pytest

from raybert.artifacts import Folder, Input, Manifest, write_manifest
from raybert.cli import main


@pytest.fixture
def index(tmp_path: Path) -> str:
    """An index made of embeddings that have changed since."""
    corpus = Input(kind="corpus", uri="docs.parquet", fingerprint="c" * 32)
    embeddings = Input(kind="embeddings", uri=str(tmp_path / "embeddings"), fingerprint="e" * 32)
    for folder, kind, fingerprint, source in (
        ("embeddings", "embeddings", "f" * 32, corpus),
        ("index", "index", "i" * 32, embeddings),
    ):
        manifest = Manifest(kind=kind, fingerprint=fingerprint, rows=1967, inputs=(source,))
        write_manifest(Folder(str(tmp_path / folder)), manifest)
    return str(tmp_path / "index")


def test_lineage_goes_back_and_says_what_changed(
    index: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lineage", index]) == 0
    top, below = capsys.readouterr().out.splitlines()
    assert top.startswith(f"index  {index}  1,967 rows")
    assert "embeddings" in below
    assert "changed since" in below


def test_lineage_for_scripts(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lineage", index, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["inputs"][0]["state"]) == ("index", "changed")
