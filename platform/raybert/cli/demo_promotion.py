"""The demo's end: the trained model is promoted if it answers held-out questions better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raybert.cli.demo_steps import EXPERIMENT, NAME, TRAINED
from raybert.settings import home

if TYPE_CHECKING:
    from raybert.tracking import Registry

METRIC = "ndcg@10"
REPORT = "held-out"
"""Name under which both versions' reports are compared."""


@dataclass(frozen=True, slots=True)
class Winner:
    """What is served.

    Args:
        model: its folder.
        index: the index made with it.
    """

    model: Path
    index: Path


def promoted(base: Path, tell: Callable[[str], None]) -> Winner:
    """Register the model that training began with, compare, and return the better one.

    Args:
        base: folder of that model.
        tell: takes what came of it.
    """
    from raybert.artifacts import read_manifest
    from raybert.errors import InputError
    from raybert.tracking import Registry

    out, registry = home() / "demo", Registry()
    trained = read_manifest(out / TRAINED, kind="model")
    made = [found for found in registry.versions(NAME) if found.run_id == trained.mlflow_run]
    if not made:
        made = [registry.register(NAME, out / TRAINED, run_id=trained.mlflow_run)]
    first = _base(registry, base)
    for version, report in ((first, out / "report"), (made[0].version, out / "after" / "report")):
        registry.add_report(NAME, version, REPORT, report)
    if "champion" not in registry.find(NAME, made[0].version).aliases:
        registry.promote(NAME, first)
    before, after = (
        registry.find(NAME, version).figure(METRIC, REPORT) for version in (first, made[0].version)
    )
    try:
        registry.promote(NAME, made[0].version, must_beat=METRIC, report=REPORT)
    except InputError:
        tell(f"version {first} stays the champion: {METRIC} {before:.3f}, trained {after:.3f}")
        return Winner(base, out / "index")
    tell(
        f"version {made[0].version} of {NAME} is the champion: "
        f"{METRIC} {before:.3f} -> [bold green]{after:.3f}[/] on questions it never saw"
    )
    return Winner(out / TRAINED, out / "after" / "index")


def _base(registry: Registry, base: Path) -> int:
    """Return the version of the model that training began with, registered if it is not yet."""
    for found in registry.versions(NAME):
        if REPORT in found.reports and found.reports[REPORT].uri == str(home() / "demo" / "report"):
            return found.version
    return registry.register(NAME, base, experiment=EXPERIMENT).version
