"""All that decides what a text's vector is, and how it is computed."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from raybert.artifacts import fingerprint
from raybert.encoders import Tokenizing, open_tokenizing

RANGED = ("int8", "uint8")
"""Precisions that need the corpus's ranges."""
_HOW = ("model", "device", "threads", "tokens_per_batch", "calibrating", "images")


@dataclass(frozen=True, slots=True)
class Encoding:
    """A model and how it is used; small, and sent to every worker.

    Args:
        model: model folder, the same on every worker, or a hub's name.
        model_fingerprint: its content hash.
        prompt: put before every text.
        normalize: scale vectors to unit length, after truncation.
        truncate_dim: keep this many dimensions.
        max_active_dims: keep this many weights of a sparse vector.
        max_seq_length: cut texts to this many tokens; None takes the model's limit.
        precision: float32, float16, int8, uint8, binary or ubinary: how vectors are stored.
        ranges: least and greatest value of every dimension, for int8 and uint8.
        dtype: number format to compute in.
        device: where to compute.
        threads: threads of one worker on a CPU.
        tokens_per_batch: tokens in a padded batch; None suits the device.
        backend: what runs the model: torch, onnx, openvino, or a file of theirs.
        images: what is encoded are images, which no prompt precedes.
        calibrating: write every shard's ranges into its receipt.
    """

    model: str
    model_fingerprint: str
    prompt: str = ""
    normalize: bool = False
    truncate_dim: int | None = None
    max_active_dims: int | None = None
    max_seq_length: int | None = None
    precision: str = "float32"
    ranges: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    dtype: str = "auto"
    device: str = "auto"
    threads: int = 1
    tokens_per_batch: int | None = None
    backend: str = "torch"
    images: bool = False
    calibrating: bool = False

    @property
    def context(self) -> str:
        """Fingerprint of what a vector depends on but its text; where it is computed is no part."""
        return fingerprint({key: value for key, value in asdict(self).items() if key not in _HOW})

    def open_tokenizing(self) -> Tokenizing:
        """Open the tokenizing half of the model, without weights."""
        return open_tokenizing(self.model, max_seq_length=self.max_seq_length)
