"""The page a user chooses a loss by, made from the losses' own docstrings.

`python -m raybert.losses.table > docs/losses.md` writes it anew.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable

from raybert.losses.choose import ALIASES, LOSSES, MODIFIERS
from raybert.losses.loss import LabelKind, Loss

_HEAD = """# Losses: what fits which data

Generated from the docstrings by `python -m raybert.losses.table > docs/losses.md`; edit those.

Columns are matched by their number and order, not by their names; `*` stands for any number of
further columns. The label column is named `label`, `labels`, `score` or `scores`. Gathering
negatives from other processes and caching gradients are steps of training and go with any loss
here; "in batch" marks those that gain from both, because other rows are part of the loss.
"""
_FAMILIES = {
    "dense": "Dense encoders",
    "sparse": "Sparse encoders",
    "cross": "Cross-encoders",
}


def page() -> str:
    """Return the whole page as Markdown."""
    parts = [_HEAD]
    for family, title in _FAMILIES.items():
        parts += [f"## {title}\n", _table(LOSSES[family].values())]
    parts += ["## Around another loss\n", _modifiers(), "## Other names\n", _other_names()]
    return "\n".join(parts)


def _table(losses: Iterable[type[Loss]]) -> str:
    """Return a table: data, loss, what it does, when to prefer another."""
    rows = ["| text columns | label | loss | what it does | when |", "|---|---|---|---|---|"]
    for loss in losses:
        columns = ", ".join(loss.columns) if hasattr(loss, "columns") else "those of its loss"
        label = loss.labels.value if hasattr(loss, "columns") else "that of its loss"
        label = "none" if loss.labels is LabelKind.TOKENS else label
        name = f"`{loss.__name__}`" + (" (in batch)" if loss.in_batch else "")
        cells = [columns, label, name, _summary(loss), _prefer(loss)]
        rows.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _modifiers() -> str:
    rows = ["| loss | what it does | when |", "|---|---|---|"]
    for loss in MODIFIERS.values():
        cells = [f"`{loss.__name__}`", _summary(loss), _prefer(loss)]
        rows.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _other_names() -> str:
    lines = []
    for alias, (name, settings) in ALIASES.items():
        given = ", ".join(f"{key}={value!r}" for key, value in settings.items())
        with_settings = f" with {given}" if given else ", in cached steps"
        lines.append(f"- `{alias}`: `{name}`{with_settings}")
    return "\n".join(lines) + "\n"


def _summary(loss: type[Loss]) -> str:
    """Return what stands before a docstring's first section, in one line."""
    before = inspect.cleandoc(loss.__doc__ or "").split("\nArgs:")[0].split("\nPrefer:")[0]
    return " ".join(before.split())


def _prefer(loss: type[Loss]) -> str:
    """Return the docstring's section on when to take this loss or another, in one line."""
    after = inspect.cleandoc(loss.__doc__ or "").split("\nPrefer:")[-1]
    return " ".join(after.split())


def _cell(text: str) -> str:
    """Keep a bar from ending a cell."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(page())
