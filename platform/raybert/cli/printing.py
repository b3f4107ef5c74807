"""How commands print: plain lines, and tables that line up."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""Where each subject registers its commands."""


def say(line: str) -> None:
    """Print a line now, also into a pipe."""
    print(line, flush=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under their columns."""
    from rich.console import Console
    from rich.table import Table

    drawn = Table(box=None, header_style="dim", pad_edge=False)
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(
            *(f"{value:.4f}" if isinstance(value, float) else str(value) for value in row)
        )
    Console(highlight=False, markup=False).print(drawn)


def print_hits(query: str, hits: Iterable[Mapping[str, Any]]) -> None:
    """Print a question and its answers, best first, each with its score, title and beginning."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    console.print(Text(query, style="bold"))
    for hit in hits:
        title = str(hit.get("title") or hit["id"])
        console.print(Text.assemble(("  "), (f"{hit['score']:7.4f}  ", "green"), (title, "bold")))
        beginning = Text(" " * 11 + " ".join(str(hit.get("text") or "").split()), style="dim")
        beginning.truncate(max(100, console.width - 2), overflow="ellipsis")
        console.print(beginning)
