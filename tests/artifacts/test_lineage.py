from pathlib import Path

import pytest

from raybert.artifacts import Folder, Input, Manifest, lineage, write_manifest
from raybert.errors import ArtifactError


def test_the_tree_reaches_back_to_the_corpus(tmp_path: Path) -> None:
    corpus = Input(kind="corpus", uri="docs/*.jsonl", fingerprint="c")
    embeddings = write_manifest(
        Folder(tmp_path / "e"), Manifest(kind="embeddings", inputs=(corpus,), rows=5)
    )
    source = Input(kind="embeddings", uri=str(tmp_path / "e"), fingerprint=embeddings.fingerprint)
    write_manifest(Folder(tmp_path / "i"), Manifest(kind="index", inputs=(source,), rows=5))
    tree = lineage(str(tmp_path / "i"))
    assert tree.state == "same"
    (child,) = tree.inputs
    assert child.state == "same"
    assert [(node.input.uri, node.state) for node in child.inputs] == [("docs/*.jsonl", "source")]
    assert tree.as_dict()["inputs"][0]["inputs"][0]["kind"] == "corpus"


def test_an_input_that_changed_since_is_said(tmp_path: Path) -> None:
    write_manifest(Folder(tmp_path / "e"), Manifest(kind="embeddings", rows=5))
    source = Input(kind="embeddings", uri=str(tmp_path / "e"), fingerprint="as it was")
    write_manifest(Folder(tmp_path / "i"), Manifest(kind="index", inputs=(source,)))
    (child,) = lineage(str(tmp_path / "i")).inputs
    assert child.state == "changed"
    assert child.inputs == ()


def test_no_artifact_no_tree(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such artifact"):
        lineage(str(tmp_path / "none"))
