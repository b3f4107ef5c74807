"""The Ray cluster a job runs on: the one it was submitted to, else one of its own."""

from __future__ import annotations

import logging

import ray
import ray.data

from raybert.devices import cpu_count
from raybert.settings import environment, ray_address, set_environment

OWN_RAY = {
    "RAY_enable_metrics_collection": "0",
    "REPORTER_UPDATE_INTERVAL_MS": "60000",
    "RAY_LOG_MONITOR_MANY_FILES_THRESHOLD": "0",
}
"""Ray's variables where a job starts it for itself: no metrics, for nobody asks for them, and new
log files looked for twice a second instead of ten times (docs/decisions/038)."""


def connect(*, train: bool = False) -> None:
    """Join the cluster that `RAY_ADDRESS` names, else start one on this machine's cores.

    Args:
        train: leave Ray's log as it is; Ray Data's actors are not used.
    """
    if ray.is_initialized():
        return
    address = ray_address()
    if not train and environment("RAY_BACKEND_LOG_LEVEL") is None:
        # Ray prints an error about each of Ray Data's actors; their faults reach Python anyway.
        set_environment(RAY_BACKEND_LOG_LEVEL="fatal")
    if address is None:
        unset = {name: value for name, value in OWN_RAY.items() if environment(name) is None}
        set_environment(**unset)
        ray.init(
            address="local",
            num_cpus=max(2, cpu_count()),
            include_dashboard=False,
            logging_level=logging.WARNING,
            log_to_driver=True,
        )
    else:
        ray.init(address=address, logging_level=logging.WARNING)
        say_if_full()


def say_if_full() -> None:
    """Say so where no CPU of the cluster is free: work that needs one waits, without a word."""
    if not ray.available_resources().get("CPU"):
        cpus = ray.cluster_resources().get("CPU", 0)
        print(f"Ray: none of {cpus:g} CPUs is free now; what needs one waits", flush=True)


def quiet_data() -> ray.data.DataContext:
    """Return Ray Data's settings, its progress bars and log left to us."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    return context


def cluster_size() -> tuple[float, int]:
    """Return the cluster's CPUs and GPUs.

    One node may offer more CPUs than it has cores, so that small tasks need not wait for each
    other; threads that compute are shared out over the cores.
    """
    resources = ray.cluster_resources()
    cpus = float(resources.get("CPU", 1))
    if sum(bool(node["Alive"]) for node in ray.nodes()) == 1:
        cpus = min(cpus, float(max(2, cpu_count())))
    return cpus, int(resources.get("GPU", 0))
