"""What a run has to say, before it is sent: small notes, and the file that keeps unsent ones."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from raybert.settings import home

Kind = Literal["param", "tag", "metric", "input"]


def _now_ms() -> int:
    return int(time.time() * 1000)


def allowed_name(name: str) -> str:
    """Return a name as MLflow allows it: `recall@10` becomes `recall_at_10`."""
    return re.sub(r"[^\w\-. /:]", "_", name.replace("@", "_at_"))[:250]


@dataclass(frozen=True, slots=True)
class Note:
    """One thing to record about a run.

    Args:
        kind: param, tag, metric or input.
        name: the parameter's, tag's or metric's name; for an input its kind (corpus, model…).
        value: the text, the metric's number, or the input's fingerprint.
        step: step of a metric.
        source: where an input lies.
        time_ms: when it was said, in milliseconds since the epoch.
    """

    kind: Kind
    name: str
    value: str | float
    step: int = 0
    source: str = ""
    time_ms: int = field(default_factory=_now_ms)


@dataclass(frozen=True, slots=True)
class Spool:
    """The notes of one run that its tracking server has not taken yet, as JSON lines on disk.

    The first line is the tracking URI; the file's name begins with the run's id.
    """

    path: Path
    uri: str

    @classmethod
    def of(cls, run_id: str, uri: str) -> Spool:
        """Return a spool of a run in the platform's home, this process's own."""
        return cls(home() / "unsent" / f"{run_id}.{uuid.uuid4().hex}.jsonl", uri)

    @classmethod
    def left(cls, uri: str) -> list[Spool]:
        """Return the spools that earlier jobs left for this tracking server."""
        found = sorted((home() / "unsent").glob("*.jsonl"))
        spools = [cls(path, _first_line(path)) for path in found]
        return [spool for spool in spools if spool.uri == uri]

    @property
    def run_id(self) -> str:
        """Id of the run that the notes belong to."""
        return self.path.name.partition(".")[0]

    def taken(self) -> Spool:
        """Move the notes aside, so that a job still writing them begins a new file."""
        aside = self.path.with_name(f"{self.run_id}.{uuid.uuid4().hex}.jsonl")
        return Spool(self.path.rename(aside), self.uri)

    def keep(self, notes: Sequence[Note]) -> None:
        """Append notes."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not self.path.exists()
        with self.path.open("a", encoding="utf-8") as file:
            if fresh:
                file.write(json.dumps({"tracking_uri": self.uri}) + "\n")
            file.writelines(json.dumps(asdict(note)) + "\n" for note in notes)

    def notes(self) -> list[Note]:
        """Return the kept notes; a line cut short by a crash is passed over."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines()[1:]
        return [note for note in map(_note, lines) if note is not None]

    def remove(self) -> None:
        """Forget the notes: they were taken."""
        self.path.unlink(missing_ok=True)


def _first_line(path: Path) -> str:
    """Return the tracking URI that a spool was made for."""
    with path.open(encoding="utf-8") as file:
        try:
            return str(json.loads(file.readline())["tracking_uri"])
        except (ValueError, KeyError):
            return ""


def _note(line: str) -> Note | None:
    """Read one note; None if the line is damaged."""
    try:
        return Note(**json.loads(line))
    except (ValueError, TypeError):
        return None
