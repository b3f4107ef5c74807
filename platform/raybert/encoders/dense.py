"""Dense embeddings: one vector a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Unpack

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from raybert.encoders.base import on_device
from raybert.encoders.card import Facts
from raybert.encoders.embedding import EmbeddingEncoder
from raybert.encoders.opening import Options
from raybert.encoders.outputs import Array, as_texts, delivered, features_of, progress
from raybert.errors import InputError, ModelError
from raybert.modules import (
    Checkpoint,
    CLIPModel,
    Module,
    ModuleSequence,
    Normalize,
    Opening,
    Pooling,
    StaticEmbedding,
    Transformer,
)
from raybert.modules.checkpoint import read_config
from raybert.modules.images import Picture, is_image
from raybert.records import BatchUsage, TokenizedTexts

SENTENCE = "sentence_embedding"
IMAGES_PER_BATCH = 32
USAGE = """from raybert import DenseEncoder

encoder = DenseEncoder("path/to/this/folder")
queries = encoder.encode_query(["what is asked"])
documents = encoder.encode_document(["what is known"])
print(encoder.similarity(queries, documents))"""


class DenseEncoder(EmbeddingEncoder):
    """Turns texts into vectors; reads any Sentence Transformers folder of a dense model.

    Args:
        path_or_modules: a model folder (or a hub's `owner/name`), or the modules themselves.
        truncate_dim: keep this many dimensions (Matryoshka); None keeps all.
        similarity_fn_name: "cosine", "dot", "euclidean" or "manhattan"; None takes the folder's.
        options: `device`, `dtype`, `prompts` … as for `Encoder`.

    Raises:
        ModelError: the folder cannot be read, or is no dense model.
    """

    capabilities: frozenset[str] = frozenset({"dense"})
    model_type: ClassVar[str] = "SentenceTransformer"

    def __init__(
        self,
        path_or_modules: str | Path | Sequence[Module],
        *,
        truncate_dim: int | None = None,
        similarity_fn_name: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(path_or_modules, similarity_fn_name=similarity_fn_name, **options)
        self.truncate_dim: int | None = truncate_dim or self.settings.get("truncate_dim")
        if isinstance(self.model[0], CLIPModel):
            self.capabilities = self.capabilities | {"image"}

    @classmethod
    def made(cls, checkpoint: Checkpoint, opening: Opening) -> ModuleSequence:
        """Make a dense model of a folder without `modules.json`.

        Models of images and model2vec's are whole as they are. Others get mean pooling, a causal
        language model that of its last token.
        """
        folder = checkpoint.transformer
        config = read_config(folder / "config.json", default={})
        if checkpoint.plain_kind == "CLIPModel":
            return ModuleSequence(CLIPModel.load(folder, opening))
        if checkpoint.plain_kind == "StaticEmbedding":
            static = StaticEmbedding.load(folder, opening)
            return ModuleSequence(static, *([Normalize()] if config.get("normalize") else []))
        transformer = Transformer.open(folder, opening)
        causal = checkpoint.architecture.endswith("ForCausalLM") and config.get("is_causal", True)
        return ModuleSequence(
            transformer, Pooling(transformer.width(), "lasttoken" if causal else "mean")
        )

    def get_embedding_dimension(self) -> int:
        """Return the width of the vectors, after `truncate_dim`."""
        return self._width(None)

    def core(self, tokens: TokenizedTexts) -> Tensor:
        """Run the model over one padded batch; returns [B, D] on the device."""
        embeddings_BD: Tensor = self.features(tokens)[SENTENCE]
        return embeddings_BD

    def post(
        self,
        embeddings_BD: Tensor,
        *,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> Array:
        """Truncate, then normalize, and hand over as float32 on the CPU, [B, D]."""
        with torch.inference_mode():
            kept = embeddings_BD[:, : self._width(truncate_dim)].float()
            if normalize_embeddings:
                kept = F.normalize(kept, p=2, dim=-1)
            finished: Array = kept.cpu().numpy()
        return finished

    def encode_tokens(
        self,
        tokens: TokenizedTexts,
        *,
        tokens_per_batch: int | None = None,
        max_texts: int | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        show_progress_bar: bool = False,
    ) -> tuple[Array, BatchUsage]:
        """Encode tokenized texts in batches of similar length.

        Args:
            tokens: what `pre` made.
            tokens_per_batch: tokens in a batch, padding included; None suits the device.
            max_texts: most texts in a batch.
            normalize_embeddings: scale to unit length, after truncation.
            truncate_dim: keep this many dimensions; None takes the encoder's.
            show_progress_bar: show how many batches are done.

        Returns:
            float32 [N, D] in the order of the texts, and what it cost.
        """
        out = np.zeros((len(tokens), self._width(truncate_dim)), dtype=np.float32)
        total = BatchUsage()
        finish = partial(
            self.post, normalize_embeddings=normalize_embeddings, truncate_dim=truncate_dim
        )
        for rows, vectors, usage in self.run_batches(
            lambda batch: finish(self.core(batch)),
            tokens,
            tokens_per_batch,
            max_texts,
            show_progress_bar=show_progress_bar,
        ):
            out[rows] = vectors
            total += usage
        return out, total

    def encode(
        self,
        inputs: str | Sequence[str] | Picture | Sequence[Picture],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool = False,
        output_value: str | None = SENTENCE,
        precision: str = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        *,
        task: str | None = None,
        tokens_per_batch: int | None = None,
    ) -> Any:
        """Encode texts: prompt, tokenize, model, truncate, normalize, quantize, in this order.

        Args:
            inputs: one text or a sequence of texts; for a model of images also images (a string
                is one only if it ends like one and is a file), which take no prompt.
            prompt_name: name of the prompt to put before each text.
            prompt: the prompt itself; wins over `prompt_name`, "" means none.
            batch_size: most texts in a batch; None is bounded by tokens alone.
            show_progress_bar: show how many batches are done.
            output_value: "sentence_embedding", "token_embeddings", or None for all features.
            precision: "float32", "int8", "uint8", "binary" or "ubinary".
            convert_to_numpy: give a NumPy array.
            convert_to_tensor: give a tensor on the device instead.
            device: encode there and move back; None stays.
            normalize_embeddings: scale to unit length, after truncation.
            truncate_dim: keep this many dimensions; None takes the encoder's.
            task: "query" or "document"; `encode_query` and `encode_document` set it.
            tokens_per_batch: tokens in a batch, padding included; None suits the device.

        Returns:
            [D] for one text, [N, D] for many, (0,) for none; token embeddings are a list of
            [tokens, D].

        Raises:
            InputError: a text is no string, or a prompt, precision or output is unknown.
        """
        if "image" in self.capabilities and _holds_images(inputs):
            return self.encode_images(
                inputs,
                batch_size,
                show_progress_bar,
                precision,
                convert_to_numpy,
                convert_to_tensor,
                device,
                normalize_embeddings,
                truncate_dim,
            )
        texts, single = as_texts(inputs)
        tokens = self.pre(texts, prompt_name=prompt_name, prompt=prompt, task=task)
        with on_device(self, device):
            if output_value != SENTENCE:
                found = features_of(self, tokens, output_value, tokens_per_batch, batch_size)
                return found[0] if single else found
            vectors, _ = self.encode_tokens(
                tokens,
                tokens_per_batch=tokens_per_batch,
                max_texts=batch_size,
                normalize_embeddings=normalize_embeddings,
                truncate_dim=truncate_dim,
                show_progress_bar=show_progress_bar,
            )
            target = self.device if convert_to_tensor else None
        return delivered(vectors, single, precision, convert_to_numpy, target)

    def pixels(self, images: Sequence[Picture]) -> Tensor:
        """Prepare images on the CPU, [B, C, H, W]: the `pre` of images.

        Raises:
            ModelError: this model reads no images.
            InputError: one of them is no image.
        """
        first = self.model[0]
        if not isinstance(first, CLIPModel):
            raise ModelError("this model reads texts only, no images")
        return first.pixels(images)

    def core_images(self, pixels_BCHW: Tensor) -> Tensor:
        """Run the model over prepared images; returns [B, D] on the device."""
        with torch.inference_mode():
            prepared = pixels_BCHW.to(device=self.device, dtype=self.dtype)
            embeddings_BD: Tensor = self.model({"pixel_values": prepared})[SENTENCE]
        return embeddings_BD

    def encode_images(
        self,
        images: Picture | Sequence[Picture],
        batch_size: int | None = None,
        show_progress_bar: bool = False,
        precision: str = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> Any:
        """Encode images into the space of the texts; options and result as of `encode`.

        Args:
            images: one image or many: opened by PIL, a path, the bytes of a file, or an array.
            batch_size: images in a batch; None takes 32.

        Raises:
            ModelError: this model reads no images.
            InputError: one of them is no image, naming it.
        """
        single = is_image(images)
        listed: list[Any] = [images] if single else list(images)  # type: ignore[arg-type]
        size = batch_size or IMAGES_PER_BATCH
        out = np.zeros((len(listed), self._width(truncate_dim)), dtype=np.float32)
        with on_device(self, device):
            starts = range(0, len(listed), size)
            for start in progress(starts, len(starts), show=show_progress_bar):
                out[start : start + size] = self.post(
                    self.core_images(self.pixels(listed[start : start + size])),
                    normalize_embeddings=normalize_embeddings,
                    truncate_dim=truncate_dim,
                )
            target = self.device if convert_to_tensor else None
        return delivered(out, single, precision, convert_to_numpy, target)

    @contextmanager
    def truncate_embeddings(self, truncate_dim: int | None) -> Iterator[None]:
        """Keep this many dimensions for a while."""
        before, self.truncate_dim = self.truncate_dim, truncate_dim
        try:
            yield
        finally:
            self.truncate_dim = before

    def _described(self) -> dict[str, Any]:
        """Return the settings written beside the model."""
        described = super()._described()
        return described | ({"truncate_dim": self.truncate_dim} if self.truncate_dim else {})

    def _facts(self) -> Facts:
        """Return what the model card says of the model itself."""
        values = {
            "dimensions": self.get_embedding_dimension(),
            "longest text, tokens": self.max_seq_length,
            "similarity": self.similarity_fn_name,
            "modules": ", ".join(type(module).__name__ for module in self.model),
        }
        return Facts("DenseEncoder", "sentence-similarity", "sentence-similarity", USAGE, values)

    def _width(self, truncate_dim: int | None) -> int:
        """Return the width of the vectors after truncation."""
        width = self.model.width()
        wanted = truncate_dim or self.truncate_dim or width
        if wanted < 1:
            raise InputError(f"truncate_dim {wanted}: must be at least 1")
        return min(width, wanted)


def _holds_images(inputs: Any) -> bool:
    """Tell whether inputs are an image, or a sequence that begins with one."""
    if is_image(inputs):
        return True
    return isinstance(inputs, Sequence) and len(inputs) > 0 and is_image(inputs[0])
