"""Encoding on Ray Data: pieces are read and tokenized by CPU tasks, shards encoded by actors.

One row of the Ray dataset is one shard, so a shard is never split between two workers and what is
in flight is a handful of shards, however large the corpus.
"""

from __future__ import annotations

import functools
import pickle
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
import ray.data

from raybert.artifacts import Folder
from raybert.corpus.cluster import cluster_size, connect, quiet_data
from raybert.corpus.columns import open_columns
from raybert.corpus.encoding import Encoding
from raybert.corpus.plan import Plan, Receipt, ShardPlan, reading_units
from raybert.corpus.read import Columns
from raybert.corpus.reuse import EncodedRows
from raybert.corpus.scan import PieceScan, ScanPiece
from raybert.corpus.sources import Piece
from raybert.corpus.steps import ReadShards, Tokenizes, WriteShard
from raybert.devices import cpu_count, set_threads
from raybert.errors import RaybertError
from raybert.records import ImageFiles

_LOCAL_SCAN_PIECES = 8
_RESTARTS = 3


@dataclass(frozen=True, slots=True)
class _Work:
    """What every worker must know."""

    encoding: Encoding
    columns: Columns
    out: str
    plan: str
    earlier: Any = None


def scan_pieces(step: ScanPiece, pieces: Sequence[Piece]) -> Iterable[PieceScan]:
    """Apply the scan to every piece: here if they are few, else on the cluster; in order."""
    if len(pieces) <= _LOCAL_SCAN_PIECES:
        return map(step, pieces)
    connect()
    scan = ray.remote(_scan)
    shared = ray.put(step)
    return ray.get([scan.remote(shared, piece) for piece in pieces])  # type: ignore[no-any-return]


def _scan(step: ScanPiece, piece: Piece) -> PieceScan:
    return step(piece)


def share_out(workers: int, device: str) -> tuple[int, int]:
    """Return (workers, threads each): a GPU each where there are GPUs, else the cores shared out.

    Args:
        workers: how many the user wants; 0 leaves it to the cluster's size.
        device: `auto`, `cpu` or `cuda`.
    """
    connect()
    cpus, gpus = cluster_size()
    if device != "cpu" and gpus:
        return workers or gpus, 1
    count = workers or max(1, round(cpus / min(cpu_count(), 4)))
    return count, max(1, int(cpus // count))


def encode_shards(
    plan: Plan,
    folder: Folder,
    encoding: Encoding,
    columns: Columns,
    workers: int,
) -> Iterator[Receipt]:
    """Encode every open shard of a plan; yields receipts as shards are done.

    A worker that dies is started again, and its shard encoded again. A row that kills its worker
    every time ends the job after three restarts.

    Raises:
        RaybertError: as raised by a step on a worker.
    """
    connect()
    earlier = ray.put(EncodedRows(folder, plan.earlier)) if plan.earlier else None
    work = _Work(encoding, columns, folder.absolute, plan.id, earlier)
    dataset = _dataset(work, reading_units(plan.open_shards), workers)
    try:
        for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from map(Receipt.model_validate_json, batch["receipt"].to_pylist())
    except ray.exceptions.RayError as error:
        raise _told(error) from None


def _dataset(work: _Work, units: Sequence[tuple[ShardPlan, ...]], workers: int) -> Any:
    """Lay out the stream: units to read, shards to encode, receipts."""
    _one_shard_a_block()
    pool = ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2)
    restarts = {"max_restarts": _RESTARTS, "max_task_retries": _RESTARTS}
    with warnings.catch_warnings():
        # Restarts have no named parameter yet; without a limit a poison row restarts for ever.
        warnings.filterwarnings("ignore", message=".*ray_remote_args.*")
        return (
            ray.data.from_items(
                [{"unit": pickle.dumps(unit)} for unit in units], override_num_blocks=len(units)
            )
            .map_batches(_read, fn_kwargs={"work": work}, batch_format="pyarrow", num_cpus=0.5)
            .map_batches(
                _Worker,
                fn_constructor_kwargs={"work": work},
                batch_format="pyarrow",
                compute=pool,
                **_resources(work.encoding, workers),
                **restarts,
            )
        )


def _one_shard_a_block() -> None:
    """Let Ray Data pass each row on as soon as it is there, and leave the log to us.

    Its look at a worker's memory every second is left out: it stops the worker's threads meanwhile,
    and cost a twentieth of two cores.
    """
    context = quiet_data()
    context.target_max_block_size = 1
    context.memory_usage_poll_interval_s = None


def _resources(encoding: Encoding, workers: int) -> dict[str, float]:
    """Return what one worker asks of the cluster, leaving half a core or more for reading."""
    cpus, gpus = cluster_size()
    if encoding.device != "cpu" and gpus:
        return {"num_gpus": 1}
    return {"num_cpus": min(float(encoding.threads), round((cpus - 1) / workers, 2))}


def _read(batch: pa.Table, work: _Work) -> Iterator[pa.Table]:
    """Ray's face of `ReadShards`: a unit in, one row a shard out."""
    for unit in batch["unit"].to_pylist():
        for rows in _reader(work)(pickle.loads(unit)):
            yield pa.table({"shard": pa.array([pickle.dumps(rows)], pa.large_binary())})


@functools.lru_cache(maxsize=1)
def _reader(work: _Work) -> ReadShards:
    if work.encoding.images:
        tokenize: Tokenizes = ImageFiles
    else:
        pre = work.encoding.open_tokenizing().pre
        tokenize = functools.partial(pre, prompt=work.encoding.prompt)
    earlier = None if work.earlier is None else ray.get(work.earlier)
    return ReadShards(work.columns, work.encoding.context, tokenize, earlier)


class _Worker:
    """Ray's face of `WriteShard`: a shard in, its receipt out."""

    def __init__(self, work: _Work) -> None:
        set_threads(work.encoding.threads)
        self._step = WriteShard(Folder(work.out), open_columns(work.encoding), work.plan)

    def __call__(self, batch: pa.Table) -> pa.Table:
        shards = (pickle.loads(shard) for shard in batch["shard"].to_pylist())
        return pa.table({"receipt": [self._step(rows).model_dump_json() for rows in shards]})


def _told(error: Exception) -> Exception:
    """Return the fault a step raised on a worker, else Ray's own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, RaybertError):
            return cause
        cause = getattr(cause, "cause", None) or cause.__cause__
    return error
