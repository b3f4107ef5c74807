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
from raybert.tracking.registry import Registry, Version
from raybert.tracking.run import Run

__all__ = [
    "Registry",
    "Run",
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
