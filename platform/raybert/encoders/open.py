"""Opening a model folder with the encoder it is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raybert.encoders.base import Encoder
from raybert.encoders.cross import CrossEncoder
from raybert.encoders.dense import DenseEncoder
from raybert.encoders.sparse import SparseEncoder
from raybert.errors import ModelError
from raybert.modules import Checkpoint, locate_model, read_checkpoint

ENCODERS: dict[str, type[Encoder]] = {
    "SentenceTransformer": DenseEncoder,
    "CrossEncoder": CrossEncoder,
    "SparseEncoder": SparseEncoder,
}
"""`model_type` of `config_sentence_transformers.json` to encoder."""


def open_encoder(path: str | Path, **options: Any) -> Encoder:
    """Open a model folder with the encoder that its files ask for.

    Args:
        path: a model folder, or a hub's `owner/name`.
        options: as for the encoder's class.

    Raises:
        ModelError: the folder cannot be read, or is of a kind raybert has no encoder for.
    """
    folder = locate_model(path)
    return encoder_class(read_checkpoint(folder))(folder, **options)


def encoder_class(checkpoint: Checkpoint) -> type[Encoder]:
    """Choose an encoder by `model_type`, by the modules, and by the architecture.

    Raises:
        ModelError: there is no encoder for this kind of model.
    """
    stated = checkpoint.settings.get("model_type")
    if stated in ENCODERS:
        return ENCODERS[stated]
    if stated is not None:
        known = ", ".join(ENCODERS)
        raise ModelError(
            f"model {str(checkpoint.folder)!r}: model_type {stated!r}; known are {known}"
        )
    if checkpoint.modules:
        return DenseEncoder
    if checkpoint.architecture.endswith("ForSequenceClassification"):
        return CrossEncoder
    if checkpoint.architecture.endswith("ForMaskedLM"):
        return SparseEncoder
    return DenseEncoder
