"""Reading a transformers folder: its configuration, and its weights whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raybert.errors import ModelError
from raybert.modules.checkpoint import (
    PICKLED_WEIGHTS,
    check_finite,
    first_line,
    read_config,
    weights_file,
)
from raybert.modules.module import Opening

TASKS: dict[str, tuple[str, str, str]] = {
    "feature-extraction": ("AutoModel", "last_hidden_state", "token_embeddings"),
    "fill-mask": ("AutoModelForMaskedLM", "logits", "token_embeddings"),
    "sequence-classification": ("AutoModelForSequenceClassification", "logits", "scores"),
    "text-generation": ("AutoModelForCausalLM", "logits", "causal_logits"),
}
"""Task to (transformers class, its output, the feature it becomes)."""


def task_line(task: str, where: str) -> tuple[str, str, str]:
    """Return a task's line of `TASKS`."""
    if task not in TASKS:
        raise ModelError(f"{where}: transformer_task {task!r}: allowed are {', '.join(TASKS)}")
    return TASKS[task]


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
