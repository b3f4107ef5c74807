"""The steps of an encoding: read and tokenize a shard's rows; encode and write the shard.

A step holds settings and has one method over one thing. It does not know Ray.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybert.artifacts import Folder, content_hash, write_table
from raybert.corpus.plan import Receipt, ShardPlan, Slice, receipt_file
from raybert.corpus.read import Columns, Row, read_rows
from raybert.corpus.reuse import EncodedRows
from raybert.corpus.sources import Piece
from raybert.errors import ArtifactError
from raybert.records import CONTENT, ID, BatchUsage, ImageFiles, TokenizedTexts


class Tokenizes(Protocol):
    """What reading needs of a model: its tokenization, not its weights."""

    def __call__(self, texts: Sequence[Any], /) -> TokenizedTexts | ImageFiles:
        """Return the token ids of texts; images stay as they are."""


class Encodes(Protocol):
    """What writing needs of a model."""

    details: dict[str, Any]

    def __call__(self, tokens: TokenizedTexts | ImageFiles) -> tuple[pa.Table, BatchUsage]:
        """Return the columns to store, null where no vector is finite, and what they cost."""


@dataclass(frozen=True, slots=True)
class ShardRows:
    """The rows of one shard on their way to the model.

    Args:
        number: the shard's number.
        file: the shard's file.
        ids: every row's id.
        content: every row's content hash.
        tokens: token ids (or images) of the rows that must be encoded, in row order.
        known_at: the other rows: those that were encoded before.
        known: their vectors, in the order of `known_at`.
    """

    number: int
    file: str
    ids: list[str]
    content: list[str]
    tokens: TokenizedTexts | ImageFiles
    known_at: list[int]
    known: pa.Table | None


class ReadShards:
    """Read the rows of shards that begin in the same piece, and tokenize what is new.

    Args:
        columns: where id and text stand.
        context: fingerprint of all a vector depends on but its text.
        tokenize: gives token ids.
        earlier: rows encoded before, if any.
    """

    def __init__(
        self,
        columns: Columns,
        context: str,
        tokenize: Tokenizes,
        earlier: EncodedRows | None = None,
    ) -> None:
        self.columns = columns
        self.context = context
        self.tokenize = tokenize
        self.earlier = earlier

    def __call__(self, unit: Sequence[ShardPlan]) -> Iterator[ShardRows]:
        """Yield the shards one by one; the piece is read once, from its top."""
        reader = _Reader(self.columns)
        for shard in unit:
            rows = list(chain.from_iterable(reader.take(part) for part in shard.slices))
            content = [content_hash(row.text, self.context) for row in rows]
            known_at, known = self.earlier.find(content) if self.earlier else ([], None)
            old = set(known_at)
            tokens = self.tokenize([row.content for at, row in enumerate(rows) if at not in old])
            ids = [row.id for row in rows]
            yield ShardRows(shard.number, shard.file, ids, content, tokens, known_at, known)


class _Reader:
    """Reads slices; goes on where it stopped when the next slice lies further down."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._piece: Piece | None = None
        self._rows: Iterator[Row] = iter(())
        self._at = 0

    def take(self, part: Slice) -> Iterator[Row]:
        """Yield the good rows of a slice.

        Raises:
            ArtifactError: the corpus changed since it was scanned.
        """
        if self._piece != part.piece or self._at > part.start:
            self._piece, self._at = part.piece, 0
            self._rows = read_rows(part.piece, self._columns)
        for row in self._rows:
            self._at = row.number + 1
            if row.number >= part.start and row.number not in part.skip:
                if row.reason is not None:
                    break
                yield row
            if self._at >= part.stop:
                return
        raise ArtifactError(f"{part.piece.uri}: changed while the job ran; run the job again")


class WriteShard:
    """Encode the new rows of a shard and write it, then its receipt.

    Args:
        folder: the artifact's folder.
        encode: gives vectors.
        plan_id: the plan the shard belongs to.
    """

    def __init__(self, folder: Folder, encode: Encodes, plan_id: str) -> None:
        self.folder = folder
        self.encode = encode
        self.plan_id = plan_id

    def __call__(self, rows: ShardRows) -> Receipt:
        """Return the receipt of the shard, which is on disk by then."""
        started = time.perf_counter()
        vectors, usage = self.encode(rows.tokens)
        seconds = time.perf_counter() - started
        table, refused = _table(rows, vectors)
        receipt = Receipt(
            number=rows.number,
            shard=write_table(self.folder, rows.file, table),
            encoded=len(rows.tokens),
            reused=len(rows.known_at),
            tokens=usage.tokens,
            computed_tokens=usage.computed_tokens,
            seconds=seconds,
            refused=tuple(refused),
            details=self.encode.details,
        )
        name = receipt_file(self.plan_id, rows.number)
        self.folder.write_bytes(name, receipt.model_dump_json().encode())
        return receipt


def _table(rows: ShardRows, encoded: pa.Table) -> tuple[pa.Table, list[str]]:
    """Return the shard's table, and the ids of rows that have no finite vector."""
    old = set(rows.known_at)
    new = [row for row in range(len(rows.ids)) if row not in old]
    vectors = encoded if rows.known is None else pa.concat_tables([encoded, rows.known])
    order = np.empty(len(rows.ids), np.int64)
    order[[*new, *rows.known_at]] = np.arange(len(rows.ids))
    table = vectors.take(pa.array(order)).add_column(0, ID, pa.array(rows.ids, pa.string()))
    table = table.append_column(CONTENT, pa.array(rows.content, pa.string()))
    finite = table[1].is_valid()
    return table.filter(finite), table.filter(pc.invert(finite))[ID].to_pylist()
