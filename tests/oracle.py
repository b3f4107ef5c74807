"""The oracle's answers to a probe set: the program that `raybert verify` runs in a checkout.

It reads one JSON object on stdin and writes an NPZ file, as `raybert.evaluation.reference` says.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

CLASSES = {"dense": "SentenceTransformer", "sparse": "SparseEncoder", "rerank": "CrossEncoder"}


def main() -> None:
    """Open the model, encode or score the probe set, write the outputs."""
    warnings.filterwarnings("ignore")
    try:
        import sentence_transformers
    except ImportError:
        sys.exit("sentence-transformers is not installed (pip install sentence-transformers)")
    import numpy as np

    asked = json.load(sys.stdin)
    queries, documents, capability = asked["queries"], asked["documents"], asked["capability"]
    model: Any = getattr(sentence_transformers, CLASSES[capability])(
        asked["model"], device="cpu", local_files_only=True, trust_remote_code=asked["trust"]
    )
    found: dict[str, Any] = {"name": f"sentence-transformers {sentence_transformers.__version__}"}
    if capability == "rerank":
        pairs = [(query, document) for query in queries for document in documents]
        scores = np.asarray(model.predict(pairs, show_progress_bar=False))
        found["scores"] = scores.reshape(len(queries), -1)
    else:
        dense = {"convert_to_sparse_tensor": False} if capability == "sparse" else {}
        options: dict[str, Any] = {"convert_to_tensor": True, "show_progress_bar": False, **dense}
        first = model.encode_query(queries, **options).float()
        second = model.encode_document(documents, **options).float()
        found["scores"] = model.similarity(first, second).float().numpy()
        found["vectors"] = np.concatenate([first.numpy(), second.numpy()])
    np.savez(asked["out"], **found)


if __name__ == "__main__":
    main()
