"""The model card: what the model is, how it is used, and what it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What only the one who made the model knows; all of it may be left out.

    Args:
        name: the model's name.
        base_model: what it was trained from.
        languages: codes such as "en".
        licence: an SPDX identifier.
        datasets: the data it was trained on, each in a line.
        losses: the losses it was trained with.
        settings: training settings by name.
        metrics: results by metric.
        lineage: the tree of inputs, as `raybert lineage` prints it.
    """

    name: str = "Sentence embedding model"
    base_model: str | None = None
    languages: Sequence[str] = ()
    licence: str | None = None
    datasets: Sequence[str] = ()
    losses: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    lineage: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What the model itself knows.

    Args:
        encoder: name of the encoder's class.
        tag: the reference library's tag for this kind of model.
        task: the hub's pipeline tag.
        usage: lines of Python that use it.
        values: properties by name.
    """

    encoder: str
    tag: str
    task: str
    usage: str
    values: Mapping[str, Any]


def write_card(card: ModelCard, facts: Facts) -> str:
    """Return the card as Markdown with its YAML front matter."""
    parts = [
        f"---\n{_front_matter(card, facts)}---\n\n# {card.name}",
        f"## Usage\n\n```python\n{facts.usage}\n```",
        "## Model\n\n" + _table(facts.values),
        _section("Training data", "\n".join(f"- {line}" for line in card.datasets)),
        _section("Losses", "\n".join(f"- {line}" for line in card.losses)),
        _section("Training settings", _table(card.settings)),
        _section("Metrics", _table({k: f"{v:.4f}" for k, v in card.metrics.items()})),
        _section("Lineage", f"```\n{card.lineage}\n```" if card.lineage else ""),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(card: ModelCard, facts: Facts) -> str:
    """Return the YAML that hubs read."""
    values: dict[str, Any] = {
        "language": list(card.languages) or None,
        "license": card.licence,
        "base_model": card.base_model,
        "library_name": "sentence-transformers",
        "pipeline_tag": facts.task,
        "tags": ["sentence-transformers", facts.tag, "raybert"],
        "model-index": _results(card, facts) if card.metrics else None,
    }
    return yaml.safe_dump({k: v for k, v in values.items() if v is not None}, sort_keys=False)


def _results(card: ModelCard, facts: Facts) -> list[dict[str, Any]]:
    """Return the metrics as a `model-index`."""
    metrics = [
        {"type": name, "value": float(value), "name": name} for name, value in card.metrics.items()
    ]
    task = {"type": facts.task, "name": facts.task}
    dataset = {"name": "held-out", "type": "held-out"}
    return [
        {"name": card.name, "results": [{"task": task, "dataset": dataset, "metrics": metrics}]}
    ]


def _section(title: str, body: str) -> str:
    """Return a section, or nothing where there is no body."""
    return f"## {title}\n\n{body}" if body else ""


def _table(values: Mapping[str, Any]) -> str:
    """Return a two-column table."""
    if not values:
        return ""
    escaped = {name: str(value).replace("|", "\\|") for name, value in values.items()}
    rows = [f"| {name} | {value} |" for name, value in escaped.items()]
    return "\n".join(["| | |", "|---|---|", *rows])
