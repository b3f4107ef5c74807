"""`raybert submit`, `jobs`, `logs`, `stop`: job files on a Ray cluster."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from raybert.cli.pairs import pairs
from raybert.cli.printing import Commands, say, table

if TYPE_CHECKING:
    from raybert.jobs import Jobs


def register(commands: Commands) -> None:
    """Add the commands."""
    submit = commands.add_parser(
        "submit",
        help="run a job file on a Ray cluster and follow it",
        usage="raybert submit FILE [options] -- ARGUMENTS…",
    )
    submit.add_argument("file", help="job file, as pipelines/encode_corpus.py")
    submit.add_argument(
        "--env", action="append", default=[], metavar="KEY=VALUE", help="repeatable"
    )
    submit.add_argument("--extra", action="append", help="extra of raybert to install; repeatable")
    submit.add_argument("--cpus", type=float, metavar="N", help="CPUs of the job file itself")
    submit.add_argument("--gpus", type=float, metavar="N", help="GPUs of the job file itself")
    submit.add_argument("--memory-mb", type=int, metavar="N", help="memory of the job file itself")
    submit.add_argument(
        "--resource",
        action="append",
        default=[],
        metavar="NAME=N",
        help="custom resource that the job file's node must have; repeatable",
    )
    submit.add_argument("--detach", action="store_true", help="print the job's id and return")
    submit.set_defaults(run=_submit, arguments=[])
    listed = commands.add_parser("jobs", help="list the jobs of a Ray cluster")
    listed.add_argument("--json", action="store_true", help="for scripts")
    listed.set_defaults(run=_list)
    logs = commands.add_parser("logs", help="print what a job printed")
    logs.add_argument("--follow", action="store_true", help="until it ends")
    logs.set_defaults(run=_logs)
    stop = commands.add_parser("stop", help="stop a job")
    stop.set_defaults(run=_stop)
    for parser in (logs, stop):
        parser.add_argument("job", nargs="?", help="its id (default: the newest)")
    for parser in (submit, listed, logs, stop):
        parser.add_argument(
            "--address", metavar="URL", help="Jobs API (default: the platform here)"
        )
        parser.add_argument("--cluster", metavar="FILE", help="YAML that names a cluster")


def _submit(arguments: argparse.Namespace) -> int:
    env = pairs("--env", arguments.env)
    jobs = _jobs(arguments, _requests(arguments))
    job_id = jobs.submit(arguments.file, arguments.arguments, env)
    if arguments.detach:
        say(job_id)
        return 0
    return _follow(jobs, job_id)


def _list(arguments: argparse.Namespace) -> int:
    found = _jobs(arguments).all()
    if arguments.json:
        print(json.dumps([asdict(job) for job in found], indent=2))
        return 0
    rows = [(job.id, job.status.lower(), _clock(job.started), job.message) for job in found]
    table(("job", "state", "started", ""), rows)
    return 0


def _logs(arguments: argparse.Namespace) -> int:
    jobs = _jobs(arguments)
    job_id = arguments.job or jobs.last()
    if arguments.follow:
        return _follow(jobs, job_id)
    sys.stdout.write(jobs.logs(job_id))
    return 0


def _stop(arguments: argparse.Namespace) -> int:
    jobs = _jobs(arguments)
    job = jobs.stop(arguments.job or jobs.last())
    say(f"job {job.id} {job.status.lower()}")
    return 0


def _follow(jobs: Jobs, job_id: str) -> int:
    """Follow a job; Ctrl-C leaves it running and says how to come back."""
    begun = time.monotonic()
    print(f"job {job_id} on {jobs.cluster.address}", file=sys.stderr, flush=True)
    try:
        job = jobs.follow(job_id, _write)
    except KeyboardInterrupt:
        print(
            f"\njob {job_id} goes on: `raybert logs --follow {job_id}` follows it, "
            f"`raybert stop {job_id}` stops it",
            file=sys.stderr,
        )
        return 130
    took = f"{time.monotonic() - begun:.0f} s"
    print(f"job {job_id} {job.status.lower()} after {took}", file=sys.stderr, flush=True)
    return job.code


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _requests(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what flags say of the cluster's settings."""
    given = {
        "driver_cpus": arguments.cpus,
        "driver_gpus": arguments.gpus,
        "driver_memory_mb": arguments.memory_mb,
        "driver_resources": _numbers("--resource", arguments.resource) or None,
        "extras": tuple(arguments.extra) if arguments.extra else None,
    }
    return {key: value for key, value in given.items() if value is not None}


def _numbers(flag: str, items: list[str]) -> dict[str, float]:
    from raybert.errors import SettingsError

    try:
        return {name: float(value) for name, value in pairs(flag, items).items()}
    except ValueError:
        raise SettingsError(f"{flag} {' '.join(items)!r}: NAME=NUMBER is expected") from None


def _jobs(arguments: argparse.Namespace, changes: Mapping[str, Any] | None = None) -> Jobs:
    from raybert.jobs import Jobs, find_cluster

    cluster = find_cluster(arguments.address, arguments.cluster)
    return Jobs(cluster.model_copy(update=dict(changes or {})))


def _clock(seconds: float) -> str:
    return time.strftime("%d %b %H:%M:%S", time.localtime(seconds)) if seconds else "not yet"
