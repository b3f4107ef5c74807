"""LoRA and other adapters in folders of their own, merged into the model they were trained on."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from raybert.errors import ModelError
from raybert.modules.checkpoint import ADAPTER_WEIGHTS, first_line, read_config
from raybert.modules.location import locate_model

ADAPTER_CONFIG = "adapter_config.json"


def adapter_base(folder: Path) -> Path | None:
    """Return the folder of the model an adapter belongs to; None where there is no adapter.

    Raises:
        ModelError: the adapter does not name its model, or that is not to be had.
    """
    if not (folder / ADAPTER_CONFIG).exists():
        return None
    name = read_config(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise ModelError(f"{folder / ADAPTER_CONFIG}: base_model_name_or_path is missing")
    return locate_model(name)


def with_adapter(model: Any, folder: Path) -> Any:
    """Merge a folder's adapter into a transformers model, which then costs no more than before.

    Raises:
        ModelError: peft is not installed, or the adapter does not fit the model.
    """
    if find_spec("peft") is None:
        raise ModelError(f"model folder {str(folder)!r} is an adapter: install raybert[peft]")
    from peft import PeftConfig, get_peft_model, set_peft_model_state_dict
    from safetensors.torch import load_file

    path = folder / ADAPTER_WEIGHTS
    if not path.exists():
        raise ModelError(f"model folder {str(folder)!r}: has no weights ({ADAPTER_WEIGHTS})")
    try:
        adapted = get_peft_model(model, PeftConfig.from_pretrained(str(folder)))
        report = set_peft_model_state_dict(adapted, load_file(path))
    except Exception as error:  # noqa: BLE001 peft raises every kind, each a bad folder
        raise ModelError(f"adapter {str(folder)!r} cannot be used: {first_line(error)}") from None
    lacking = [name for name in report.missing_keys if ".lora_" in name]
    for name in (*report.unexpected_keys, *lacking):
        raise ModelError(f"adapter {str(folder)!r} does not fit its model: {name}")
    return adapted.merge_and_unload()
