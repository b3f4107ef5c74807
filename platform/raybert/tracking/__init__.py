"""Tracking: one job is one MLflow run.

>>> from raybert.tracking import job                                   # doctest: +SKIP
>>> with job(settings, name="encode faq", kind="encode_corpus") as run:  # doctest: +SKIP
...     run.input("corpus", "data/demo/docs.parquet", "0f1e…")
...     run.metric("rows_per_second", 310.0, step=1)
"""

from raybert.tracking.job import job, reopen_run, start_run
from raybert.tracking.location import (
    answers,
    artifact_root,
    database,
    page,
    platform_file,
    tracking_uri,
)
from raybert.tracking.logged import Usage
from raybert.tracking.progress import JobProgress
from raybert.tracking.registry import Registry
from raybert.tracking.run import Run
from raybert.tracking.versions import Report, Version

__all__ = [
    "JobProgress",
    "Registry",
    "Report",
    "Run",
    "Usage",
    "Version",
    "answers",
    "artifact_root",
    "database",
    "job",
    "page",
    "platform_file",
    "reopen_run",
    "start_run",
    "tracking_uri",
]
