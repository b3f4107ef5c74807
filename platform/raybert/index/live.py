"""A live index: rows upserted and deleted under stable ids, each seen by the next search.

A change is appended to a log and flushed before it counts; fresh rows are searched exactly in
memory and sealed into segments, ordinary artifacts, which `compact` merges. One writer at a time
holds the writer's lock, whichever process it is in; every process sees the changes of all others,
because it looks at the state and the log before it searches. The folder must be local, or on a
shared file system whose locks and sizes are those of a local one.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from raybert.artifacts import Folder, Input
from raybert.errors import ArtifactError, InputError
from raybert.index.columns import RESERVED, Documents, fitted, payload_columns
from raybert.index.compaction import compact
from raybert.index.filters import Filter
from raybert.index.kinds import pick_kind
from raybert.index.live_files import LiveFiles, begin_log
from raybert.index.live_rows import row_form
from raybert.index.live_state import STATE, LiveState, write_state
from raybert.index.locking import held
from raybert.index.log import Record, append_record
from raybert.index.metric import pick_metric
from raybert.index.queries import Queries
from raybert.index.snapshot import Snapshot
from raybert.records import ID, VECTOR, Hit

LIVE_KINDS = ("flat", "hnsw", "ivf", "int8", "binary", "inverted")
"""Kinds of index that a live one's segments may be; `bm25` weighs a word by the whole corpus."""
SEAL_ROWS = 8192
"""Fresh rows at which a segment is sealed."""
_WAIT_S = 30.0
_PATIENCE = 4
_log = logging.getLogger(__name__)


def is_live(uri: str) -> bool:
    """Say whether a live index lies at `uri`."""
    return Folder(uri).exists(STATE)


def create_live(
    uri: str,
    *,
    model: Input,
    dimension: int,
    metric: str = "cosine",
    kind: str = "flat",
    encoding: dict[str, Any] | None = None,
    seal_rows: int = SEAL_ROWS,
) -> LiveIndex:
    """Make an empty live index and open it.

    Args:
        uri: its folder, local.
        model: the model that makes its vectors.
        dimension: width of the vectors; of sparse ones the terms of the vocabulary.
        metric: cosine, dot, euclidean or manhattan.
        kind: kind of the sealed segments; fresh rows are always searched exactly.
        encoding: settings the texts are encoded by, such as `text_column`.
        seal_rows: fresh rows at which a segment is sealed beside the writing.

    Raises:
        ArtifactError: a live index is there already, or the folder is remote.
        InputError: unknown kind or metric, or one that does not go with the other.
    """
    folder = _local(uri)
    if folder.exists(STATE):
        raise ArtifactError(f"{folder}: holds a live index already")
    if kind not in LIVE_KINDS:
        raise InputError(f"kind {kind!r}: a live index is one of {', '.join(LIVE_KINDS)}")
    if metric not in pick_kind(kind).metrics:
        raise InputError(f"kind {kind!r} cannot rank by {metric!r}: {pick_kind(kind).metrics}")
    if dimension < 1:
        raise InputError(f"dimension {dimension}: at least 1 is allowed")
    state = LiveState(
        identity=uuid.uuid4().hex,
        kind=kind,
        metric=pick_metric(metric).name,
        dimension=dimension,
        model=model,
        encoding=encoding or {},
        logs=("00000001.wal",),
    )
    begin_log(folder, state.logs[0])
    write_state(folder, state)
    return LiveIndex(uri, seal_rows=seal_rows)


