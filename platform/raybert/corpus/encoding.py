"""All that decides what a text's vector is, and how it is computed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from raybert.artifacts import fingerprint
from raybert.encoders import DenseEncoder, open_encoder, open_tokenizing
from raybert.encoders.tokenizing import Tokenizing
from raybert.errors import ModelError

_HOW = ("model", "device", "threads", "tokens_per_batch")


@dataclass(frozen=True, slots=True)
class Encoding:
    """A model and how it is used; small, and sent to every worker.

    Args:
        model: model folder, the same on every worker, or a hub's name.
        model_fingerprint: its content hash.
        prompt: put before every text.
        normalize: scale vectors to unit length, after truncation.
        truncate_dim: keep this many dimensions.
        max_seq_length: cut texts to this many tokens; None takes the model's limit.
        precision: float32, float16, binary or ubinary: how vectors are stored.
        dtype: number format to compute in.
        device: where to compute.
        threads: threads of one worker on a CPU.
        tokens_per_batch: tokens in a padded batch; None suits the device.
    """

    model: str
    model_fingerprint: str
    prompt: str = ""
    normalize: bool = False
    truncate_dim: int | None = None
    max_seq_length: int | None = None
    precision: str = "float32"
    dtype: str = "auto"
    device: str = "auto"
    threads: int = 1
    tokens_per_batch: int | None = None

    @property
    def context(self) -> str:
        """Fingerprint of what a vector depends on but its text; where it is computed is no part."""
        return fingerprint({key: value for key, value in asdict(self).items() if key not in _HOW})

    def open_tokenizing(self) -> Tokenizing:
        """Open the tokenizing half of the model, without weights."""
        return open_tokenizing(self.model, max_seq_length=self.max_seq_length)

    def open_encoder(self) -> DenseEncoder:
        """Open the model.

        Raises:
            ModelError: it gives no dense vectors.
        """
        encoder = open_encoder(self.model, device=self.device, dtype=self.dtype)
        if not isinstance(encoder, DenseEncoder):
            kinds = ", ".join(sorted(encoder.capabilities))
            raise ModelError(f"model {self.model}: gives no dense vectors; it is for {kinds}")
        return encoder

    def describe(self, encoder: DenseEncoder) -> dict[str, Any]:
        """Return what a reader of the vectors must know."""
        width = encoder.get_embedding_dimension()
        return {
            "dimension": min(width, self.truncate_dim or width),
            "precision": self.precision,
            "normalized": self.normalize,
            "similarity_fn_name": encoder.similarity_fn_name,
            "prompt": self.prompt,
        }
