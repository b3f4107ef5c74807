"""The command line: one parser, each command in the file of its subject."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from raybert import __version__
from raybert.cli import (
    demo,
    generations,
    jobs,
    lineage,
    local_platform,
    models,
    offline_model,
    search,
    verify,
)
from raybert.errors import SettingsError
from raybert.settings import guarded

SUBJECTS = (local_platform, jobs, lineage, search, generations, models, verify, demo, offline_model)


class _Parser(argparse.ArgumentParser):
    """A parser whose faults are one line."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{self.prog}: {message} (--help lists what is allowed)")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = _Parser(prog="raybert", description="Sentence embeddings on Ray.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"raybert {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for subject in SUBJECTS:
        subject.register(subparsers)
    return parser


def commands() -> set[str]:
    """Return the names of all commands."""
    actions = build_parser()._subparsers
    assert actions is not None
    return {name for action in actions._group_actions for name in action.choices or ()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)

    def command() -> int:
        # argparse gives what stands after -- to nobody once flags stood before it.
        at = arguments.index("--") if "--" in arguments else len(arguments)
        parsed = build_parser().parse_args(arguments[:at])
        if at < len(arguments) and "arguments" not in parsed:
            raise SettingsError(f"raybert: {' '.join(arguments[at:])}: this command takes no --")
        parsed.arguments = arguments[at + 1 :]
        run: Callable[[argparse.Namespace], int] = parsed.run
        return run(parsed)

    return guarded(command)
