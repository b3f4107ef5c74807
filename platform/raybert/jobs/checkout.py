"""The checkout: the folder with library, jobs and apps that is shipped to a cluster."""

from __future__ import annotations

from pathlib import Path

from raybert.errors import SettingsError

LIBRARY = Path("platform") / "raybert"
EXCLUDED = (
    ".git",
    ".venv",
    ".raybert",
    ".ci",
    "tests",
    "docs",
    "results",
    "**/__pycache__",
    "**/.*_cache",
    "*.egg-info",
)
"""What a cluster does not need; what .gitignore names is not shipped either."""


def checkout_of(file: str | Path) -> Path:
    """Return the checkout that a file lies in.

    Raises:
        SettingsError: the file is not there, or lies in no checkout.
    """
    path = Path(file).absolute()
    if not path.is_file():
        raise SettingsError(f"{file}: no such file")
    for folder in path.parents:
        if (folder / LIBRARY).is_dir():
            return folder
    raise SettingsError(f"{file}: lies in no checkout of raybert (no {LIBRARY} above it)")
