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
from typing import Any, TypeVar

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
from raybert.corpus.steps import ReadShards, ShardRows, Tokenizes, WriteShard
from raybert.devices import cpu_count, set_threads
from raybert.errors import RaybertError
from raybert.records import ImageFiles

_LOCAL_SCAN_PIECES = 8
_RESTARTS = 3
_Result = TypeVar("_Result")


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
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
        yield from map(_unless_fault, _results(batch))


def _dataset(work: _Work, units: Sequence[tuple[ShardPlan, ...]], workers: int) -> Any:
    """Lay out the stream: units to read, shards to encode, receipts."""
    _one_shard_a_block()
    pool = ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2)
    # A lost host's actors cannot be reached for some seconds, in which Ray tries a task many times:
    # tries have no limit. Restarts have one, without which a poison row would restart for ever.
    restarts = {"max_restarts": _RESTARTS, "max_task_retries": -1}
    with warnings.catch_warnings():
        # Restarts have no named parameter yet.
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
                batch_size=1,
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
    """Return what one worker asks of the cluster, leaving a core to reading, or half the only one.

    Never nothing: a head that offers no core, so that none works there, would take the worker.
    With a GPU it asks for no core, of which Ray Data would else give it a whole one: on a host with
    as many GPUs as cores none would be left to read.
    """
    cpus, gpus = cluster_size()
    if encoding.device != "cpu" and gpus:
        return {"num_gpus": 1, "num_cpus": 0}
    left = cpus - min(1.0, cpus / 2)
    return {"num_cpus": min(float(encoding.threads), max(0.01, round(left / workers, 2)))}


def _read(batch: pa.Table, work: _Work) -> Iterator[pa.Table]:
    """Ray's face of `ReadShards`: a unit in, one row a shard out."""
    for unit in batch["unit"].to_pylist():
        try:
            for rows in _reader(work)(pickle.loads(unit)):
                yield _row(rows)
        except RaybertError as fault:
            yield _row(fault)


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
        try:
            columns = open_columns(work.encoding)
            self._step: WriteShard | RaybertError = WriteShard(Folder(work.out), columns, work.plan)
        except RaybertError as fault:
            self._step = fault

    def __call__(self, batch: pa.Table) -> pa.Table:
        return pa.concat_tables([_row(self._written(shard)) for shard in _results(batch)])

    def _written(self, shard: ShardRows | RaybertError) -> Receipt | RaybertError:
        try:
            return _unless_fault(self._step)(_unless_fault(shard))
        except RaybertError as fault:
            return fault


def _row(result: ShardRows | Receipt | RaybertError) -> pa.Table:
    """Return what a stage hands on. Faults are handed on too: one raised would lose its type."""
    return pa.table({"result": pa.array([pickle.dumps(result)], pa.large_binary())})


def _results(batch: pa.Table) -> Iterator[Any]:
    return map(pickle.loads, batch["result"].to_pylist())


def _unless_fault(result: _Result | RaybertError) -> _Result:
    """Return what a stage handed on; raise it, if it is a fault."""
    if isinstance(result, RaybertError):
        raise result
    return result
