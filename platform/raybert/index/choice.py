"""The choice of a kind: every kind is built and measured, the fastest that fits is taken."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Unpack

import pyarrow as pa

from raybert.artifacts import Folder, Manifest
from raybert.errors import InputError
from raybert.index.build import TARGET_RECALL, Beside, build_from, finished_as
from raybert.index.kinds import KINDS, pick_kind
from raybert.index.plan import Plan
from raybert.index.recall import PROBES
from raybert.index.source import Embeddings, open_source

TRIALS = "trials"
"""Where the kinds that compete are built, within the index; removed in the end."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a kind must fulfil.

    Args:
        min_recall: recall@10 against exact search.
        max_bytes: bytes of memory of the whole index, its stores on disk not counted; any if None.
    """

    min_recall: float = TARGET_RECALL
    max_bytes: int | None = None

    def fits(self, point: dict[str, Any]) -> bool:
        """Say whether a kind as measured fulfils it."""
        reached = point["recall"] is not None and point["recall"] >= self.min_recall
        return reached and (self.max_bytes is None or point["bytes"] <= self.max_bytes)

    def fastest(self, points: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the fastest that fits.

        Raises:
            InputError: none does; the message says how every kind measured.
        """
        fitting = [point for point in points if self.fits(point)]
        if fitting:
            return min(fitting, key=lambda point: (point["milliseconds"], point["kind"]))
        most = "any size" if self.max_bytes is None else f"{self.max_bytes:,} bytes"
        measured = "; ".join(
            f"{point['kind']} {point['recall']:.4f}, {point['bytes']:,} bytes" for point in points
        )
        raise InputError(f"no kind reaches recall@10 {self.min_recall} in {most}: {measured}")


def build_chosen(
    embeddings: str,
    out: str,
    choice: Choice,
    *,
    shards: int = 1,
    metric: str | None = None,
    documents: Iterable[pa.Table] | None = None,
    model_fingerprint: str | None = None,
    **beside: Unpack[Beside],
) -> Manifest:
    """Build every dense kind, measure them, and keep the fastest that fits.

    The manifest's details have `frontier`, all kinds as measured, and `choice`. Arguments are those
    of `build_index`; a finished index is left as it is.

    Raises:
        ArtifactError: as for `build_index`.
        InputError: as for `build_index`, or no kind fits.
    """
    if not beside.get("probes", PROBES):
        raise InputError("probes 0: a kind is chosen by measured recall, which needs probes")
    if (done := finished_choice(embeddings, out, choice, shards=shards, metric=metric)) is not None:
        return done
    source, folder = open_source(embeddings, "flat", model_fingerprint), Folder(out)
    plans = _plans(source, choice, shards, metric)
    points = []
    for plan in plans:
        trial = Folder(folder.path(f"{TRIALS}/{plan.kind}"))
        with warnings.catch_warnings(action="ignore"):
            built = build_from(source, trial, plan, refuse=False, **beside)
        points.append(measured(built))
    picked = choice.fastest(points)
    plan = next(plan for plan in plans if plan.kind == picked["kind"])
    folder.remove(TRIALS)
    more = {"frontier": points, "choice": _asked(choice, shards, metric)}
    return build_from(source, folder, plan, documents=documents, more=more, **beside)


def finished_choice(
    embeddings: str, out: str, choice: Choice, *, shards: int = 1, metric: str | None = None
) -> Manifest | None:
    """Return the manifest of an index chosen from these embeddings by this choice, if there.

    Raises:
        ArtifactError: `out` holds something else.
    """
    made_from = Embeddings.open(embeddings).inputs[0]
    return finished_as(Folder(out), made_from, "choice", _asked(choice, shards, metric))


def measured(manifest: Manifest) -> dict[str, Any]:
    """Return what was measured of an index: kind, recall, milliseconds a query, bytes."""
    details = manifest.details
    return {
        "kind": details["kind"],
        "recall": details["recall"]["value"],
        "milliseconds": details["recall"]["milliseconds"],
        "effort": details["effort"],
        "bytes": round(details["bytes_per_vector"] * manifest.rows),
        "bytes_per_vector": details["bytes_per_vector"],
        "stored_bytes_per_vector": details["stored_bytes_per_vector"],
        "build_seconds": details["build_seconds"],
        "tried": details["tried"],
    }


def draw_frontier(axes: Any, points: list[dict[str, Any]]) -> None:
    """Draw recall over milliseconds on matplotlib axes: a line of efforts a kind, bytes named."""
    for point in points:
        tried = [one for one in point["tried"] if one["value"] is not None]
        if not tried:
            continue
        times, recalls = [one["milliseconds"] for one in tried], [one["value"] for one in tried]
        label = f"{point['kind']}, {point['bytes_per_vector']:.0f} bytes a vector"
        (line,) = axes.plot(times, recalls, marker=".", alpha=0.6)
        axes.plot(times[-1:], recalls[-1:], "o", color=line.get_color(), label=label)
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds a query")
    axes.set_ylabel("recall@10")
    least = axes.get_ylim()[0]
    axes.set_ylim(least, 1 + (1 - least) / 20)  # no recall is above 1
    axes.grid(alpha=0.3)
    if axes.has_data():
        axes.legend(fontsize="small", loc="lower right")


def _plans(source: Embeddings, choice: Choice, shards: int, metric: str | None) -> list[Plan]:
    """Return a plan for every dense kind that ranks by the metric."""
    ranked_by = metric or source.metric
    kinds = [name for name in KINDS if pick_kind(name).reads == "dense"]
    fitting = [name for name in kinds if ranked_by in pick_kind(name).metrics]
    names = fitting or kinds[:1]
    return [Plan.of(source, name, shards, metric, None, choice.min_recall) for name in names]


def _asked(choice: Choice, shards: int, metric: str | None) -> dict[str, Any]:
    return {
        "min_recall": choice.min_recall,
        "max_bytes": choice.max_bytes,
        "shards": shards,
        "metric": metric,
    }
