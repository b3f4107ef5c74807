"""One job is one run: settings as parameters, inputs, metrics, and how it ended."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import raybert
from raybert.settings import JobSettings, environment
from raybert.tracking.location import NOTHING, tracking_uri
from raybert.tracking.notes import Note, Spool, allowed_name
from raybert.tracking.run import STATUS, Run
from raybert.tracking.store import MlflowStore, NullStore, Status
from raybert.tracking.system import SystemMetrics


@contextmanager
def job(settings: JobSettings, *, name: str, kind: str, run_id: str | None = None) -> Iterator[Run]:
    """Track a job as one MLflow run.

    Args:
        settings: the job's settings; they become the run's parameters, nested keys with dots.
        name: the run's name, as people will look for it (`encode debian`).
        kind: what kind of job it is (`encode_corpus`), recorded as the tag `raybert.kind`.
        run_id: the run to go on with, of an attempt that was killed; a new one where the server
            does not have it.

    Raises:
        PlatformError: the tracking server does not answer when the job starts.
    """
    run = start_run(settings, name=name, kind=kind, run_id=run_id)
    status: Status = "FINISHED"
    try:
        with SystemMetrics(run):
            yield run
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    except BaseException:
        status = "FAILED"
        raise
    finally:
        run.end(status)
        if run.link:
            print(f"run: {run.link}", file=sys.stderr, flush=True)


def start_run(settings: JobSettings, *, name: str, kind: str, run_id: str | None = None) -> Run:
    """Start a run, or go on with one, that the caller ends; `job` is the usual way."""
    uri = tracking_uri(settings.tracking_uri)
    if uri == NOTHING:
        return Run(NullStore(), None)
    store = MlflowStore(uri)
    _send_left_over(store)
    if run_id is not None and (link := store.resume(run_id)) is not None:
        return Run(store, run_id, link)
    run_id, link = store.start(settings.experiment, name, _tags(settings, kind))
    store.send(
        run_id,
        [Note("param", allowed_name(key), value) for key, value in flatten(settings).items()],
    )
    return Run(store, run_id, link)


def reopen_run(uri: str, run_id: str | None) -> Run:
    """Return a run that another process started, to say more of it there; that process ends it.

    A server that is away is no fault here: the notes wait for it.

    Args:
        uri: the run's `tracking_uri`.
        run_id: its `run_id`; None where nothing is recorded.
    """
    if run_id is None:
        return Run(NullStore(), None)
    return Run(MlflowStore(uri, must_answer=False), run_id)


def flatten(settings: JobSettings) -> dict[str, str]:
    """Return settings as parameters: `{"loss.scale": "20.0"}`; lists as JSON, secrets hidden."""
    flat: dict[str, str] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), inner)
        else:
            flat[prefix] = value if isinstance(value, str) else json.dumps(value)

    walk("", settings.model_dump(mode="json"))
    return flat


def _tags(settings: JobSettings, kind: str) -> dict[str, str]:
    """Return the tags that tell whose run this is, of which code, and where its artifact lies."""
    tags = {
        "raybert.kind": kind,
        "raybert.version": raybert.__version__,
        "raybert.out": settings.out,
        "mlflow.user": _user(),
        "mlflow.source.type": "JOB",
        "mlflow.source.name": Path(sys.argv[0]).name or kind,
        "mlflow.note.content": f"Writes its artifact to `{settings.out}`.",
    }
    found = {"mlflow.source.git.commit": _revision(), "ray.job": environment("RAYBERT_JOB")}
    return tags | {key: value for key, value in found.items() if value}


def _user() -> str:
    """Return who runs the job; a container may run as a number without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _revision() -> str | None:
    """Return the git revision of the checkout that the job file lies in, if it lies in one."""
    folder = Path(sys.argv[0]).absolute().parent
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _send_left_over(store: MlflowStore) -> None:
    """Send what earlier jobs could not: their server was away."""
    for left in Spool.left(store.uri):
        spool = left.taken()
        notes = spool.notes()
        ends = [note.value for note in notes if note.name == STATUS]
        try:
            store.send(spool.run_id, notes)
            if ends:
                store.end(spool.run_id, ends[-1])  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001 - old notes must not stop a new job
            print(f"tracking: {spool.path} was not taken: {error}", file=sys.stderr)
            continue
        spool.remove()
