"""What is settled once for a whole corpus and then kept: the back end, and the ranges of bytes.

Both are written into the artifact's folder before the first shard, so that every worker, every
resumed run and every later run over a changed corpus uses the same ones.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

from raybert.artifacts import Folder
from raybert.corpus.encode import encode_shards, share_out
from raybert.corpus.encoding import RANGED, Encoding
from raybert.corpus.plan import Plan, ShardPlan, plan_shards
from raybert.corpus.read import Columns
from raybert.corpus.scan import CorpusScan
from raybert.encoders import open_encoder
from raybert.errors import ArtifactError
from raybert.modules.backends import AUTO
from raybert.vectors.quantization import Ranges

SETTLED = "settled.json"
CALIBRATION = "calibration"


def settle_backend(folder: Folder, encoding: Encoding) -> Encoding:
    """Replace the back end `auto` by the one that is fastest here, or that was before.

    Args:
        folder: the artifact's folder.
        encoding: how the corpus is encoded.
    """
    if encoding.backend != AUTO:
        return encoding
    known = _read(folder)
    if (chosen := known.get("backend")) is None:
        chosen = open_encoder(encoding.model, device="cpu", backend=AUTO).backend
        _write(folder, known | {"backend": chosen})
    return replace(encoding, backend=chosen)


def settle_ranges(
    folder: Folder,
    encoding: Encoding,
    scan: CorpusScan,
    columns: Columns,
    *,
    workers: int,
    rows_per_shard: int,
    rows: int,
) -> Encoding:
    """Give an encoding into int8 or uint8 the ranges of its corpus: one pass of the workers.

    They encode shards spread evenly over the corpus, each writes its shard's ranges into its
    receipt, and the merged ranges are kept. Values outside them are cut off.

    Args:
        folder: the artifact's folder.
        encoding: how the corpus is encoded.
        scan: what was found in the corpus.
        columns: where id and text stand.
        workers: encoding actors; 0 leaves it to the cluster's size.
        rows_per_shard: good rows in a shard.
        rows: rows to take the ranges of, at least; 0 takes all.

    Raises:
        ArtifactError: no row of the corpus has a finite vector.
    """
    if encoding.precision not in RANGED:
        return encoding
    measuring = replace(encoding, precision="float32", calibrating=True)
    known = _read(folder)
    found = known.get("ranges", {}).get(measuring.context)
    if found is None:
        found = _measured(folder, measuring, scan, columns, workers, rows_per_shard, rows)
        _write(folder, known | {"ranges": {measuring.context: found}})
        Folder(f"{folder.absolute}/{CALIBRATION}").remove("")
    low, high = found
    return replace(encoding, ranges=(tuple(low), tuple(high)))


def _measured(
    folder: Folder,
    measuring: Encoding,
    scan: CorpusScan,
    columns: Columns,
    workers: int,
    rows_per_shard: int,
    rows: int,
) -> list[list[float]]:
    """Encode the chosen shards beside the artifact and merge their ranges."""
    beside = Folder(f"{folder.absolute}/{CALIBRATION}")
    plan = plan_shards(beside, scan, measuring.context, rows_per_shard)
    chosen = spread(plan.shards, -(-rows // rows_per_shard) if rows else len(plan.shards))
    plan = Plan(plan.id, chosen, plan.receipts, ())
    numbers = {shard.number for shard in chosen}
    receipts = [receipt for number, receipt in plan.receipts.items() if number in numbers]
    if plan.open_shards:
        workers, threads = share_out(workers, measuring.device)
        measuring = replace(measuring, threads=threads)
        receipts += encode_shards(plan, beside, measuring, columns, workers)
    parts = [receipt.details["ranges"] for receipt in receipts if receipt.details.get("ranges")]
    if not parts:
        raise ArtifactError(f"{folder}: no row has a finite vector, so there are no ranges")
    return reduce(Ranges.merge, map(Ranges.from_lists, parts)).as_lists()


def spread(shards: Sequence[ShardPlan], count: int) -> tuple[ShardPlan, ...]:
    """Return `count` shards (all, if there are fewer) at even distances, the last one included."""
    if count >= len(shards):
        return tuple(shards)
    return tuple(shards[(at + 1) * len(shards) // count - 1] for at in range(count))


def _read(folder: Folder) -> dict[str, Any]:
    """Return what was settled before."""
    if not folder.exists(SETTLED):
        return {}
    found: dict[str, Any] = json.loads(folder.read_bytes(SETTLED))
    return found


def _write(folder: Folder, settled: dict[str, Any]) -> None:
    folder.write_bytes(SETTLED, json.dumps(settled).encode())
