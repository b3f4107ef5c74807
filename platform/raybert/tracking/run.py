"""One run: says metrics, inputs and files; sends them in batches, and outlives its server."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from raybert.tracking.logged import Usage
from raybert.tracking.notes import Note, Spool, allowed_name
from raybert.tracking.registry import Registry
from raybert.tracking.store import Status, Store

SEND_EVERY_S = 2.0
"""Seconds between two sendings: metrics said in between travel together."""
STATUS = "raybert.status"
"""Name of the kept note that says how a run ended."""

_console = Console(stderr=True, highlight=False)


class Run:
    """A job's run. Saying something never waits for the server, and never fails the job.

    While the tracking server is away the notes are kept in the platform's home and a warning is
    printed once; they are sent when it answers again, at the latest by the next job that uses it.

    Args:
        store: where the run is recorded.
        run_id: the run's id there; None where nothing is recorded.
        link: address of the run's page.
    """

    def __init__(self, store: Store, run_id: str | None, link: str = "") -> None:
        self.run_id = run_id
        self.link = link
        self.tracking_uri = store.uri
        self._store = store
        self._spool = Spool.of(run_id, store.uri) if run_id else None
        self._waiting: list[Note] = []
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._ended = threading.Event()
        self._warned = False
        if run_id:
            self._thread = threading.Thread(target=self._keep_sending, daemon=True)
            self._thread.start()

    def metric(self, name: str, value: float, step: int = 0) -> None:
        """Record a number at a step."""
        self._say(Note("metric", allowed_name(name), float(value), step))

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Record several numbers at a step."""
        for name, value in values.items():
            self.metric(name, value, step)

    def param(self, name: str, value: object) -> None:
        """Record a parameter found out by the job; its settings are there already."""
        self._say(Note("param", allowed_name(name), str(value)))

    def tag(self, name: str, value: object) -> None:
        """Record a tag: something to filter runs by."""
        self._say(Note("tag", allowed_name(name), str(value)))

    def input(self, kind: str, uri: str | Path, fingerprint: str) -> None:
        """Record what the job read: a corpus, a model, embeddings, an index, queries."""
        self._say(Note("input", kind, fingerprint, source=str(uri)))

    def artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Record a small file (a report, a plot, a manifest), or all files of a folder.

        Artifacts themselves stay where they lie; the run holds a link to them.
        """
        if self.run_id is None:
            return
        try:
            self._store.file(self.run_id, Path(path), folder)
        except Exception as error:  # noqa: BLE001 - a tracking server away must not kill a job
            self._warn(error, f"the file {path} was not recorded")

    def model(
        self, folder: Path, *, name: str, register: bool = False, usage: Usage | None = None
    ) -> str | None:
        """Record a model folder as the run's model.

        Args:
            folder: a Sentence Transformers folder.
            name: what to call it.
            register: make it the next version of that name, too.
            usage: how it is called.

        Returns:
            what it can be opened by, `models:/…`; None where it was not recorded.
        """
        if self.run_id is None:
            return None
        try:
            registry = Registry(self.tracking_uri)
            if not register:
                return f"models:/{registry.log(name, folder, run_id=self.run_id, usage=usage)}"
            made = registry.register(name, folder, run_id=self.run_id, usage=usage)
            return f"models:/{name}/{made.version}"
        except Exception as error:  # noqa: BLE001 - as above
            self._warn(error, f"the model {folder} was not recorded")
            return None

    def end(self, status: Status) -> None:
        """Send what is left and record how the run ended."""
        if self.run_id is None or self._spool is None or self._ended.is_set():
            return
        self._ended.set()
        self._thread.join()
        try:
            if self.flush():
                self._store.end(self.run_id, status)
                return
        except Exception as error:  # noqa: BLE001 - as above
            self._warn(error, f"how the run ended is kept in {self._spool.path}")
        self._spool.keep([Note("tag", STATUS, status)])

    def flush(self) -> bool:
        """Send what waits; keep it on disk if the server is away.

        Returns:
            whether everything was sent.
        """
        if self.run_id is None or self._spool is None:
            return True
        with self._sending:
            with self._lock:
                notes, self._waiting = self._waiting, []
            notes_to_send = [*self._spool.notes(), *notes]
            if not notes_to_send:
                return True
            try:
                self._store.send(self.run_id, notes_to_send)
            except Exception as error:  # noqa: BLE001 - as above
                if self._store.refused(error):
                    self._warn(error, "some of the log was not taken")
                    self._spool.remove()
                    return True
                self._spool.keep(notes)
                self._warn(error, f"the log is kept in {self._spool.path} and will be sent later")
                return False
            self._spool.remove()
            return True

    def _say(self, note: Note) -> None:
        """Put a note in line."""
        if self.run_id is not None:
            with self._lock:
                self._waiting.append(note)

    def _keep_sending(self) -> None:
        """Send every few seconds until the run ends."""
        while not self._ended.wait(SEND_EVERY_S):
            self.flush()

    def _warn(self, error: Exception, consequence: str) -> None:
        """Say once that the server is away."""
        if not self._warned:
            self._warned = True
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            _console.print(f"[yellow]tracking:[/] {self.tracking_uri}: {reason}; {consequence}")
