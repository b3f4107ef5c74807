"""The MLflow door: a run's notes, files and end, sent to a tracking server or an sqlite file."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from raybert.errors import PlatformError
from raybert.tracking.location import answers, artifact_root, database, page
from raybert.tracking.notes import Note

Status = Literal["FINISHED", "FAILED", "KILLED"]

LONGEST_PARAM = 6000
"""MLflow's limit on the length of a parameter's value, in characters."""
LONGEST_TAG = 8000
"""MLflow's limit on the length of a tag's value, in characters."""
LONGEST_DIGEST = 36
"""MLflow's limit on the length of a dataset's digest, in characters."""
METRICS_A_REQUEST = 900
PARAMS_A_REQUEST = 90
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Says that an experiment is about models being made, and not about chats with one."""
REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE")
"""MLflow's error codes that sending again would not cure."""


class Store(Protocol):
    """Takes what one run has to say."""

    uri: str

    def send(self, run_id: str, notes: Sequence[Note]) -> None:
        """Record notes of a run."""

    def file(self, run_id: str, path: Path, folder: str | None) -> None:
        """Record a file or a folder of a run."""

    def end(self, run_id: str, status: Status) -> None:
        """Record how a run ended."""

    def refused(self, error: Exception) -> bool:
        """Say whether notes were refused for what they are, so that sending again is no use."""


class MlflowStore:
    """Runs on an MLflow tracking server, or in an sqlite file.

    Args:
        uri: `http(s)://HOST:PORT` or `sqlite:///FILE`.
        must_answer: refuse a server that does not answer now.

    Raises:
        PlatformError: the server does not answer, or the URI is not one that MLflow knows.
    """

    def __init__(self, uri: str, *, must_answer: bool = True) -> None:
        self.uri = uri
        _refuse_unreachable(uri, must_answer)
        _quiet()
        from mlflow import MlflowClient

        if uri == f"sqlite:///{database()}":
            database().parent.mkdir(parents=True, exist_ok=True)
        try:
            self.client: Any = MlflowClient(tracking_uri=uri)
        except Exception as error:  # noqa: BLE001 - which kinds it raises depends on the store
            raise PlatformError(f"tracking URI {uri}: {_first_line(error)}") from None

    def start(self, experiment: str, name: str, tags: Mapping[str, str]) -> tuple[str, str]:
        """Start a run.

        Returns:
            the run's id, and the address of its page (or the URI, where there is no server).

        Raises:
            PlatformError: the server refused.
        """
        try:
            experiment_id = self._experiment(experiment)
            run = self.client.create_run(experiment_id, run_name=name, tags=dict(tags))
        except Exception as error:  # noqa: BLE001 - as above
            raise PlatformError(f"tracking URI {self.uri}: {_first_line(error)}") from None
        run_id = str(run.info.run_id)
        return run_id, self._link(experiment_id, run_id)

    def resume(self, run_id: str) -> str | None:
        """Go on with a run of an attempt that was killed.

        Returns:
            the address of its page; None where the server has no such run.

        Raises:
            PlatformError: the server refused.
        """
        try:
            run = self.client.get_run(run_id)
            self.client.update_run(run_id, status="RUNNING")
        except Exception as error:  # noqa: BLE001 - as above
            if getattr(error, "error_code", None) in REFUSALS:
                return None
            raise PlatformError(f"tracking URI {self.uri}: {_first_line(error)}") from None
        return self._link(str(run.info.experiment_id), run_id)

    def _link(self, experiment_id: str, run_id: str) -> str:
        """Return the address of a run's page."""
        if not self.uri.startswith("http"):
            return self.uri
        return page(self.uri, f"/{experiment_id}/runs/{run_id}")

    def _experiment(self, name: str) -> str:
        """Return the id of an experiment, made if it is not there."""
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        from mlflow.exceptions import MlflowException

        root = f"{artifact_root()}/{name}" if self.uri.startswith("sqlite:") else None
        try:
            return str(
                self.client.create_experiment(name, artifact_location=root, tags=EXPERIMENT_TAGS)
            )
        except MlflowException:
            found = self.client.get_experiment_by_name(name)  # another job was quicker
            if found is None:
                raise
            return str(found.experiment_id)

    def send(self, run_id: str, notes: Sequence[Note]) -> None:
        """Record notes in as few requests as MLflow's limits allow."""
        from mlflow.entities import Metric, Param, RunTag

        metrics = [
            Metric(note.name, float(note.value), note.time_ms, note.step)
            for note in notes
            if note.kind == "metric"
        ]
        params = [
            Param(note.name, str(note.value)[:LONGEST_PARAM])
            for note in notes
            if note.kind == "param"
        ]
        tags = [
            RunTag(note.name, str(note.value)[:LONGEST_TAG]) for note in notes if note.kind == "tag"
        ]
        for start in range(0, len(metrics), METRICS_A_REQUEST):
            self.client.log_batch(run_id, metrics=metrics[start : start + METRICS_A_REQUEST])
        for start in range(0, max(len(params), len(tags)), PARAMS_A_REQUEST):
            end = start + PARAMS_A_REQUEST
            self.client.log_batch(run_id, params=params[start:end], tags=tags[start:end])
        inputs = [_dataset(note) for note in notes if note.kind == "input"]
        if inputs:
            self.client.log_inputs(run_id, inputs)

    def file(self, run_id: str, path: Path, folder: str | None) -> None:
        """Record a file, or what is in a folder, under `folder` of the run's files."""
        if path.is_dir():
            self.client.log_artifacts(run_id, str(path), folder or path.name)
        else:
            self.client.log_artifact(run_id, str(path), folder)

    def end(self, run_id: str, status: Status) -> None:
        """Record how a run ended."""
        self.client.set_terminated(run_id, status)

    def refused(self, error: Exception) -> bool:
        """Say whether the server answered and will not have these notes, ever."""
        return getattr(error, "error_code", None) in REFUSALS


