"""Writing a model as a Sentence Transformers folder that versions 2 to 6 read.

Type strings and keys are the old ones, which every version and TEI, Infinity and vLLM know; newer
keys appear only for what has no old form.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from raybert.modules.checkpoint import write_config
from raybert.modules.custom import copy_code
from raybert.modules.module import ModuleSequence

FORMAT = "5.0.0"
"""Version of the format: the last one that all readers from 2.0 on understand."""


def write_modules(model: ModuleSequence, folder: Path) -> None:
    """Write every module into its place, and `modules.json` last."""
    listing = []
    for place, module in enumerate(model):
        in_root = place == 0 and module.in_root
        name = "" if in_root else f"{place}_{type(module).__name__}"
        (folder / name).mkdir(exist_ok=True)
        module.save(folder / name)  # type: ignore[operator]
        if module.has_own_code:
            copy_code(module, folder)  # type: ignore[arg-type]
        listing.append({"idx": place, "name": str(place), "path": name, "type": module.type_name})
    write_config(folder / "modules.json", listing)


def write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write `config_sentence_transformers.json` with the versions that made it."""
    import transformers

    versions = {
        "sentence_transformers": FORMAT,
        "transformers": transformers.__version__,
        "pytorch": torch.__version__,
    }
    write_config(
        folder / "config_sentence_transformers.json", {"__version__": versions, **settings}
    )


def replace_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Have a folder written beside `target`, then put into its place.

    A new `target` appears whole; in one that exists each file is replaced, none is left half.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        write(staging)
        staging.chmod(0o755)
        if not target.exists():
            staging.rename(target)
            return
        for path in sorted(staging.rglob("*")):
            into = target / path.relative_to(staging)
            if path.is_dir():
                into.mkdir(exist_ok=True)
            else:
                path.replace(into)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
