"""Submitting job files to a Ray cluster by the Jobs API, and following them to their end."""

from __future__ import annotations

import asyncio
import logging
import secrets
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raybert.errors import InputError, PlatformError, SettingsError
from raybert.jobs.checkout import EXCLUDED, checkout_of, extra_requirements
from raybert.jobs.cluster import Cluster
from raybert.jobs.follow import ENDED, Follower
from raybert.settings import environment, set_environment

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

PASSED_ON = ("MLFLOW_TRACKING_URI", "HF_HUB_OFFLINE", "HF_TOKEN")
"""Variables of the submitter's environment that a job on another machine gets too."""
PATIENCE_S = 600.0
"""Seconds that a follower waits for a cluster that does not answer."""
RETRY_S = 0.5
"""Seconds until it tries again."""


@dataclass(frozen=True, slots=True)
class Job:
    """A submitted job.

    Args:
        id: its submission id.
        status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        exit_status: the exit status of the job file, once it has ended.
        message: what Ray says about the end, in a few words.
        entrypoint: the command that was run.
        started: seconds since the epoch, 0 if it has not started.
    """

    id: str
    status: str
    exit_status: int | None = None
    message: str = ""
    entrypoint: str = ""
    started: float = 0.0

    @property
    def code(self) -> int:
        """The exit status for whoever followed the job: its own; 130 if it was stopped."""
        if self.status == "SUCCEEDED":
            return 0
        return 130 if self.status == "STOPPED" else self.exit_status or 1


class Jobs:
    """The jobs of a cluster.

    Raises:
        PlatformError: the cluster's Jobs API does not answer, or refuses.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._head = cluster.local
        if self._head is not None:
            set_environment(**self._head.environment)
        elif cluster.token_file:
            set_environment(**_token(cluster.token_file))
        self._client = _connect(cluster.address)

    def submit(self, file: str | Path, arguments: Sequence[str], env: Mapping[str, str]) -> str:
        """Submit a job file.

        On the local platform the job runs where the submitter stands. Anywhere else the checkout
        that the file lies in is shipped, and the job runs in that copy.

        Args:
            file: the job file, in a checkout of raybert.
            arguments: its command line.
            env: further variables for the job.

        Returns:
            the job's id.

        Raises:
            SettingsError: the file is in no checkout, or `--out` names a folder that would be lost.
            PlatformError: the cluster refused the job.
        """
        root = checkout_of(file)
        job_id = f"{Path(file).stem}-{time.strftime('%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        variables = {"RAYBERT_JOB": job_id, **self.cluster.env, **env}
        if self._head is not None:
            command, runtime = _in_place(Path(file).absolute(), root, arguments, variables)
        else:
            command, runtime = self._shipped(Path(file).absolute(), root, arguments, variables)
        try:
            return str(
                self._client.submit_job(
                    entrypoint=command,
                    submission_id=job_id,
                    runtime_env=runtime,
                    metadata={"job_name": Path(file).stem},
                    entrypoint_num_cpus=self.cluster.driver_cpus or None,
                    entrypoint_num_gpus=self.cluster.driver_gpus or None,
                    entrypoint_memory=self.cluster.driver_memory_mb * 2**20 or None,
                    entrypoint_resources=self.cluster.driver_resources or None,
                )
            )
        except (RuntimeError, ValueError) as error:
            raise PlatformError(f"{self.cluster.address}: job refused: {_line(error)}") from None

    def _shipped(
        self, file: Path, root: Path, arguments: Sequence[str], variables: Mapping[str, str]
    ) -> tuple[str, dict[str, Any]]:
        """Return command and runtime environment of a job that runs in a shipped checkout."""
        _refuse_lost_output(arguments)
        passed = {name: value for name in PASSED_ON if (value := environment(name))}
        command = shlex.join(["python", file.relative_to(root).as_posix(), *arguments])
        runtime: dict[str, Any] = {
            "working_dir": str(root),
            "excludes": [*EXCLUDED, *self.cluster.excludes],
            "env_vars": {"PYTHONPATH": "platform", **passed, **variables},
        }
        if self.cluster.extras:
            runtime["pip"] = extra_requirements(root, self.cluster.extras)
        return command, runtime

    def follow(
        self, job_id: str, write: Callable[[str], Any], patience_s: float = PATIENCE_S
    ) -> Job:
        """Hand on what a job prints until it ends.

        A broken connection is taken up again where it broke: a laptop that slept, a head that was
        restarted.

        Raises:
            PlatformError: the cluster has not answered for `patience_s` seconds.
        """
        follower = Follower(self._client, lambda job_id: self.find(job_id).status, write)
        while True:
            try:
                asyncio.run(follower.follow(job_id))
                return self.find(job_id)
            except (RuntimeError, OSError, PlatformError) as error:
                if time.monotonic() - follower.heard > patience_s:
                    raise PlatformError(
                        f"{self.cluster.address} has not answered for {patience_s:.0f} s: "
                        f"{_line(error)}"
                    ) from None
            time.sleep(RETRY_S)

    def logs(self, job_id: str) -> str:
        """Return what a job has printed so far."""
        return str(self._asked(lambda: self._client.get_job_logs(self.find(job_id).id)))

    def stop(self, job_id: str, within_s: float = 30.0) -> Job:
        """Stop a job and wait for its end."""
        if self.find(job_id).status not in ENDED:
            self._asked(lambda: self._client.stop_job(job_id))
        begun = time.monotonic()
        while (job := self.find(job_id)).status not in ENDED:
            if time.monotonic() - begun > within_s:
                raise PlatformError(
                    f"job {job_id} does not end; it was asked to {within_s:.0f} s ago"
                )
            time.sleep(0.3)
        return job

    def find(self, job_id: str) -> Job:
        """Return a job as it is now.

        Raises:
            InputError: there is no such job.
        """
        return _job(self._asked(lambda: self._client.get_job_info(job_id), job_id))

    def all(self) -> list[Job]:
        """Return the submitted jobs, newest first."""
        found = [job for job in self._asked(self._client.list_jobs) if job.submission_id]
        return sorted(map(_job, found), key=lambda job: -job.started)

    def last(self) -> str:
        """Return the id of the newest job.

        Raises:
            InputError: there is none.
        """
        jobs = self.all()
        if not jobs:
            raise InputError(f"{self.cluster.address} knows no jobs")
        return jobs[0].id

    def _asked(self, question: Callable[[], Any], job_id: str = "") -> Any:
        """Ask the cluster; a fault is one line."""
        try:
            return question()
        except (RuntimeError, OSError) as error:
            if job_id and "does not exist" in str(error):
                known = f"job {job_id!r}: {self.cluster.address} knows no such job"
                raise InputError(known) from None
            raise PlatformError(f"{self.cluster.address}: {_line(error)}") from None


def _connect(address: str) -> JobSubmissionClient:
    from ray.job_submission import JobSubmissionClient

    for module in ("job.sdk", "dashboard_sdk"):
        logging.getLogger(f"ray.dashboard.modules.{module}").setLevel(logging.WARNING)
    try:
        return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError, OSError) as error:
        raise PlatformError(f"no Ray cluster answers at {address}: {_line(error)}") from None


def _token(file: str) -> dict[str, str]:
    """Return the variables with which Ray's client shows the token of a file."""
    path = Path(file).expanduser()
    if not path.is_file():
        raise SettingsError(f"token_file {file}: no such file")
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}


