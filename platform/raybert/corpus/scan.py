"""The first look over a corpus: counts its rows, finds the bad ones, hashes its content.

It ends in seconds and before any model is loaded, so that a null in row 90 million stops the job
now and not at night. What it keeps of a row is sixteen bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import xxhash

from raybert.artifacts import fingerprint
from raybert.corpus.read import Columns, read_rows
from raybert.corpus.sources import Piece
from raybert.errors import InputError


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that is left out, and why.

    Args:
        file: the file it stands in.
        row: its position in its piece of the file, from 0.
        name: what to call it in a message.
        id: its id, where it has one.
        reason: why it is left out.
    """

    file: str
    row: int
    name: str
    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class PieceScan:
    """What the scan of one piece found.

    Args:
        piece: the piece.
        rows: rows in it, good and bad.
        id_hashes: uint64 [good rows], 64-bit hash of each good row's id.
        numbers: int64 [good rows], the position of each good row.
        rejected: the bad rows.
        digest: hash over ids and texts of the good rows, in order.
    """

    piece: Piece
    rows: int
    id_hashes: npt.NDArray[np.uint64]
    numbers: npt.NDArray[np.int64]
    rejected: tuple[Rejection, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class CorpusScan:
    """What the scan of a whole corpus found.

    Args:
        pieces: the pieces in corpus order, bad and duplicate rows listed in `rejected`.
        fingerprint: content hash of the corpus (ids and texts in order).
    """

    pieces: tuple[PieceScan, ...]
    fingerprint: str

    @property
    def rows(self) -> int:
        """Rows, good and bad."""
        return sum(piece.rows for piece in self.pieces)

    @property
    def good_rows(self) -> int:
        """Rows that will be encoded."""
        return self.rows - len(self.rejected)

    @property
    def rejected(self) -> list[Rejection]:
        """Every row that is left out, in corpus order."""
        return [rejection for piece in self.pieces for rejection in piece.rejected]


class ScanPiece:
    """A step: a piece of a corpus in, what was found in it out."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns

    def __call__(self, piece: Piece) -> PieceScan:
        """Read every row of the piece once."""
        digest = xxhash.xxh3_128()
        hashes: list[int] = []
        numbers: list[int] = []
        rejected: list[Rejection] = []
        rows = 0
        for row in read_rows(piece, self.columns):
            rows += 1
            if row.reason is not None:
                rejected.append(_rejection(piece, row.number, row.id, row.reason))
                continue
            hashes.append(xxhash.xxh3_64_intdigest(row.id.encode()))
            numbers.append(row.number)
            digest.update(f"{row.id}\0{row.text}\0".encode())
        return PieceScan(
            piece,
            rows,
            np.array(hashes, np.uint64),
            np.array(numbers, np.int64),
            tuple(rejected),
            digest.hexdigest(),
        )


def scan_corpus(
    pieces: Sequence[Piece],
    columns: Columns,
    run: Callable[[ScanPiece, Sequence[Piece]], Iterable[PieceScan]] = map,
) -> CorpusScan:
    """Scan all pieces and find ids that occur twice; the first occurrence stays.

    Args:
        pieces: the pieces in corpus order.
        columns: where id and text stand.
        run: applies the step to every piece, in order; here or on many machines.

    Raises:
        InputError: the corpus has no row at all.
    """
    scans = list(run(ScanPiece(columns), pieces))
    if not any(scan.rows for scan in scans):
        raise InputError("the corpus is empty: its files hold no row")
    doubles = _doubles(scans, columns)
    scans = [
        replace(scan, rejected=_in_order(scan.rejected, doubles.get(at, [])))
        for at, scan in enumerate(scans)
    ]
    content = fingerprint([scan.digest for scan in scans if scan.numbers.size])
    return CorpusScan(tuple(scans), content)


def refuse_above(rejected: Sequence[Rejection], allowed: int) -> None:
    """Stop where more rows are bad than the user allows.

    Raises:
        InputError: names the first bad row, where it stands and why.
    """
    if len(rejected) > allowed:
        first = rejected[0]
        named = f" (id {first.id!r})" if first.id else ""
        raise InputError(
            f"{len(rejected)} rejected row(s), --max-rejected allows {allowed}; "
            f"the first: {first.name}{named}: {first.reason}"
        )


def _doubles(scans: Sequence[PieceScan], columns: Columns) -> dict[int, list[Rejection]]:
    """Return, for each piece, the rows whose id stood in an earlier row."""
    hashes = np.concatenate([scan.id_hashes for scan in scans])
    order = np.argsort(hashes, kind="stable")
    same = hashes[order][1:] == hashes[order][:-1]
    if not same.any():
        return {}
    suspects = np.zeros(len(hashes), bool)
    suspects[order[1:][same]] = True
    suspects[order[:-1][same]] = True
    return _confirmed(scans, columns, suspects)


def _confirmed(
    scans: Sequence[PieceScan], columns: Columns, suspects: npt.NDArray[np.bool_]
) -> dict[int, list[Rejection]]:
    """Compare the ids themselves: two ids may share a hash and still be two ids."""
    seen: dict[str, str] = {}
    doubles: dict[int, list[Rejection]] = {}
    start = 0
    for at, scan in enumerate(scans):
        stop = start + len(scan.numbers)
        wanted = set(scan.numbers[suspects[start:stop]].tolist())
        start = stop
        if not wanted:
            continue
        for row in read_rows(scan.piece, columns):
            if row.number not in wanted:
                continue
            here = _rejection(scan.piece, row.number, row.id, "").name
            first = seen.setdefault(row.id, here)
            if first != here:
                reason = f"duplicate id, first seen in {first}"
                doubles.setdefault(at, []).append(
                    _rejection(scan.piece, row.number, row.id, reason)
                )
    return doubles


def _in_order(bad: Sequence[Rejection], doubles: Sequence[Rejection]) -> tuple[Rejection, ...]:
    return tuple(sorted((*bad, *doubles), key=lambda rejection: rejection.row))


def _rejection(piece: Piece, number: int, identifier: str, reason: str) -> Rejection:
    known = piece.first_row >= 0
    where = f"row {piece.first_row + number}" if known else f"row {number} after byte {piece.start}"
    return Rejection(piece.uri, number, f"{piece.uri}, {where}", identifier, reason)
