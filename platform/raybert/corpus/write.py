"""Finishing an embeddings artifact: the manifest last, then what is no longer needed goes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from raybert.artifacts import Folder, Input, Manifest, finished, write_manifest, write_table
from raybert.corpus.plan import PROGRESS, SHARDS, Plan, Receipt
from raybert.corpus.scan import Rejection
from raybert.records import BatchUsage

REJECTED = "rejected.parquet"


@dataclass(frozen=True, slots=True)
class Totals:
    """What an encoding came to.

    Args:
        encoded: rows that went through the model in this run or one it resumed.
        reused: rows taken over because their content had not changed.
        usage: tokens, and tokens computed with padding.
        seconds: time in the model, summed over workers.
    """

    encoded: int = 0
    reused: int = 0
    usage: BatchUsage = field(default_factory=BatchUsage)
    seconds: float = 0.0

    @classmethod
    def of(cls, receipts: Iterable[Receipt]) -> Totals:
        """Add receipts up."""
        total = cls()
        for receipt in receipts:
            total = total.plus(receipt)
        return total

    def plus(self, receipt: Receipt) -> Totals:
        """Return the totals with one more shard."""
        return Totals(
            self.encoded + receipt.encoded,
            self.reused + receipt.reused,
            self.usage + BatchUsage(receipt.tokens, receipt.computed_tokens),
            self.seconds + receipt.seconds,
        )


def finished_plan(folder: Folder, plan: Plan) -> Manifest | None:
    """Return the manifest if this very plan is finished, after clearing what a crash left."""
    manifest = finished(folder)
    if manifest is None or manifest.details.get("plan") != plan.id:
        return None
    _clear(folder, manifest)
    return manifest


def finish_embeddings(
    folder: Folder,
    plan: Plan,
    receipts: Sequence[Receipt],
    rejected: Sequence[Rejection],
    *,
    settings: dict[str, Any],
    inputs: Sequence[Input],
    mlflow_run: str | None,
) -> Manifest:
    """Write the rejected rows and the manifest, then remove progress and outdated shards.

    Args:
        receipts: one for every shard of the plan.
    """
    in_order = sorted(receipts, key=lambda receipt: receipt.number)
    bad = [*rejected, *(row for receipt in in_order for row in receipt.rejected)]
    folder.remove(REJECTED)
    if bad:
        write_table(folder, REJECTED, _rejected_table(bad))
    details = in_order[0].details if in_order else {}
    manifest = write_manifest(
        folder,
        Manifest(
            kind="embeddings",
            settings=settings,
            inputs=tuple(inputs),
            shards=tuple(receipt.shard for receipt in in_order),
            details=details | {"plan": plan.id, "rejected": len(bad)},
            mlflow_run=mlflow_run,
        ),
    )
    _clear(folder, manifest)
    return manifest


def _clear(folder: Folder, manifest: Manifest) -> None:
    live = {shard.file for shard in manifest.shards}
    for name in folder.names(SHARDS):
        if f"{SHARDS}/{name}" not in live:
            folder.remove(f"{SHARDS}/{name}")
    folder.remove(PROGRESS)


def _rejected_table(rejected: Sequence[Rejection]) -> pa.Table:
    return pa.table(
        {
            "file": pa.array([bad.file or None for bad in rejected], pa.string()),
            "row": pa.array([bad.row if bad.row >= 0 else None for bad in rejected], pa.int64()),
            "id": pa.array([bad.id or None for bad in rejected], pa.string()),
            "reason": pa.array([bad.reason for bad in rejected], pa.string()),
        }
    )
