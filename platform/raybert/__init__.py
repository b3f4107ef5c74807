"""Sentence embeddings on Ray, from raw text to a served, reranked answer.

>>> from raybert import DenseEncoder                                      # doctest: +SKIP
>>> encoder = DenseEncoder("models/all-MiniLM-L6-v2")                     # doctest: +SKIP
>>> encoder.similarity(encoder.encode(["a cat"]), encoder.encode(["a kitten"]))  # doctest: +SKIP
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raybert.encoders import CrossEncoder as CrossEncoder
    from raybert.encoders import DenseEncoder as DenseEncoder
    from raybert.encoders import SparseEncoder as SparseEncoder
    from raybert.encoders import open_encoder as open_encoder

__version__ = "0.1.0"
__all__ = ["CrossEncoder", "DenseEncoder", "SparseEncoder", "__version__", "open_encoder"]


def __getattr__(name: str) -> Any:
    """Hand on the encoders late: importing raybert must not import torch."""
    if name in __all__:
        return getattr(importlib.import_module("raybert.encoders"), name)
    raise AttributeError(f"module 'raybert' has no attribute {name!r}")
