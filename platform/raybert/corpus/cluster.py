"""The Ray cluster a job runs on: the one it was submitted to, else one of its own."""

from __future__ import annotations

import logging

import ray
import ray.data

from raybert.devices import cpu_count
from raybert.settings import ray_address


def connect(*, dashboard: bool = False) -> None:
    """Join the cluster that `RAY_ADDRESS` names, else start one on this machine's cores.

    Args:
        dashboard: start a dashboard too, on this machine's own address: Ray Train asks it whether
            its controller lives, and says so again and again where there is none.
    """
    if ray.is_initialized():
        return
    address = ray_address()
    if address is None:
        ray.init(
            address="local",
            num_cpus=max(2, cpu_count()),
            include_dashboard=dashboard,
            logging_level=logging.WARNING,
            log_to_driver=True,
        )
    else:
        ray.init(address=address, logging_level=logging.WARNING)


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
