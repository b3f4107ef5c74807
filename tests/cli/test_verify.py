from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from raybert.cli import main
from raybert.evaluation.reference import ORACLE, reference_outputs


def test_the_real_model_equals_the_reference(
    minilm: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    own = tmp_path / "own.txt"
    own.write_text("one text\n\nanother text, of mine\n", encoding="utf-8")
    assert main(["verify", str(minilm), "--texts", str(own), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["equal"]
    assert said["kind"] == "dense"
    assert said["reference"].startswith("sentence-transformers ")
    assert said["texts"] == 10
    assert said["min_cosine"] > 0.99999
    assert said["max_difference"] < 1e-5


TURNED = """
import json, sys
import numpy as np
asked = json.load(sys.stdin)
queries, documents = len(asked["queries"]), len(asked["documents"])
rows = np.eye(queries + documents, 384, dtype=np.float32)
np.savez(asked["out"], name="turned 1", vectors=rows, scores=rows[:queries, :documents])
"""


def test_another_result_is_told_and_fails_the_gate(
    minilm: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    program = tmp_path / "turned.py"
    program.write_text(TURNED, encoding="utf-8")
    assert main(["verify", str(minilm), "--reference", str(program)]) == 1
    out = capsys.readouterr().out
    assert "beside turned 1" in out
    assert "differs: min_cosine" in out
    assert "max_difference" in out


def test_without_the_reference_nothing_is_said_to_be_equal(
    minilm: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["verify", str(minilm), "--reference", str(tmp_path / "none.py")]) == 2
    assert "not compared: there is no reference program" in capsys.readouterr().err
    bare = [sys.executable, "-I", "-S", str(ORACLE)]
    ran = subprocess.run(bare, input="{}", capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "sentence-transformers is not installed" in ran.stderr


def test_bad_folders_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path)]) == 2
    assert "neither modules.json nor config.json" in capsys.readouterr().err


def test_a_fault_of_the_reference_is_told(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"not compared, oracle\.py failed: "):
        reference_outputs(tmp_path / "none", "dense", ["a"], ["b"])
