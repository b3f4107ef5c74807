"""Dense embeddings: one vector a text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from raybert.encoders.base import Encoder, on_device
from raybert.encoders.card import Facts
from raybert.encoders.opening import opened
from raybert.encoders.outputs import Array, as_texts, delivered, features_of, progress
from raybert.errors import InputError
from raybert.modules import Checkpoint, Module, ModuleSequence, Opening, Pooling, Transformer
from raybert.records import BatchUsage, TokenizedTexts
from raybert.vectors.similarity import Vectors, pick_similarity

MODEL_TYPE = "SentenceTransformer"
SENTENCE = "sentence_embedding"
USAGE = """from raybert import DenseEncoder

encoder = DenseEncoder("path/to/this/folder")
queries = encoder.encode_query(["what is asked"])
documents = encoder.encode_document(["what is known"])
print(encoder.similarity(queries, documents))"""


class DenseEncoder(Encoder):
    """Turns texts into vectors; reads any Sentence Transformers folder of a dense model.

    Args:
        path_or_modules: a model folder (or a hub's `owner/name`), or the modules themselves.
        device: "auto", "cpu", "cuda", "cuda:1" …
        dtype: "auto" (float32 on a CPU, bfloat16 or float16 on a GPU), or one of them.
        prompts: prompts by name; they win over the folder's.
        default_prompt_name: the prompt where none is asked for.
        similarity_fn_name: "cosine", "dot", "euclidean" or "manhattan"; None takes the folder's.
        truncate_dim: keep this many dimensions (Matryoshka); None keeps all.
        trust_remote_code: run Python code that lies in the folder.
        allow_pickle: read pickled weights where there are no safetensors.

    Raises:
        ModelError: the folder cannot be read, or is no dense model.
    """

    capabilities: ClassVar[frozenset[str]] = frozenset({"dense"})

    def __init__(
        self,
        path_or_modules: str | Path | Sequence[Module],
        *,
        device: str = "auto",
        dtype: str = "auto",
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: str | None = None,
        truncate_dim: int | None = None,
        trust_remote_code: bool = False,
        allow_pickle: bool = False,
    ) -> None:
        opening = Opening(trust_remote_code=trust_remote_code, allow_pickle=allow_pickle)
        found = opened(
            path_or_modules, opening, MODEL_TYPE, _mean_pooled, prompts, default_prompt_name
        )
        super().__init__(found, device=device, dtype=dtype)
        self.truncate_dim: int | None = truncate_dim or self.settings.get("truncate_dim")
        self.similarity_fn_name = (
            similarity_fn_name or self.settings.get("similarity_fn_name") or "cosine"
        )

    @property
    def similarity_fn_name(self) -> str:
        """Name of the similarity: "cosine", "dot", "euclidean" or "manhattan"."""
        return self._similarity_fn_name

    @similarity_fn_name.setter
    def similarity_fn_name(self, name: str) -> None:
        self._similarity = pick_similarity(name)
        self._similarity_fn_name = name

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
        batches = self.batches(tokens, tokens_per_batch, max_texts)
        for rows, batch, usage in progress(batches, show=show_progress_bar):
            out[rows] = self.post(
                self.core(batch),
                normalize_embeddings=normalize_embeddings,
                truncate_dim=truncate_dim,
            )
            total += usage
        return out, total

    def encode(
        self,
        inputs: str | Sequence[str] | Array,
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
            inputs: one text, or a sequence of texts.
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
        described["prompts"] = {"query": "", "document": "", **self.prompts}
        described |= {"similarity_fn_name": self.similarity_fn_name, "model_type": MODEL_TYPE}
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


def _mean_pooled(checkpoint: Checkpoint, opening: Opening) -> ModuleSequence:
    """Make a dense model of a plain transformers folder: its encoder with mean pooling."""
    transformer = Transformer.open(checkpoint.transformer, opening)
    return ModuleSequence(transformer, Pooling(transformer.width(0), "mean"))
