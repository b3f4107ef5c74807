"""The demo's questions in two parts: some to learn from, the others held out to judge by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HELD_OUT = 3
"""One page of the manuals in so many is held out, with all the questions it answers."""


@dataclass(frozen=True, slots=True)
class Questions:
    """One part of the bundled questions.

    Args:
        texts: Parquet file (id, text).
        answers: TREC qrels.
    """

    texts: Path
    answers: Path


def split_questions(data: Path, out: Path) -> tuple[Questions, Questions]:
    """Share the bundled questions out by page: (to learn from, held out).

    Questions that one page answers stay together, so that no held-out answer has a neighbour
    among those learnt from. The parts are written anew only where they would differ.

    Args:
        data: the bundled corpus: `queries.parquet` and `qrels.tsv`.
        out: where the parts go.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    lines = (data / "qrels.tsv").read_text(encoding="utf-8").splitlines()
    held = {line.split()[0] for line in lines if is_held_out(line.split()[2])}
    asked = pq.read_table(data / "queries.parquet")
    parts = []
    for name, wanted in (("learn", False), ("held_out", True)):
        part = Questions(out / f"{name}.parquet", out / f"{name}.tsv")
        chosen = [(query in held) == wanted for query in asked["id"].to_pylist()]
        sink = pa.BufferOutputStream()
        pq.write_table(asked.filter(pa.array(chosen)), sink)
        _write(part.texts, sink.getvalue().to_pybytes())
        answers = [line for line in lines if (line.split()[0] in held) == wanted]
        _write(part.answers, "".join(f"{line}\n" for line in answers).encode())
        parts.append(part)
    return parts[0], parts[1]


def is_held_out(document: str) -> bool:
    """Tell whether a document's page is held out; the page is what its id names before the #."""
    from raybert.artifacts import hash_bytes

    page = document.partition("#")[0]
    return int(hash_bytes(page.encode())[-8:], 16) % HELD_OUT == 0


def _write(path: Path, data: bytes) -> None:
    """Write a file, unless it holds just this."""
    if not path.exists() or path.read_bytes() != data:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
