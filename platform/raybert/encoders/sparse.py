"""Sparse embeddings: a weight for each word of a vocabulary, few of them not zero.

Shapes: B batch, N texts, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Unpack

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from raybert.encoders.base import on_device
from raybert.encoders.card import Facts
from raybert.encoders.embedding import EmbeddingEncoder
from raybert.encoders.opening import Options
from raybert.encoders.outputs import Array, as_texts
from raybert.encoders.sparse_rows import as_rows, as_tensor, compressed, strongest
from raybert.errors import InputError
from raybert.modules import (
    Checkpoint,
    Module,
    ModuleSequence,
    Opening,
    Pooling,
    SparseAutoEncoder,
    SpladePooling,
    Transformer,
    open_modules,
)
from raybert.records import BatchUsage, TokenizedTexts

LOGIT_BYTES = 256 * 1024 * 1024
"""Bytes that logits, [texts, tokens, V], may take, those of batches side by side together."""
USAGE = """from raybert import SparseEncoder

encoder = SparseEncoder("path/to/this/folder")
queries = encoder.encode_query(["what is asked"])
documents = encoder.encode_document(["what is known"])
print(encoder.similarity(queries, documents), encoder.decode(queries, top_k=5))"""


class SparseEncoder(EmbeddingEncoder):
    """Turns texts into sparse vectors: SPLADE, inference-free SPLADE, and sparse auto-encoders.

    Args:
        path_or_modules: a model folder (or a hub's `owner/name`), or the modules themselves.
        max_active_dims: keep this many weights of each text, the largest; None keeps all.
        similarity_fn_name: "cosine", "dot", "euclidean" or "manhattan"; None takes the folder's,
            else "dot".
        options: `device`, `dtype`, `prompts` … as for `Encoder`.

    Raises:
        ModelError: the folder cannot be read, or is no sparse model.
    """

    capabilities: frozenset[str] = frozenset({"sparse"})
    model_type: ClassVar[str] = "SparseEncoder"
    default_similarity: ClassVar[str] = "dot"

    def __init__(
        self,
        path_or_modules: str | Path | Sequence[Module],
        *,
        max_active_dims: int | None = None,
        similarity_fn_name: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(path_or_modules, similarity_fn_name=similarity_fn_name, **options)
        self.max_active_dims: int | None = max_active_dims or self.settings.get("max_active_dims")

    @classmethod
    def made(cls, checkpoint: Checkpoint, opening: Opening) -> ModuleSequence:
        """Make a sparse model of a folder of another kind.

        A masked language model gets SPLADE pooling; a dense model, or an encoder with mean
        pooling, gets a new sparse auto-encoder.
        """
        if checkpoint.modules:
            dense = open_modules(checkpoint, opening)
            width = dense.width()
            return ModuleSequence(
                *dense, SparseAutoEncoder(width, 4 * width, k=width // 4, k_aux=width // 2)
            )
        if checkpoint.architecture.endswith("ForMaskedLM"):
            masked = Transformer.open(checkpoint.folder, opening, "fill-mask")
            return ModuleSequence(masked, SpladePooling("max"))
        plain = Transformer.open(checkpoint.folder, opening)
        width = plain.width(0)
        auto_encoder = SparseAutoEncoder(width, 4 * width, k=min(256, 4 * width), k_aux=512)
        return ModuleSequence(plain, Pooling(width, "mean"), auto_encoder)

    @property
    def tokens_per_batch(self) -> int:
        """The token budget of a batch, bounded by the bytes its logits take."""
        of_a_token = self.get_embedding_dimension() * self.dtype.itemsize
        held = LOGIT_BYTES // (of_a_token * self.batches_at_once)
        return max(1, min(super().tokens_per_batch, held))

    def get_embedding_dimension(self) -> int:
        """Return V, the number of dimensions."""
        return self.model.width()

    def core(self, tokens: TokenizedTexts, max_active_dims: int | None = None) -> Tensor:
        """Run the model over one padded batch; returns dense weights [B, V] on the device."""
        with torch.inference_mode():
            features = self.collate(tokens)
            limit = max_active_dims or self.max_active_dims
            if limit is not None:
                features["max_active_dims"] = limit
            weights_BV: Tensor = self.model(features)["sentence_embedding"]
            return weights_BV if limit is None else strongest(weights_BV, limit)

    def post(self, weights_BV: Tensor) -> sparse.csr_array:
        """Hand over as float32 compressed rows on the CPU."""
        with torch.inference_mode():
            return compressed(weights_BV)

    def encode_tokens(
        self,
        tokens: TokenizedTexts,
        *,
        tokens_per_batch: int | None = None,
        max_texts: int | None = None,
        max_active_dims: int | None = None,
        show_progress_bar: bool = False,
    ) -> tuple[sparse.csr_array, BatchUsage]:
        """Encode tokenized texts in batches of similar length.

        Args:
            tokens: what `pre` made.
            tokens_per_batch: tokens in a batch, padding included; None suits the device.
            max_texts: most texts in a batch.
            max_active_dims: keep this many weights of each text; None takes the encoder's.
            show_progress_bar: show how many batches are done.

        Returns:
            float32 compressed rows [N, V] in the order of the texts, and what it cost.
        """
        parts: list[sparse.csr_array] = []
        order: list[int] = []
        total = BatchUsage()
        for rows, part, usage in self.run_batches(
            lambda batch: self.post(self.core(batch, max_active_dims)),
            tokens,
            tokens_per_batch,
            max_texts,
            show_progress_bar=show_progress_bar,
        ):
            parts.append(part)
            order.extend(rows)
            total += usage
        empty = torch.zeros((0, self.get_embedding_dimension()))
        gathered: Any = sparse.vstack(parts or [compressed(empty)], format="csr")
        return gathered[np.argsort(np.asarray(order, dtype=np.int64))], total

    def encode(
        self,
        inputs: str | Sequence[str] | Array,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool = False,
        convert_to_tensor: bool = True,
        convert_to_sparse_tensor: bool = True,
        save_to_cpu: bool = False,
        device: str | None = None,
        max_active_dims: int | None = None,
        *,
        task: str | None = None,
        tokens_per_batch: int | None = None,
    ) -> Any:
        """Encode texts.

        Args:
            inputs: one text, or a sequence of texts.
            prompt_name: name of the prompt to put before each text.
            prompt: the prompt itself; wins over `prompt_name`, "" means none.
            batch_size: most texts in a batch; None is bounded by tokens alone.
            show_progress_bar: show how many batches are done.
            convert_to_tensor: give one tensor; else a list with a tensor for each text.
            convert_to_sparse_tensor: give sparse (COO) tensors; else dense ones.
            save_to_cpu: leave the result on the CPU.
            device: encode there and move back; None stays.
            max_active_dims: keep this many weights of each text; None takes the encoder's.
            task: "query" or "document"; `encode_query` and `encode_document` set it.
            tokens_per_batch: tokens in a batch, padding included; None suits the device.

        Returns:
            [V] for one text, [N, V] for many; `encode_tokens` gives compressed rows instead.

        Raises:
            InputError: a text is no string, or there is no such prompt.
        """
        texts, single = as_texts(inputs)
        tokens = self.pre(texts, prompt_name=prompt_name, prompt=prompt, task=task)
        with on_device(self, device):
            found, _ = self.encode_tokens(
                tokens,
                tokens_per_batch=tokens_per_batch,
                max_texts=batch_size,
                max_active_dims=max_active_dims,
                show_progress_bar=show_progress_bar,
            )
            target = torch.device("cpu") if save_to_cpu else self.device
        tensor = as_tensor(found).to(target)
        if not convert_to_sparse_tensor:
            tensor = tensor.to_dense()
        if single:
            return tensor[0]
        return tensor if convert_to_tensor else [tensor[row] for row in range(len(texts))]

    def decode(self, embeddings: Any, top_k: int | None = None) -> Any:
        """Name the words of sparse embeddings, the heaviest first.

        Args:
            embeddings: tensor (sparse or dense) or compressed rows, [V] or [N, V].
            top_k: how many words of each; None names all.

        Returns:
            A list of (word, weight) for [V], a list of such lists for [N, V].
        """
        if top_k is not None and top_k < 1:
            raise InputError(f"top_k {top_k}: must be at least 1")
        rows, single = as_rows(embeddings)
        found = [self._words(rows[[row]], top_k) for row in range(rows.shape[0])]
        return found[0] if single else found

    @staticmethod
    def sparsity(embeddings: Any) -> dict[str, float]:
        """Return the mean number of active dimensions, and the share of those that are not."""
        rows, _ = as_rows(embeddings)
        count, width = rows.shape
        active = rows.count_nonzero() / count if count else 0.0
        return {
            "active_dims": float(active),
            "sparsity_ratio": float(1 - active / width) if count and width else 1.0,
        }

    @staticmethod
    def intersection(embeddings_1: Tensor, embeddings_2: Tensor) -> Tensor:
        """Multiply one embedding [V] into others [V] or [N, V], as a sparse tensor.

        Raises:
            InputError: the first is not one embedding, or the widths differ.
        """
        (one, single), (others, alone) = as_rows(embeddings_1), as_rows(embeddings_2)
        if not single or one.shape[1] != others.shape[1]:
            shapes = f"{tuple(embeddings_1.shape)} and {tuple(embeddings_2.shape)}"
            raise InputError(f"intersection of {shapes}: [V] with [V] or [N, V] is expected")
        product = as_tensor(sparse.csr_array(others.multiply(one)))
        return product[0] if alone else product

    def _words(self, row: sparse.csr_array, top_k: int | None) -> list[tuple[str, float]]:
        """Name one row's words."""
        order = np.argsort(-row.data, kind="stable")[:top_k]
        words = self.tokenizer.convert_ids_to_tokens(row.indices[order].tolist())
        return list(zip(words, row.data[order].tolist(), strict=True))

    def _described(self) -> dict[str, Any]:
        """Return the settings written beside the model."""
        described = super()._described()
        limit = self.max_active_dims
        return described | ({"max_active_dims": limit} if limit else {})

    def _facts(self) -> Facts:
        """Return what the model card says of the model itself."""
        values = {
            "dimensions": self.get_embedding_dimension(),
            "longest text, tokens": self.max_seq_length,
            "similarity": self.similarity_fn_name,
            "active dimensions at most": self.max_active_dims or "all",
        }
        return Facts("SparseEncoder", "sparse-encoder", "feature-extraction", USAGE, values)
