"""How MLflow opens a registered model: `mlflow.pyfunc.load_model("models:/NAME@champion")`."""

from __future__ import annotations

from typing import Any

from raybert.encoders.open import open_encoder


class Embeddings:
    """What MLflow calls a model: `predict` gives vectors, or scores where the model is a cross one.

    Args:
        encoder: the opened encoder.
    """

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """Encode texts.

        Args:
            model_input: a table with a column `text`, or a list of texts (of pairs of texts).
            params: options of `encode` (or of `predict`, for a cross-encoder).

        Returns:
            float32 [N, D]; [N] scores of a cross-encoder.
        """
        table = hasattr(model_input, "columns")
        texts = list(model_input["text"] if table else model_input)
        call = getattr(self.encoder, "encode", None) or self.encoder.predict
        return call(texts, **(params or {}))


def _load_pyfunc(path: str) -> Embeddings:
    """Open the model folder at `path`; MLflow looks for a function of this name."""
    return Embeddings(open_encoder(path))
