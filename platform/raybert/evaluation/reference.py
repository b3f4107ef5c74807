"""The reference implementation's outputs, from a process of its own: raybert never imports it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np

from raybert.errors import ModelError
from raybert.evaluation.agreement import Outputs

PACKAGE = "sentence-transformers"
_CLASSES = {"dense": "SentenceTransformer", "sparse": "SparseEncoder", "rerank": "CrossEncoder"}
_SCRIPT = """
import json, sys, warnings
warnings.filterwarnings("ignore")
import numpy as np
import sentence_transformers
asked = json.load(sys.stdin)
queries, documents = asked["queries"], asked["documents"]
model = getattr(sentence_transformers, asked["class"])(
    asked["model"], device="cpu", local_files_only=True, trust_remote_code=asked["trust"])
if asked["class"] == "CrossEncoder":
    pairs = [(query, document) for query in queries for document in documents]
    scores = np.asarray(model.predict(pairs, show_progress_bar=False))
    np.savez(asked["out"], scores=scores.reshape(len(queries), -1))
else:
    dense = {"convert_to_sparse_tensor": False} if asked["class"] == "SparseEncoder" else {}
    options = {"convert_to_tensor": True, "show_progress_bar": False, **dense}
    first = model.encode_query(queries, **options).float()
    second = model.encode_document(documents, **options).float()
    scores = model.similarity(first, second).float().numpy()
    np.savez(asked["out"], scores=scores, vectors=np.concatenate([first.numpy(), second.numpy()]))
"""


def reference_version() -> str | None:
    """Return the installed version of the reference implementation, None if it is not there."""
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return None


def reference_outputs(
    model: str | Path,
    capability: str,
    queries: Sequence[str],
    documents: Sequence[str],
    *,
    trust_remote_code: bool = False,
) -> Outputs:
    """Have sentence-transformers run a model folder over a probe set, in another process.

    Args:
        model: the folder.
        capability: what the model is for: dense, sparse or rerank.
        queries: its questions.
        documents: its documents.
        trust_remote_code: run Python code that lies in the folder.

    Raises:
        ModelError: the reference cannot open or run it.
    """
    with tempfile.TemporaryDirectory(prefix="raybert-verify-") as scratch:
        out = Path(scratch) / "outputs.npz"
        asked = {
            "model": str(Path(model).absolute()),
            "class": _CLASSES[capability],
            "queries": list(queries),
            "documents": list(documents),
            "trust": trust_remote_code,
            "out": str(out),
        }
        ran = subprocess.run(
            [sys.executable, "-P", "-c", _SCRIPT],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            cwd=scratch,
            check=False,
        )
        if ran.returncode != 0 or not out.exists():
            said = ran.stderr.strip().splitlines() or [f"exit status {ran.returncode}"]
            raise ModelError(f"{PACKAGE} cannot run {str(model)!r}: {said[-1][:300]}")
        with np.load(out, allow_pickle=False) as found:
            return Outputs(found.get("vectors"), found["scores"])
