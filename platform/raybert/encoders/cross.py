"""Cross-encoders: two texts read together, scores out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from raybert.encoders.base import Encoder, on_device
from raybert.encoders.card import Facts, ModelCard, write_card
from raybert.encoders.opening import Options
from raybert.encoders.outputs import Array, as_pairs, delivered
from raybert.errors import ModelError
from raybert.modules import Checkpoint, LogitScore, Module, ModuleSequence, Opening, Transformer
from raybert.modules.activations import activation, activation_path
from raybert.modules.checkpoint import read_config, write_config
from raybert.modules.writing import FORMAT, write_settings
from raybert.records import BatchUsage, TokenizedTexts

HEAD = "ForSequenceClassification"
USAGE = """from raybert import CrossEncoder

encoder = CrossEncoder("path/to/this/folder")
print(encoder.rank("what is asked", ["what is known", "what is not"]))"""
Activation = Callable[[Tensor], Tensor]


class CrossEncoder(Encoder):
    """Scores pairs of texts; reads cross-encoder folders of every generation.

    Args:
        path_or_modules: a model folder (or a hub's `owner/name`), or the modules themselves.
        num_labels: size of a new head (for training); None takes the folder's, 1 for a folder
            that has none.
        max_length: longest pair in tokens; None takes the folder's.
        activation_fn: from logits to scores; None takes the folder's, else the sigmoid for one
            label and the identity for several.
        options: `device`, `dtype`, `prompts` … as for `Encoder`; a prompt goes before the first
            text of a pair.

    Raises:
        ModelError: the folder cannot be read, or gives no scores.
    """

    capabilities: frozenset[str] = frozenset({"rerank"})
    model_type: ClassVar[str] = "CrossEncoder"

    def __init__(
        self,
        path_or_modules: str | Path | Sequence[Module],
        *,
        num_labels: int | None = None,
        max_length: int | None = None,
        activation_fn: Activation | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(path_or_modules, num_labels=num_labels, **options)
        if max_length is not None:
            self.max_seq_length = max_length
        self.activation_fn: Activation = activation_fn or self._stored_activation()

    @classmethod
    def made(cls, checkpoint: Checkpoint, opening: Opening) -> ModuleSequence:
        """Make a cross-encoder of a plain transformers folder.

        A causal language model scores by "yes" and "no"; another architecture than sequence
        classification gets a new head.
        """
        if opening.num_labels is None and checkpoint.architecture.endswith("ForCausalLM"):
            reader = Transformer.open(checkpoint.transformer, opening, "text-generation")
            return ModuleSequence(reader, LogitScore.of_words(reader.tokenization.tokenizer))
        if opening.num_labels is None and not checkpoint.architecture.endswith(HEAD):
            opening = replace(opening, num_labels=1)
        return ModuleSequence(
            Transformer.open(checkpoint.transformer, opening, "sequence-classification")
        )

    @property
    def num_labels(self) -> int:
        """Number of scores a pair gets."""
        return self.model.width()

    def core(self, tokens: TokenizedTexts) -> Tensor:
        """Run the model over one padded batch of pairs; returns logits [B, L] on the device."""
        logits_BL: Tensor = self.features(tokens)["scores"]
        return logits_BL

    def post(
        self,
        logits_BL: Tensor,
        *,
        activation_fn: Activation | None = None,
        apply_softmax: bool = False,
    ) -> Array:
        """Turn logits into scores, in float32: [B] for one label, else [B, L]."""
        with torch.inference_mode():
            scores = (activation_fn or self.activation_fn)(logits_BL.float())
            if scores.ndim > 1 and scores.shape[-1] == 1:
                scores = scores[:, 0]
            if apply_softmax and scores.ndim > 1:
                scores = torch.softmax(scores, dim=1)
            finished: Array = scores.float().cpu().numpy()
        return finished

    def score_tokens(
        self,
        tokens: TokenizedTexts,
        *,
        tokens_per_batch: int | None = None,
        max_texts: int | None = None,
        activation_fn: Activation | None = None,
        apply_softmax: bool = False,
        show_progress_bar: bool = False,
    ) -> tuple[Array, BatchUsage]:
        """Score tokenized pairs in batches of similar length.

        Args:
            tokens: what `pre` made of pairs.
            tokens_per_batch: tokens in a batch, padding included; None suits the device.
            max_texts: most pairs in a batch.
            activation_fn: from logits to scores, for this call.
            apply_softmax: make the scores of several labels sum to 1.
            show_progress_bar: show how many batches are done.

        Returns:
            float32 [N], or [N, L] for several labels, in the order of the pairs; and the cost.
        """
        labels = self.num_labels
        out = np.zeros((len(tokens), labels) if labels > 1 else len(tokens), dtype=np.float32)
        total = BatchUsage()
        finish = partial(self.post, activation_fn=activation_fn, apply_softmax=apply_softmax)
        for rows, scores, usage in self.run_batches(
            lambda batch: finish(self.core(batch)),
            tokens,
            tokens_per_batch,
            max_texts,
            show_progress_bar=show_progress_bar,
        ):
            out[rows] = scores
            total += usage
        return out, total

    def predict(
        self,
        inputs: Sequence[Any],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool = False,
        activation_fn: Activation | None = None,
        apply_softmax: bool = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | None = None,
        *,
        tokens_per_batch: int | None = None,
    ) -> Any:
        """Score one pair of texts, or many.

        Args:
            inputs: one pair, or a sequence of pairs.
            prompt_name: name of the prompt to put before the first text of each pair.
            prompt: the prompt itself; wins over `prompt_name`, "" means none.
            batch_size: most pairs in a batch; None is bounded by tokens alone.
            show_progress_bar: show how many batches are done.
            activation_fn: from logits to scores, for this call.
            apply_softmax: make the scores of several labels sum to 1.
            convert_to_numpy: give a NumPy array.
            convert_to_tensor: give a tensor on the device instead.
            device: score there and move back; None stays.
            tokens_per_batch: tokens in a batch, padding included; None suits the device.

        Returns:
            A number for one pair, [N] for many, or one dimension more for several labels.

        Raises:
            InputError: an input is no pair of strings.
        """
        pairs, single = as_pairs(inputs)
        tokens = self.pre(pairs, prompt_name=prompt_name, prompt=prompt)
        with on_device(self, device):
            scores, _ = self.score_tokens(
                tokens,
                tokens_per_batch=tokens_per_batch,
                max_texts=batch_size,
                activation_fn=activation_fn,
                apply_softmax=apply_softmax,
                show_progress_bar=show_progress_bar,
            )
            target = self.device if convert_to_tensor else None
        return delivered(scores, single, "float32", convert_to_numpy, target)

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Sort documents by their score with a query, best first, ties in the given order.

        Args:
            query: the query.
            documents: texts to sort.
            top_k: how many to return; None returns all.
            return_documents: add each document's text.
            options: as for `predict`.

        Returns:
            A list of {"corpus_id": place in `documents`, "score": float[, "text"]}.

        Raises:
            ModelError: the model gives several labels, which have no order.
        """
        if self.num_labels != 1:
            raise ModelError(f"rank needs a model with 1 label; this one has {self.num_labels}")
        scores = self.predict([(query, document) for document in documents], **options)
        order = sorted(range(len(documents)), key=lambda row: -float(scores[row]))[:top_k]
        found: list[dict[str, Any]] = [
            {"corpus_id": row, "score": float(scores[row])} for row in order
        ]
        if return_documents:
            for hit in found:
                hit["text"] = documents[hit["corpus_id"]]
        return found

    def _write(self, folder: Path, card: ModelCard) -> None:
        """Write a plain sequence-classification folder, with the activation in all three places.

        Versions before 4.0, before 5.4 and since look for it in different ones.
        """
        if len(self.model) > 1 or getattr(self.tokenizer, "chat_template", None):
            super()._write(folder, card)
            return
        write_settings(folder, self._described())
        (folder / "README.md").write_text(write_card(card, self._facts()), encoding="utf-8")
        self.model[0].save(folder)  # type: ignore[operator]
        (folder / "sentence_bert_config.json").unlink()
        path = activation_path(self.activation_fn)
        config = read_config(folder / "config.json")
        config["sbert_ce_default_activation_function"] = path
        config["sentence_transformers"] = {"activation_fn": path, "version": FORMAT}
        write_config(folder / "config.json", config)

    def _described(self) -> dict[str, Any]:
        """Return the settings written beside the model."""
        path = activation_path(self.activation_fn)
        return {**super()._described(), "activation_fn": path}

    def _facts(self) -> Facts:
        """Return what the model card says of the model itself."""
        values = {
            "labels": self.num_labels,
            "longest pair, tokens": self.max_seq_length,
            "activation": type(self.activation_fn).__name__,
        }
        return Facts("CrossEncoder", "cross-encoder", "text-ranking", USAGE, values)

    def _stored_activation(self) -> nn.Module:
        """Find the activation where the folder's generation keeps it.

        Up to 3.x `sbert_ce_default_activation_function` in `config.json`, up to 5.3
        `sentence_transformers.activation_fn` there, since 5.4 `activation_fn` in
        `config_sentence_transformers.json`. Paths outside torch are not trusted.
        """
        config = getattr(getattr(self.model[0], "model", None), "config", None)
        path = (
            self.settings.get("activation_fn")
            or (getattr(config, "sentence_transformers", None) or {}).get("activation_fn")
            or getattr(config, "sbert_ce_default_activation_function", None)
        )
        if isinstance(path, str) and path.startswith("torch."):
            return activation(path, f"model {str(self.folder)!r}")
        return nn.Sigmoid() if self.num_labels == 1 else nn.Identity()
