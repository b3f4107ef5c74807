"""MTEB: a raybert encoder, or a live endpoint, as MTEB's models are.

>>> import mteb                                                        # doctest: +SKIP
>>> mteb.evaluate(MtebEncoder(DenseEncoder("model")), mteb.get_tasks(["STS12"]))  # doctest: +SKIP

Needs the extra `mteb`. Muennighoff et al. 2023, https://arxiv.org/abs/2210.07316
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mteb.models import ModelMeta


class MtebEncoder:
    """Lets MTEB run an encoder; queries and documents get the model's own prompts.

    Args:
        encoder: a dense encoder, local or an endpoint.
        name: what MTEB files the results under, `owner/model`.
        revision: the model's revision; default: its fingerprint, where it has one.
    """

    def __init__(
        self, encoder: Any, name: str = "raybert/encoder", revision: str | None = None
    ) -> None:
        self.encoder = encoder
        self.name = name
        self.revision = revision or getattr(encoder, "fingerprint", None)

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        prompt_type: Any = None,
        **_: Any,
    ) -> np.ndarray[Any, np.dtype[Any]]:
        """Encode MTEB's batches, which hold their texts under `text`; returns [N, D]."""
        texts = [text for batch in inputs for text in batch["text"]]
        kind = getattr(prompt_type, "value", prompt_type)
        by_kind = {"query": self.encoder.encode_query, "document": self.encoder.encode_document}
        vectors: np.ndarray[Any, np.dtype[Any]] = by_kind.get(kind, self.encoder.encode)(texts)
        return vectors

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Return the matrix of similarities [A, B]."""
        return self.encoder.similarity(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Return the similarities of the rows, [N]."""
        return self.encoder.similarity_pairwise(embeddings1, embeddings2)

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """What MTEB writes beside the results."""
        from mteb.models import ModelMeta

        return ModelMeta.create_empty(
            {
                "name": self.name,
                "revision": self.revision,
                "similarity_fn_name": getattr(self.encoder, "similarity_fn_name", None),
                "framework": [],
            }
        )