class NullStore:
    """Records nothing."""

    uri = "none"

    def send(self, run_id: str, notes: Sequence[Note]) -> None:
        """Forget the notes."""

    def file(self, run_id: str, path: Path, folder: str | None) -> None:
        """Forget the file."""

    def end(self, run_id: str, status: Status) -> None:
        """Forget the end."""

    def refused(self, error: Exception) -> bool:
        """Refuse nothing."""
        return False


def _dataset(note: Note) -> Any:
    """Return an input in MLflow's terms: name, digest, source, and the context it was used in."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    name = note.source.rstrip("/").rpartition("/")[2] or note.name
    digest = str(note.value)[-LONGEST_DIGEST:]
    source = json.dumps({"uri": note.source})
    dataset = Dataset(name[:500], digest or "unknown", "uri", source)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", note.name)])


def _refuse_unreachable(uri: str, must_answer: bool) -> None:
    """Answer a wrong URI at once: MLflow itself would try for minutes."""
    scheme = urlsplit(uri).scheme
    if scheme not in ("http", "https", "sqlite", "postgresql", "mysql"):
        allowed = "http://HOST:PORT, sqlite:///FILE, none"
        raise PlatformError(f"tracking URI {uri!r}: allowed are {allowed}")
    if must_answer and scheme in ("http", "https") and not answers(uri):
        hint = "`raybert up` starts a local one; --tracking-uri none tracks nothing"
        raise PlatformError(f"tracking URI {uri}: no MLflow server answers there ({hint})")


def _quiet() -> None:
    """Keep MLflow's schema chatter, telemetry and minutes of retries out of a job."""
    from mlflow import environment_variables as variables

    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    defaults = {
        variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES: 2,
        variables.MLFLOW_HTTP_REQUEST_TIMEOUT: 20,
        variables.MLFLOW_DISABLE_TELEMETRY: True,
        variables.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT: True,
    }
    for variable, value in defaults.items():
        if not variable.is_set():
            variable.set(value)


def _first_line(error: BaseException) -> str:
    """Return the first line of an error."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