class LiveIndex:
    """An opened live index; it reads, and writes when it is asked to.

    >>> live = create_live("runs/faq-live", model=model, dimension=384)    # doctest: +SKIP
    >>> live.upsert(["q1"], vectors, [{"text": "How do I …"}])             # doctest: +SKIP
    >>> live.search(encoder.encode_query("how"), 10)                       # doctest: +SKIP

    Args:
        uri: its folder.
        seal_rows: fresh rows at which a segment is sealed beside the writing; None seals only
            when `compact` is called.

    Raises:
        ArtifactError: no live index there, or a file of it is damaged; the file is named.
    """

    def __init__(self, uri: str, *, seal_rows: int | None = SEAL_ROWS) -> None:
        self.folder = _local(uri)
        self.seal_rows = seal_rows
        self.files = LiveFiles(self.folder)
        self._root = Path(self.folder.absolute)
        self._threads = threading.RLock()
        self._beside: threading.Thread | None = None
        self.dropped_bytes = self._recover()
        """Bytes of a torn record, of a writer killed in mid-write, that were cut off at opening."""

    def __len__(self) -> int:
        return len(self.snapshot())

    def snapshot(self) -> Snapshot:
        """Return the index as it stands now: every change that was acknowledged is in it."""
        return self.files.snapshot()

    def search(
        self, queries: Queries, top_k: int = 10, filter: Filter | None = None
    ) -> list[list[Hit]]:
        """Search the index as it stands now; see `Snapshot.search`."""
        return self.snapshot().search(queries, top_k, filter)

    def upsert(
        self,
        ids: Sequence[str],
        vectors: Queries,
        documents: Documents | None = None,
        *,
        model_fingerprint: str,
    ) -> int:
        """Write rows; those whose id is there already are replaced. All of them count, or none.

        Args:
            ids: stable ids, each once.
            vectors: [N, D], or sparse rows [N, V], of the index's own model.
            documents: payload of each row; a column keeps the type it first had.
            model_fingerprint: the model that made the vectors.

        Returns:
            The sequence of the change: a snapshot of that sequence or later sees it.

        Raises:
            ArtifactError: vectors of another model; the disk is full.
            InputError: ids, vectors or documents that cannot be taken; nothing is written.
            OverloadedError: another process writes for longer than 30 s.
        """
        self._check_model(model_fingerprint)
        named = _checked_ids(ids)
        form = row_form(self.files.state)
        column = form.column(vectors)
        columns = payload_columns(documents, len(named), (*RESERVED, *form.columns[1:]))
        if len(column) != len(named):
            raise InputError(f"{len(column)} vector(s) for {len(named)} id(s)")
        rows = {ID: pa.array(named, pa.large_string()), VECTOR: column}

        def change(snapshot: Snapshot) -> pa.Table:
            return pa.table({**rows, **fitted(columns, snapshot.world.schema)})

        sequence = self._commit("upsert", change) if named else self.snapshot().sequence
        self._seal_when_full()
        return sequence

    def delete(self, ids: Sequence[str]) -> list[str]:
        """Delete rows and return the ids that were there; of the others nothing is written."""
        deleted: list[str] = []

        def change(snapshot: Snapshot) -> pa.Table:
            known = snapshot.documents
            deleted.extend(each for each in dict.fromkeys(ids) if each in known)
            return pa.table({ID: pa.array(deleted, pa.large_string())})

        self._commit("delete", change)
        return deleted

    def compact(self, *, everything: bool = False) -> bool:
        """Seal the fresh rows and merge segments, while others search and write.

        Args:
            everything: merge all segments into one, whatever their size.

        Returns:
            Whether anything was done: not if another process does it just now.
        """
        return compact(self, everything=everything)

    def close(self) -> None:
        """Wait for a segment that is being sealed."""
        if self._beside is not None:
            self._beside.join()

    @contextmanager
    def writing(self) -> Iterator[Snapshot]:
        """Hold the writer's lock; yields the index as it stands then."""
        with self._threads, held(self._root / "writer.lock", _WAIT_S):
            yield self.snapshot()

    def _commit(self, operation: Any, change: Callable[[Snapshot], pa.Table]) -> int:
        with self.writing() as snapshot:
            table = change(snapshot)
            if not table.num_rows:
                return snapshot.sequence
            record = Record(snapshot.sequence + 1, operation, table)
            try:
                append_record(self.files.log, record, self.files.end)
            except ArtifactError:
                self.files.forget()  # a search beside us may have read what was taken back
                raise
            return self.snapshot().sequence

    def _recover(self) -> int:
        """Cut off a torn record, unless someone is writing it just now."""
        self.snapshot()
        if not self.files.torn:
            return 0
        with self.writing():
            torn = self.files.trim()
        if torn:
            _log.warning("%s: %d bytes of a torn record were dropped", self.files.log, torn)
        return torn

    def _check_model(self, fingerprint: str) -> None:
        own = self.files.state.model
        if fingerprint != own.fingerprint:
            raise ArtifactError(
                f"{self.folder}: holds vectors of the model {own.uri} ({own.fingerprint}); "
                f"those given are of {fingerprint}"
            )

    def _seal_when_full(self) -> None:
        """Start sealing beside the writing; a writer that is far ahead of it waits."""
        if self.seal_rows is None:
            return
        fresh = sum(len(part) for part in self.files.snapshot().world.fresh)
        if fresh >= self.seal_rows and (self._beside is None or not self._beside.is_alive()):
            self._beside = threading.Thread(target=self._seal, name="seal", daemon=True)
            self._beside.start()
        if fresh >= _PATIENCE * self.seal_rows:
            self.close()

    def _seal(self) -> None:
        try:
            self.compact()
        except Exception:  # noqa: BLE001  nobody waits for it; the next full log tries again
            _log.exception("%s: sealing failed; it is tried again", self.folder)


def _local(uri: str) -> Folder:
    folder = Folder(uri)
    if folder.local is None:
        raise ArtifactError(f"{uri}: a live index needs a local folder")
    return folder


def _checked_ids(ids: Sequence[str]) -> list[str]:
    named = list(ids)
    for identifier in named:
        if not isinstance(identifier, str) or not identifier:
            raise InputError(f"id {identifier!r}: a text of at least one character is expected")
        if not identifier.isascii():
            _refuse_surrogates(identifier)
    if len(set(named)) < len(named):
        twice = next(each for each in named if named.count(each) > 1)
        raise InputError(f"id {twice!r} stands twice in one upsert")
    return named


def _refuse_surrogates(identifier: str) -> None:
    try:
        identifier.encode()
    except UnicodeEncodeError:
        raise InputError(f"id {identifier!r} holds a lone surrogate, which is no text") from None
