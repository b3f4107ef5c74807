"""The model registry: versions of a model, and which of them is the champion.

A registered model is a Sentence Transformers folder in MLflow's layout, without pickles: any MLflow
client loads it by `mlflow.pyfunc.load_model("models:/NAME@champion")` and gets embeddings.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raybert.errors import InputError, PlatformError
from raybert.settings import home
from raybert.tracking.location import tracking_uri
from raybert.tracking.logged import INSIDE, Usage, lay_out
from raybert.tracking.notes import allowed_name
from raybert.tracking.store import MlflowStore
from raybert.tracking.versions import REPORT, Report, Version, refuse_no_better

CHAMPION = "champion"
"""Alias of the version that is served."""
PREVIOUS = "previous"
"""Alias of the version that was served before."""


class Registry:
    """The registry of a tracking server.

    Args:
        uri: the server; found as for jobs if None.

    Raises:
        PlatformError: it does not answer, or the URI is `none`.
    """

    def __init__(self, uri: str | None = None) -> None:
        self.uri = tracking_uri(uri)
        self._store = MlflowStore(self.uri)
        self._client: Any = self._store.client
        import mlflow

        mlflow.set_tracking_uri(self.uri)  # sqlite stores look logged models up at this address

    def register(
        self,
        name: str,
        folder: str | Path,
        *,
        run_id: str | None = None,
        experiment: str = "raybert",
        metrics: Mapping[str, float] | None = None,
        usage: Usage | None = None,
    ) -> Version:
        """Register a model folder as the next version of a name.

        Args:
            name: the model's name.
            folder: a local Sentence Transformers folder.
            run_id: the run that made it; a run of its own is recorded if None.
            experiment: where that run of its own is filed.
            metrics: figures to judge a promotion by, added to the run.
            usage: how it is called; one column of texts if None.

        Raises:
            InputError: there is no such folder.
        """
        source = _existing(folder)
        if run_id is None:
            tags = {"raybert.kind": "register", "raybert.out": str(source.absolute())}
            run_id, _ = self._store.start(experiment, f"register {name}", tags)
            self._client.set_terminated(run_id, "FINISHED")
        for key, value in (metrics or {}).items():
            self._client.log_metric(run_id, allowed_name(key), value)
        logged = self.log(name, source, run_id=run_id, usage=usage)
        self._create(name)
        made = self._client.create_model_version(
            name,
            source=f"models:/{logged}",
            run_id=run_id,
            model_id=logged,
            await_creation_for=0,  # the store has it when it answers; waiting would be printed
        )
        return self._read(made)

    def log(self, name: str, folder: str | Path, *, run_id: str, usage: Usage | None = None) -> str:
        """Log a model folder with a run; it is not a version of anything yet.

        Args:
            name: what to call it.
            folder: a local Sentence Transformers folder.
            run_id: the run that made it.
            usage: how it is called; one column of texts if None.

        Returns:
            id of the logged model: `models:/ID` opens it.

        Raises:
            InputError: there is no such folder.
        """
        source = _existing(folder)
        experiment_id = self._client.get_run(run_id).info.experiment_id
        logged = self._client.create_logged_model(experiment_id, name, run_id, model_type="raybert")
        with tempfile.TemporaryDirectory() as temporary:
            lay_out(source, Path(temporary), usage)
            self._client.log_model_artifacts(logged.model_id, temporary)
        self._client.finalize_logged_model(logged.model_id, "READY")
        return str(logged.model_id)

    def versions(self, name: str | None = None) -> list[Version]:
        """Return the versions of a model, or of all models, newest first.

        Raises:
            InputError: there is no model of that name.
        """
        models = self._client.search_registered_models()
        if name is not None and name not in {model.name for model in models}:
            known = ", ".join(sorted(model.name for model in models)) or "none"
            raise InputError(f"model {name!r}: not registered; there are {known}")
        return [
            self._read(self._client.get_model_version(model.name, found.version))
            for model in sorted(models, key=lambda model: str(model.name))
            if name in (None, model.name)
            for found in self._client.search_model_versions(f"name = '{model.name}'")
        ]

    def find(self, name: str, version: int | str) -> Version:
        """Return a version by its number or an alias.

        Raises:
            InputError: there is none.
        """
        versions = self.versions(name)
        for found in versions:
            if str(version) == str(found.version) or version in found.aliases:
                return found
        known = ", ".join(str(found.version) for found in versions)
        raise InputError(f"model {name!r}: no version {version}; there are {known}")

    def add_report(self, name: str, version: int | str, label: str, folder: str | Path) -> Version:
        """Add the figures of a report artifact to a version, under a name to judge it by.

        Raises:
            InputError: no such version.
            ArtifactError: there is no report.
        """
        found = self.find(name, version)
        tag = Report.read(folder).tag
        self._client.set_model_version_tag(name, str(found.version), f"{REPORT}{label}", tag)
        return self.find(name, found.version)

    def promote(
        self,
        name: str,
        version: int | str,
        *,
        must_beat: str | None = None,
        report: str | None = None,
    ) -> Version:
        """Make a version the champion; the champion until now becomes `previous`.

        Args:
            name: the model's name.
            version: its number, or an alias.
            must_beat: a metric in which it must be better than the champion (higher is better).
            report: the report that the metric stands in; the metrics of the runs if None.

        Raises:
            InputError: no such version or figure, or it does not beat the champion.
        """
        candidate = self.find(name, version)
        champion = self._champion(name)
        if champion is not None and champion.version == candidate.version:
            return candidate
        if champion is not None and must_beat is not None:
            refuse_no_better(candidate, champion, must_beat, report)
        if champion is not None:
            self._client.set_registered_model_alias(name, PREVIOUS, str(champion.version))
        self._client.set_registered_model_alias(name, CHAMPION, str(candidate.version))
        return self.find(name, candidate.version)

    def rollback(self, name: str) -> Version:
        """Make the previous champion the champion again; the two change places.

        Raises:
            InputError: there was no champion before.
        """
        previous = [found for found in self.versions(name) if PREVIOUS in found.aliases]
        if not previous:
            raise InputError(f"model {name!r}: no champion before this one")
        return self.promote(name, previous[0].version)

    def fetch(self, name: str, version: int | str) -> Path:
        """Return a local folder with a version's Sentence Transformers files; fetched once."""
        found = self.find(name, version)
        target = home() / "models" / name / str(found.version)
        if not target.exists():
            from mlflow.artifacts import download_artifacts

            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
                uri = f"models:/{name}/{found.version}"
                layout = download_artifacts(uri, dst_path=temporary, tracking_uri=self.uri)
                shutil.move(Path(layout) / INSIDE, target)
        return target

    def _champion(self, name: str) -> Version | None:
        return next((found for found in self.versions(name) if CHAMPION in found.aliases), None)

    def _create(self, name: str) -> None:
        """Create the name if it is not there."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise PlatformError(f"model {name!r}: {error.message}") from None

    def _read(self, found: Any) -> Version:
        run_id = found.run_id or None
        metrics = dict(self._client.get_run(run_id).data.metrics) if run_id else {}
        shown = {key: value for key, value in metrics.items() if not key.startswith("system/")}
        return Version(
            str(found.name),
            int(found.version),
            tuple(sorted(found.aliases)),
            int(found.creation_timestamp),
            run_id,
            shown,
            {
                key.removeprefix(REPORT): Report.of_tag(tag)
                for key, tag in sorted(found.tags.items())
                if key.startswith(REPORT)
            },
        )


def _existing(folder: str | Path) -> Path:
    """Return a model folder that is there."""
    source = Path(folder)
    if not source.is_dir():
        raise InputError(f"model {str(folder)!r}: no such folder")
    return source
