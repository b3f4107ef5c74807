"""A registered version, the reports measured with it, and what it takes to replace the champion."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from raybert.artifacts import fingerprint, read_manifest
from raybert.errors import InputError
from raybert.tracking.notes import allowed_name

REPORT = "report."
"""How the tag of a version begins that holds a report's figures."""
MEASURED = ("model", "run", "index", "embeddings")
"""Kinds of a report's inputs that are what was measured; the others are what it was measured on."""


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of a report.

    Args:
        metrics: by name.
        data: hash of what it was measured on; reports of other data cannot be compared.
        uri: where the report lies.
    """

    metrics: Mapping[str, float]
    data: str
    uri: str

    @classmethod
    def read(cls, folder: str | Path) -> Report:
        """Read a report artifact.

        Raises:
            ArtifactError: there is none.
        """
        made = read_manifest(folder, kind="report")
        data = [item.fingerprint for item in made.inputs if item.kind not in MEASURED]
        return cls(made.details["metrics"], fingerprint(data), str(folder))

    @classmethod
    def of_tag(cls, tag: str) -> Report:
        """Read what `tag` wrote."""
        return cls(**json.loads(tag))

    @property
    def tag(self) -> str:
        """The report as a tag's value."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version.

    Args:
        name: the model's name.
        version: its number, from 1.
        aliases: champion, previous, or whatever people set.
        created_ms: when it was registered, in milliseconds since the epoch.
        run_id: the run that made it, if one did.
        metrics: that run's last metrics.
        reports: reports measured with it, by the name they were added under.
    """

    name: str
    version: int
    aliases: tuple[str, ...]
    created_ms: int
    run_id: str | None
    metrics: Mapping[str, float]
    reports: Mapping[str, Report] = field(default_factory=dict)

    def figure(self, metric: str, report: str | None) -> float:
        """Return a metric of the run, or of a report.

        Raises:
            InputError: there is no such report, or it has no such metric.
        """
        where, metrics, key = "its run", self.metrics, allowed_name(metric)
        if report is not None:
            if report not in self.reports:
                known = ", ".join(self.reports) or "none"
                raise InputError(f"{self}: no report {report!r}; there are {known}")
            where, metrics, key = f"report {report!r}", self.reports[report].metrics, metric
        if key not in metrics:
            known = ", ".join(sorted(metrics)) or "none"
            raise InputError(f"{self}: {where} has no metric {metric!r}; there are {known}")
        return metrics[key]

    def __str__(self) -> str:
        return f"model {self.name!r} version {self.version}"


def refuse_no_better(
    candidate: Version, champion: Version, metric: str, report: str | None = None
) -> None:
    """Refuse a candidate that is not better than the champion; higher is better.

    Args:
        candidate: who wants to be champion.
        champion: who is.
        metric: what they are compared in.
        report: the report it stands in; the run's own metrics if None.

    Raises:
        InputError: it is not better, or a figure is missing, or the reports are of other data.
    """
    mine, theirs = (found.figure(metric, report) for found in (candidate, champion))
    if report is not None and candidate.reports[report].data != champion.reports[report].data:
        raise InputError(f"{candidate}: its report {report!r} is of other data than the champion's")
    if not mine > theirs:
        raise InputError(
            f"{candidate} has {metric} {mine:.4f}, the champion (version {champion.version}) "
            f"{theirs:.4f}: not promoted"
        )