def _in_place(
    file: Path, root: Path, arguments: Sequence[str], variables: Mapping[str, str]
) -> tuple[str, dict[str, Any]]:
    """Return command and runtime environment of a job that shares the submitter's files."""
    run = shlex.join([sys.executable, str(file), *arguments])
    command = f"cd {shlex.quote(str(Path.cwd()))} && exec {run}"
    return command, {"env_vars": {"PYTHONPATH": str(root / "platform"), **variables}}


def _refuse_lost_output(arguments: Sequence[str]) -> None:
    """Refuse a relative `--out`: it would lie in the shipped copy and go away with it."""
    pairs = zip(arguments, [*arguments[1:], ""], strict=True)
    outs = [value for flag, value in pairs if flag == "--out"]
    outs += [item.removeprefix("--out=") for item in arguments if item.startswith("--out=")]
    for out in outs:
        if "://" not in out and not Path(out).is_absolute():
            raise SettingsError(
                f"--out {out}: relative to a copy of the checkout that the cluster removes; "
                "give a URI, or an absolute path on storage that all nodes share"
            )


def _job(details: Any) -> Job:
    return Job(
        id=str(details.submission_id),
        status=str(getattr(details.status, "value", details.status)),
        exit_status=details.driver_exit_code,
        message=_line(details.message or "").partition(", last available logs")[0],
        entrypoint=str(details.entrypoint),
        started=(details.start_time or 0) / 1000,
    )


def _line(error: object) -> str:
    """Return the first line that says something, without Ray's advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else ""
