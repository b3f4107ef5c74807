"""What a job uses of its machine, sampled beside it."""

from __future__ import annotations

import threading
from typing import Self

import psutil

from raybert.tracking.run import Run

SAMPLE_EVERY_S = 10.0


class SystemMetrics:
    """Samples CPU and memory of the machine and of the job's process while the job runs.

    The names are MLflow's own (`system/…`), so that they appear on a run's system metrics page.

    Args:
        run: where the samples go.
        every_s: seconds between two samples.
    """

    def __init__(self, run: Run, every_s: float = SAMPLE_EVERY_S) -> None:
        self._run = run
        self._every_s = every_s
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        if self._run.run_id is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()

    def _sample(self) -> None:
        """Record one sample now and then one every few seconds."""
        process = psutil.Process()
        psutil.cpu_percent()
        step = 0
        while not self._done.wait(self._every_s if step else 0.1):
            memory = psutil.virtual_memory()
            values = {
                "system/cpu_utilization_percentage": psutil.cpu_percent(),
                "system/system_memory_usage_megabytes": memory.used / 1e6,
                "system/system_memory_usage_percentage": memory.percent,
                "system/process_memory_usage_megabytes": process.memory_info().rss / 1e6,
            }
            self._run.metrics(values, step)
            step += 1
