from __future__ import annotations

import json
from pathlib import Path

import pytest

from raybert.cli import main
from raybert.evaluation import reference
from raybert.evaluation.agreement import Outputs
from raybert.evaluation.reference import reference_outputs


def test_the_real_model_equals_the_reference(
    minilm: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    own = tmp_path / "own.txt"
    own.write_text("one text\n\nanother text, of mine\n", encoding="utf-8")
    assert main(["verify", str(minilm), "--texts", str(own), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["equal"]
    assert said["kind"] == "dense"
    assert said["texts"] == 10
    assert said["min_cosine"] > 0.99999
    assert said["max_difference"] < 1e-5


def test_another_result_is_told_and_fails_the_gate(
    minilm: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def turned(model: Path, capability: str, *texts: list[str], **_: bool) -> Outputs:
        count = [len(group) for group in texts]
        import numpy as np

        rows = np.eye(sum(count), 384, dtype=np.float32)
        return Outputs(rows, rows[: count[0], : count[1]])

    monkeypatch.setattr(reference, "reference_outputs", turned)
    assert main(["verify", str(minilm)]) == 1
    out = capsys.readouterr().out
    assert "differs: min_cosine" in out
    assert "max_difference" in out


def test_without_the_reference_nothing_is_said_to_be_equal(
    minilm: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "reference_version", lambda: None)
    assert main(["verify", str(minilm)]) == 2
    assert "sentence-transformers is not installed" in capsys.readouterr().err


def test_bad_folders_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path)]) == 2
    assert "neither modules.json nor config.json" in capsys.readouterr().err


def test_a_fault_of_the_reference_is_told(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="sentence-transformers cannot run"):
        reference_outputs(tmp_path / "none", "dense", ["a"], ["b"])
