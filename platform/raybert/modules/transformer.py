"""A transformers encoder as the first module: token ids in, token embeddings or scores out."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from raybert.errors import ModelError
from raybert.modules.adapters import adapter_base, with_adapter
from raybert.modules.backends import TORCH, TORCH_INT8, open_runner
from raybert.modules.checkpoint import (
    PICKLED_WEIGHTS,
    check_finite,
    first_line,
    read_config,
    weights_file,
    write_config,
)
from raybert.modules.fused import fuse, fuse_head, pack_int8
from raybert.modules.location import locate_model
from raybert.modules.module import Features, Module, Opening
from raybert.modules.tokenization import Tokenization, has_tokenizer, transformer_settings

TASKS: dict[str, tuple[str, str, str]] = {
    "feature-extraction": ("AutoModel", "last_hidden_state", "token_embeddings"),
    "fill-mask": ("AutoModelForMaskedLM", "logits", "token_embeddings"),
    "sequence-classification": ("AutoModelForSequenceClassification", "logits", "scores"),
    "text-generation": ("AutoModelForCausalLM", "logits", "causal_logits"),
}
"""Task to (transformers class, its output, the feature it becomes)."""

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
        self._output, self._feature = _task(task, "Transformer")[1:]
        fuse(model)
        if task == "fill-mask":
            fuse_head(model)
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
        stated = transformer_settings(folder)
        if "message" in stated.get("modality_config", {}):
            raise ModelError(
                f"model folder {str(folder)!r}: reads chat messages; only text is read"
            )
        return cls.open(folder, opening, stated.get("transformer_task", "feature-extraction"))

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
        _task(task, f"model folder {str(folder)!r}")
        base = adapter_base(folder)
        config = open_config(base or folder, opening)
        apply_stated(config, folder, "config")
        tokenization = cls._tokenization(folder, base, config, opening)
        if max_seq_length is not None:
            tokenization.max_seq_length = max_seq_length
        if opening.backend not in (TORCH, TORCH_INT8):
            return cls(open_runner(folder, config, opening, TASKS[task][1]), tokenization, task)
        model = open_model(base or folder, config, opening, task)
        found = cls(model if base is None else with_adapter(model, folder), tokenization, task)
        if opening.backend == TORCH_INT8:
            pack_int8(found.model, f"model folder {str(folder)!r}")
        return found

    @staticmethod
    def _tokenization(
        folder: Path, base: Path | None, config: Any, opening: Opening
    ) -> Tokenization:
        """Open the tokenizer; an adapter without one takes its model's."""
        return Tokenization.open(
            folder if base is None or has_tokenizer(folder) else base,
            max_positions=max_positions(config),
            trust_remote_code=opening.trust_remote_code,
        )

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
        if self.generates:
            output = {"method": "forward", "method_output_name": self._output}
            settings |= {
                "transformer_task": self.task,
                "modality_config": {"text": output},
                "module_output_name": self._feature,
            }
        write_config(folder / "sentence_bert_config.json", settings)

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


def open_config(folder: Path, opening: Opening) -> Any:
    """Read a transformers `config.json`.

    Raises:
        ModelError: it is missing, or of an unknown kind.
    """
    from transformers import AutoConfig

    read_config(folder / "config.json")
    try:
        config = AutoConfig.from_pretrained(
            str(folder), trust_remote_code=opening.trust_remote_code, local_files_only=True
        )
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise ModelError(
            f"configuration of {str(folder)!r} cannot be used: {first_line(error)}"
        ) from None
    if opening.num_labels is not None:
        config.num_labels = opening.num_labels
    return config


def open_model(folder: Path, config: Any, opening: Opening, task: str) -> Any:
    """Read a transformers model whole: no tensor missing, of another shape, or not finite.

    Raises:
        ModelError: the weights are missing, pickled without leave, or do not fit.
    """
    import transformers

    file = weights_file(folder, allow_pickle=opening.allow_pickle)
    name = TASKS[task][0]
    if task == "feature-extraction" and _has_half(config):
        name = "AutoModelForTextEncoding"
    try:
        with quiet():
            model, report = getattr(transformers, name).from_pretrained(
                str(folder),
                config=config,
                dtype=opening.dtype,
                use_safetensors=not file.name.startswith(PICKLED_WEIGHTS),
                trust_remote_code=opening.trust_remote_code,
                local_files_only=True,
                output_loading_info=True,
            )
    except Exception as error:  # noqa: BLE001 transformers raises every kind, each a bad folder
        raise ModelError(
            f"weights of {str(folder)!r} cannot be used: {first_line(error)}"
        ) from None
    _check_whole(report, folder, new_head=opening.num_labels is not None)
    check_finite(model, folder)
    return model.eval()


def _has_half(config: Any) -> bool:
    """Tell an encoder-decoder, or the folder of its encoder alone: the encoder is what is read."""
    architecture = (getattr(config, "architectures", None) or [""])[0]
    return bool(config.is_encoder_decoder) or architecture.endswith("EncoderModel")


def apply_stated(target: Any, folder: Path, kind: str) -> None:
    """Set what `sentence_bert_config.json` states for a configuration or a tokenizer.

    Only values that the target has already are set: nothing there may choose code or files.
    """
    stated = transformer_settings(folder)
    for name, value in (stated.get(f"{kind}_args") or stated.get(f"{kind}_kwargs") or {}).items():
        if hasattr(target, name) and not callable(getattr(target, name)):
            setattr(target, name, value)


def max_positions(config: Any) -> int | None:
    """Return how many positions a transformer has, None where it states none."""
    positions = getattr(config, "max_position_embeddings", None)
    return positions if positions and positions > 0 else None


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars and load reports; faults are raised all the same."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _task(task: str, where: str) -> tuple[str, str, str]:
    """Return a task's line of `TASKS`."""
    if task not in TASKS:
        raise ModelError(f"{where}: transformer_task {task!r}: allowed are {', '.join(TASKS)}")
    return TASKS[task]


def _check_whole(report: dict[str, Any], folder: Path, *, new_head: bool) -> None:
    """Refuse a model of which tensors were made up because the file did not have them."""
    mismatched = sorted(str(key) for key in report.get("mismatched_keys", ()))
    if mismatched and not new_head:
        raise ModelError(f"weights of {str(folder)!r} do not fit: shape of {mismatched[0]}")
    heads = ("classifier", "score", "pre_classifier") if new_head else ()
    missing = sorted(
        key
        for key in report.get("missing_keys", ())
        if "pooler." not in key and "position_ids" not in key and not key.startswith(heads)
    )
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelError(f"weights of {str(folder)!r}: {missing[0]}{more} missing")


def output_dtype(module: torch.nn.Module) -> torch.dtype:
    """Return the number format a module computes in."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
