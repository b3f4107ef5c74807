"""The checkout: the folder with library, jobs and apps that is shipped to a cluster."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
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


def extra_requirements(root: Path, extras: Sequence[str]) -> list[str]:
    """Return what extras of raybert ask for, each package as constraints.txt pins it.

    Args:
        root: the checkout.
        extras: names under `[project.optional-dependencies]`.

    Raises:
        SettingsError: there is no such extra.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    offered: dict[str, list[str]] = project["optional-dependencies"]
    if unknown := [name for name in extras if name not in offered]:
        raise SettingsError(f"extra {unknown[0]!r}: allowed are {', '.join(sorted(offered))}")
    pins = (root / "constraints.txt").read_text(encoding="utf-8").split()
    pinned = {_package(line): line.partition("==")[2] for line in pins}
    return [
        f"{requirement.partition('>=')[0]}=={pinned[_package(requirement)]}"
        if _package(requirement) in pinned
        else requirement
        for name in extras
        for requirement in offered[name]
    ]


def _package(requirement: str) -> str:
    """Return the normalized name of a package in a requirement."""
    name = re.match(r"[\w.-]+", requirement)
    return re.sub(r"[-_.]+", "-", name.group().lower()) if name else ""
