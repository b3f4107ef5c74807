"""A reference implementation's outputs, from a program that runs in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from raybert.errors import ModelError
from raybert.evaluation.agreement import Outputs

ORACLE = Path(__file__).parents[3] / "tests" / "oracle.py"
"""The program of a checkout: sentence-transformers, which no part of raybert imports."""


def reference_outputs(
    model: str | Path,
    capability: str,
    queries: Sequence[str],
    documents: Sequence[str],
    *,
    program: Path = ORACLE,
    trust_remote_code: bool = False,
) -> tuple[str, Outputs]:
    """Have a program run a model folder over a probe set.

    Args:
        model: the folder.
        capability: what the model is for: dense, sparse or rerank.
        queries: its questions.
        documents: its documents.
        program: a Python file. It reads a JSON object on stdin (`model`, `capability`, `queries`,
            `documents`, `trust`, `out`) and writes the NPZ file `out`: `name`, `scores` [queries,
            documents], and `vectors` [queries + documents, width] but for a reranker.
        trust_remote_code: run Python code that lies in the folder.

    Returns:
        what the program calls itself, and its outputs.

    Raises:
        ModelError: there is no such program, or it cannot open or run the model.
    """
    if not program.is_file():
        raise ModelError(f"not compared: there is no reference program {str(program)!r}")
    with tempfile.TemporaryDirectory(prefix="raybert-verify-") as scratch:
        out = Path(scratch) / "outputs.npz"
        asked = {
            "model": str(Path(model).absolute()),
            "capability": capability,
            "queries": list(queries),
            "documents": list(documents),
            "trust": trust_remote_code,
            "out": str(out),
        }
        ran = subprocess.run(
            [sys.executable, "-P", str(program.absolute())],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            cwd=scratch,
            check=False,
        )
        if ran.returncode != 0 or not out.exists():
            said = ran.stderr.strip().splitlines() or [f"exit status {ran.returncode}"]
            raise ModelError(
                f"{str(model)!r}: not compared, {program.name} failed: {said[-1][:300]}"
            )
        with np.load(out, allow_pickle=False) as found:
            return str(found["name"]), Outputs(found.get("vectors"), found["scores"])
