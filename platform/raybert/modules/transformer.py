"""A transformers encoder as the first module: token ids in, token embeddings or scores out."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, ClassVar, Self

from raybert.modules.adapters import adapter_base, with_adapter
from raybert.modules.backends import OWN, TORCH_INT8, TORCH_UNPADDED, open_runner
from raybert.modules.chat import ChatTokenization, chats
from raybert.modules.checkpoint import write_config
from raybert.modules.fused import fuse_float32, pack_int8
from raybert.modules.location import locate_model
from raybert.modules.module import Features, Module, Opening
from raybert.modules.pretrained import (
    TASKS,
    max_positions,
    open_config,
    open_model,
    quiet,
    task_line,
)
from raybert.modules.tokenization import Tokenization, has_tokenizer, transformer_settings
from raybert.modules.unpadded import unpad

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class Transformer(Module):
    """A transformers model with its tokenizer.

    Args:
        model: the transformers model.
        tokenization: tokenizes texts for it.
        task: what is taken from it: one of `TASKS`.
    """

    in_root: ClassVar[bool] = True

    def __init__(
        self, model: Any, tokenization: Tokenization, task: str = "feature-extraction"
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenization = tokenization
        self.task = task
        self._output, self._feature = task_line(task, "Transformer")[1:]
        fuse_float32(model, head=task == "fill-mask")
        accepted = inspect.signature(model.forward).parameters
        self._inputs = [name for name in INPUTS if name in accepted]
        # What a model makes of a text does not depend on the side of its padding, but positions
        # counted from the left would; only a last token that must stay last asks for the left.
        self.generates = task == "text-generation"
        tokenization.padding_side = "left" if self.generates else "right"

    @property
    def type_name(self) -> str:
        """The type string; a masked language model has one of its own."""
        if self.task == "fill-mask":
            return "sentence_transformers.sparse_encoder.models.MLMTransformer"
        return f"{self.family}.Transformer"

    @classmethod
    def open_tokenization(cls, folder: Path, opening: Opening) -> Tokenization:
        """Read configuration and tokenizer, but no weights."""
        base = adapter_base(folder)
        return cls._tokenization(folder, base, open_config(base or folder, opening), opening)

    @classmethod
    def load(cls, folder: Path, opening: Opening) -> Self:
        """Read the model for the task its `sentence_bert_config.json` states."""
        task = transformer_settings(folder).get("transformer_task", "feature-extraction")
        return cls.open(folder, opening, task)

    @classmethod
    def open(
        cls,
        path: str | Path,
        opening: Opening | None = None,
        task: str = "feature-extraction",
        *,
        max_seq_length: int | None = None,
    ) -> Self:
        """Read a transformers folder for a task; an adapter's folder with the model it belongs to.

        Args:
            path: the folder, or a hub's `owner/name`.
            opening: how it is opened.
            task: one of `TASKS`.
            max_seq_length: longest text in tokens; None takes the folder's.

        Raises:
            ModelError: configuration, tokenizer or weights are missing or do not fit.
        """
        opening, folder = opening or Opening(), locate_model(path)
        task_line(task, f"model folder {str(folder)!r}")
        base = adapter_base(folder)
        config = open_config(base or folder, opening)
        apply_stated(config, folder, "config")
        tokenization = cls._tokenization(folder, base, config, opening)
        if max_seq_length is not None:
            tokenization.max_seq_length = max_seq_length
        if opening.backend not in OWN:
            return cls(open_runner(folder, config, opening, TASKS[task][1]), tokenization, task)
        model = open_model(base or folder, config, opening, task)
        found = cls(model if base is None else with_adapter(model, folder), tokenization, task)
        if opening.backend == TORCH_INT8:
            pack_int8(found.model, f"model folder {str(folder)!r}")
        if opening.backend == TORCH_UNPADDED:
            unpad(found.model, f"model folder {str(folder)!r}")
        return found

    @staticmethod
    def _tokenization(
        folder: Path, base: Path | None, config: Any, opening: Opening
    ) -> Tokenization:
        """Open the tokenizer; an adapter without one takes its model's."""
        plain = Tokenization.open(
            folder if base is None or has_tokenizer(folder) else base,
            max_positions=max_positions(config),
            trust_remote_code=opening.trust_remote_code,
        )
        if not chats(folder, plain.tokenizer):
            return plain
        return ChatTokenization.of(plain, folder, config.model_type)

    def save(self, folder: Path) -> None:
        """Write model, tokenizer and `sentence_bert_config.json`."""
        with quiet():
            self.model.save_pretrained(str(folder))
        self.tokenization.save(folder)
        settings: dict[str, Any] = {
            "max_seq_length": self.tokenization.max_seq_length,
            "do_lower_case": self.tokenization.do_lower_case,
        }
        if getattr(self.model.config, "output_hidden_states", False):
            settings["config_args"] = {"output_hidden_states": True}
        if self.generates or getattr(self.tokenization.tokenizer, "chat_template", None):
            settings |= self._modalities()
        write_config(folder / "sentence_bert_config.json", settings)

    def _modalities(self) -> dict[str, Any]:
        """Say in the newer keys what has no older ones: that it generates, that it chats or not."""
        output = {"method": "forward", "method_output_name": self._output}
        stated = {"transformer_task": self.task, "module_output_name": self._feature}
        if not isinstance(self.tokenization, ChatTokenization):
            return {**stated, "modality_config": {"text": output}}
        message = {**output, "format": self.tokenization.form}
        modalities = {"text": output, "message": message}
        return {**stated, "modality_config": modalities, **self.tokenization.stated}

    def width(self, width: int = 0) -> int:
        """Return the width of what the model gives."""
        config = self.model.config
        if self.task == "fill-mask":
            return int(config.vocab_size)
        if self.task == "sequence-classification":
            return int(config.num_labels)
        return int(getattr(config, "hidden_size", None) or config.d_model)

    def forward(self, features: Features) -> Features:
        """Run the model over [B, T] ids."""
        inputs = {name: features[name] for name in self._inputs if name in features}
        if self.generates:
            places_BT = features["attention_mask"].cumsum(dim=1) - 1
            inputs |= {"position_ids": places_BT.clamp(min=0), "logits_to_keep": 1}
        output = self.model(**inputs, return_dict=True)
        features[self._feature] = output[self._output]
        if getattr(output, "hidden_states", None) is not None:
            features["all_layer_embeddings"] = output.hidden_states
        return features


class MLMTransformer(Transformer):
    """A masked language model, under the name it had up to version 5.3."""

    @classmethod
    def load(cls, folder: Path, opening: Opening) -> Self:
        """Read the model; its task is to fill masks."""
        return cls.open(folder, opening, "fill-mask")


def apply_stated(target: Any, folder: Path, kind: str) -> None:
    """Set what `sentence_bert_config.json` states for a configuration or a tokenizer.

    Only values that the target has already are set: nothing there may choose code or files.
    """
    stated = transformer_settings(folder)
    for name, value in (stated.get(f"{kind}_args") or stated.get(f"{kind}_kwargs") or {}).items():
        if hasattr(target, name) and not callable(getattr(target, name)):
            setattr(target, name, value)
