"""What dense and sparse encoders share: queries and documents, and how vectors are compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Unpack

from torch import Tensor

from raybert.encoders.base import Encoder
from raybert.encoders.opening import Options
from raybert.modules import Module
from raybert.vectors.similarity import Vectors, pick_similarity


class EmbeddingEncoder(Encoder):
    """An encoder whose result is one vector a text.

    Args:
        path_or_modules: a model folder (or a hub's `owner/name`), or the modules themselves.
        similarity_fn_name: "cosine", "dot", "euclidean" or "manhattan"; None takes the folder's.
        options: as for `Encoder`.

    Raises:
        ModelError: the folder cannot be read, or is of another kind.
        InputError: there is no similarity of this name.
    """

    default_similarity: ClassVar[str] = "cosine"

    def __init__(
        self,
        path_or_modules: str | Path | Sequence[Module],
        *,
        similarity_fn_name: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(path_or_modules, **options)
        self.similarity_fn_name = (
            similarity_fn_name or self.settings.get("similarity_fn_name") or self.default_similarity
        )

    @property
    def similarity_fn_name(self) -> str:
        """Name of the similarity: "cosine", "dot", "euclidean" or "manhattan"."""
        return self._similarity_fn_name

    @similarity_fn_name.setter
    def similarity_fn_name(self, name: str) -> None:
        self._similarity = pick_similarity(name)
        self._similarity_fn_name = name

    def encode(self, *inputs: Any, **options: Any) -> Any:
        """Encode texts."""
        raise TypeError(f"{type(self).__name__} has no encode")

    def encode_query(self, inputs: str | Sequence[str], **options: Any) -> Any:
        """Encode queries: with the prompt "query" if the model has it; options as `encode`."""
        return self.encode(inputs, **{"task": "query", **options})

    def encode_document(self, inputs: str | Sequence[str], **options: Any) -> Any:
        """Encode documents: with the prompt "document", "passage" or "corpus"; as `encode`."""
        return self.encode(inputs, **{"task": "document", **options})

    def similarity(self, a: Vectors, b: Vectors) -> Tensor:
        """Return the similarity of every row of `a` with every row of `b`, [A, B]."""
        return self._similarity.matrix(a, b)

    def similarity_pairwise(self, a: Vectors, b: Vectors) -> Tensor:
        """Return the similarity of row i of `a` with row i of `b`, [A]."""
        return self._similarity.pairwise(a, b)

    def _described(self) -> dict[str, Any]:
        """Return the settings written beside the model."""
        described = super()._described()
        described["prompts"] = {"query": "", "document": "", **self.prompts}
        return described | {"similarity_fn_name": self.similarity_fn_name}
