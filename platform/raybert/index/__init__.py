"""Indexes: built from embeddings, pinned to their model, exact or measured against exact.

>>> from raybert.index import build_index, open_index                # doctest: +SKIP
>>> build_index("runs/faq-embeddings", "runs/faq-index", kind="flat")  # doctest: +SKIP
>>> hits = open_index("runs/faq-index").search(queries, top_k=10)    # doctest: +SKIP
"""

from raybert.index.build import (
    build_index,
    build_text_index,
    finished_index,
    finished_text_index,
)
from raybert.index.choice import Choice, build_chosen, finished_choice
from raybert.index.documents import Documents
from raybert.index.kinds import KINDS
from raybert.index.open import open_index
from raybert.index.search import Index

__all__ = [
    "KINDS",
    "Choice",
    "Documents",
    "Index",
    "build_chosen",
    "build_index",
    "build_text_index",
    "finished_choice",
    "finished_index",
    "finished_text_index",
    "open_index",
]
