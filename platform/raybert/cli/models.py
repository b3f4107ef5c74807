"""`raybert models`, `register`, `report`, `promote`, `rollback`: which version is the champion."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from raybert.cli.pairs import pairs
from raybert.cli.printing import Commands, say, table
from raybert.errors import SettingsError

if TYPE_CHECKING:
    from raybert.tracking import Version


def register(commands: Commands) -> None:
    """Add the commands."""
    models = commands.add_parser("models", help="list registered models and their versions")
    models.add_argument("name", nargs="?", help="one model (default: all)")
    models.add_argument("--json", action="store_true", help="for scripts")
    models.set_defaults(run=_models)
    new = commands.add_parser("register", help="register a model folder as a model's next version")
    new.add_argument("name")
    new.add_argument("folder", help="folder in the Sentence Transformers format")
    new.add_argument("--run-id", metavar="ID", help="MLflow run that made it")
    new.add_argument(
        "--metric", action="append", default=[], metavar="NAME=NUMBER", help="repeatable"
    )
    new.set_defaults(run=_register)
    promote = commands.add_parser("promote", help="make a version of a model the champion")
    promote.add_argument("name")
    promote.add_argument("version", help="its number, or an alias")
    promote.add_argument(
        "--must-beat", metavar="METRIC", help="refuse unless it beats the champion in it"
    )
    promote.add_argument(
        "--report", metavar="NAME", help="the report that METRIC stands in (default: its run)"
    )
    promote.set_defaults(run=_promote)
    report = commands.add_parser("report", help="add a report artifact to a version of a model")
    report.add_argument("name")
    report.add_argument("version", help="its number, or an alias")
    report.add_argument("report", metavar="LABEL=FOLDER", help="what to call it, and where it lies")
    report.set_defaults(run=_report)
    back = commands.add_parser("rollback", help="make the previous champion the champion again")
    back.add_argument("name")
    back.set_defaults(run=_rollback)
    for parser in (models, new, promote, report, back):
        parser.add_argument(
            "--tracking-uri", metavar="URI", help="MLflow server (default: as jobs)"
        )


def _models(arguments: argparse.Namespace) -> int:
    from raybert.tracking import Registry

    found = Registry(arguments.tracking_uri).versions(arguments.name)
    if arguments.json:
        print(json.dumps([asdict(version) for version in found], indent=2))
        return 0
    rows = [
        (version.name, version.version, " ".join(version.aliases), _day(version), _few(version))
        for version in found
    ]
    table(("model", "version", "is", "registered", "metrics"), rows)
    return 0


def _register(arguments: argparse.Namespace) -> int:
    from raybert.tracking import Registry

    metrics = {name: _number(value) for name, value in pairs("--metric", arguments.metric).items()}
    registry = Registry(arguments.tracking_uri)
    made = registry.register(
        arguments.name, arguments.folder, run_id=arguments.run_id, metrics=metrics
    )
    say(f"{made.name} version {made.version}")
    return 0


def _promote(arguments: argparse.Namespace) -> int:
    from raybert.tracking import Registry

    registry = Registry(arguments.tracking_uri)
    if arguments.report is not None and arguments.must_beat is None:
        raise SettingsError("--report: --must-beat says which of its metrics decides")
    made = registry.promote(
        arguments.name,
        arguments.version,
        must_beat=arguments.must_beat,
        report=arguments.report,
    )
    say(f"{made.name} version {made.version} is the champion")
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from raybert.tracking import Registry

    registry = Registry(arguments.tracking_uri)
    for label, folder in pairs("report", [arguments.report]).items():
        made = registry.add_report(arguments.name, arguments.version, label, folder)
        figures = len(made.reports[label].metrics)
        say(f"{made.name} version {made.version} has the report {label}: {figures} figures")
    return 0


def _rollback(arguments: argparse.Namespace) -> int:
    from raybert.tracking import Registry

    made = Registry(arguments.tracking_uri).rollback(arguments.name)
    say(f"{made.name} version {made.version} is the champion again")
    return 0


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise SettingsError(f"--metric: {value!r} is no number") from None


def _day(version: Version) -> str:
    return time.strftime("%d %b %Y %H:%M", time.localtime(version.created_ms / 1000))


def _few(version: Version) -> str:
    """Return a few metrics in one line."""
    shown = [f"{name} {value:.4g}" for name, value in sorted(version.metrics.items())]
    return ", ".join(shown[:4]) + (f", and {len(shown) - 4} more" if len(shown) > 4 else "")
