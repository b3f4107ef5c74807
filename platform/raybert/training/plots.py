"""Pictures of a training: what its log says, over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raybert.evaluation.report import Plot

History = Mapping[str, Sequence[tuple[int, float]]]
"""Name of a number to (step, value), in order."""
SPEEDS = ("pairs_per_second", "tokens_per_second")
OWN = ("loss", "grad_norm", "learning_rate", "padding_share", *SPEEDS)
"""What the loop itself logs; every other name is a metric of the evaluator."""
LINES = 6
"""Most metrics in one picture."""


def training_plots(history: History) -> list[Plot]:
    """Return the pictures of a log: loss, gradient and rate, speed, metrics.

    Args:
        history: what was logged.
    """
    losses = [name for name in history if name == "loss" or name.startswith("loss/")]
    metrics = [name for name in history if name not in OWN and not name.startswith("loss/")]
    pictures = (
        ("loss", "Loss", losses),
        ("gradient", "Length of the gradient, before clipping", ["grad_norm"]),
        ("learning_rate", "Learning rate", ["learning_rate"]),
        ("speed", "Pairs a second", ["pairs_per_second"]),
        ("metrics", "Metrics", _most_moved(history, metrics)),
    )
    found = ((name, title, _lines(history, names)) for name, title, names in pictures)
    return [_plot(name, title, lines) for name, title, lines in found if lines]


def _lines(history: History, names: Sequence[str]) -> History:
    """Return the numbers that were logged."""
    return {name: history[name] for name in names if history.get(name)}


def _most_moved(history: History, names: Sequence[str]) -> list[str]:
    """Return the metrics whose values changed most, for a picture holds few lines."""

    def moved(name: str) -> float:
        values = [value for _, value in history[name]]
        return max(values) - min(values)

    return sorted(sorted(names, key=moved, reverse=True)[:LINES], key=list(names).index)


def _plot(name: str, title: str, lines: History) -> Plot:
    """Return one picture of numbers over steps."""

    def draw(axes: Any) -> None:
        for label, points in lines.items():
            mark = "o" if len(points) < 30 else ""
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, marker=mark, markersize=4, label=label)
        axes.set(xlabel="step of the optimizer")
        axes.margins(y=0.1)
        if name in ("gradient", "speed"):
            axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        if len(lines) > 1:
            axes.legend()

    return Plot(name, title, draw)
