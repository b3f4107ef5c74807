"""`raybert lineage`: what an artifact was made from, back to the corpus."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from raybert.cli.printing import Commands

if TYPE_CHECKING:
    from rich.tree import Tree

    from raybert.artifacts import Lineage

WIDE = 1000
"""Columns where nobody sees the lines break: a pipe or a file."""


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("lineage", help="print the tree of inputs of an artifact")
    parser.add_argument("path", help="folder of a finished artifact, local or remote")
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser.set_defaults(run=_lineage)


def _lineage(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.tree import Tree

    from raybert.artifacts import lineage

    top = lineage(arguments.path)
    if arguments.json:
        print(json.dumps(top.as_dict(), indent=2))
        return 0
    tree = Tree(_label(top), guide_style="dim")
    _grow(tree, top)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    console.print(tree)
    return 0


def _grow(tree: Tree, node: Lineage) -> None:
    for child in node.inputs:
        _grow(tree.add(_label(child)), child)


def _label(node: Lineage) -> str:
    """Return one node in one line: kind, place, rows, age, whether it changed since."""
    from rich.markup import escape

    parts = [f"[bold]{node.input.kind}[/]  {escape(node.input.uri)}"]
    if node.manifest is not None:
        if node.manifest.rows:
            parts.append(f"{node.manifest.rows:,} rows")
        parts.append(f"made {node.manifest.created}")
    parts.append(f"[dim]{node.input.fingerprint[:16]}[/]")
    if node.state == "changed":
        parts.append("[yellow]changed since: what lies there now is not what was used[/]")
    return "  ".join(parts)
