"""The local platform: start what does not run yet, say how it is, stop what was started."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from raybert.jobs.applications import Application, applications
from raybert.jobs.process import Process
from raybert.jobs.services import answers, start_mlflow, start_ray, wait_until_ready
from raybert.jobs.state import PlatformSettings, PlatformState, Service, platform_lock

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """How a service is.

    Args:
        name: ray, mlflow or serve.
        state: `ready`, `starting`, `stopped`, or Serve's own word.
        url: where to find it.
        detail: what else is worth knowing.
    """

    name: str
    state: str
    url: str = ""
    detail: str = ""


def up(settings: PlatformSettings, say: Say = print) -> PlatformState:
    """Start the platform's services that do not run yet, and wait until they answer.

    Raises:
        PlatformError: a port is taken, or a service did not start; what this call started is
            stopped again.
    """
    with platform_lock():
        before = PlatformState.read()
        ray, mlflow = before.ray, before.mlflow
        fresh: list[tuple[str, Service]] = []
        try:
            if mlflow is None:
                mlflow = start_mlflow(settings)
                fresh.append(("MLflow", mlflow))
            if ray is None:
                ray = start_ray(settings)
                fresh.append(("Ray", ray))
            state = PlatformState(ray=ray, mlflow=mlflow)
            state.write()
            _wait(fresh, settings.start_within_s, say)
        except BaseException:
            _stop([service.process for _, service in fresh])
            before.write()
            raise
        for name, service in (("MLflow", mlflow), ("Ray", ray)):
            if (name, service) not in fresh:
                say(f"{name:<7} runs already   {service.url}")
        return state


def down(say: Say = print) -> None:
    """Stop what `up` started, and nothing else."""
    with platform_lock():
        state = PlatformState.read()
        running = {"Ray": state.ray, "MLflow": state.mlflow}
        if not any(running.values()):
            say("nothing runs")
        for name, service in running.items():
            if service is not None:
                service.process.stop()
                say(f"{name:<7} stopped")
        PlatformState().write()


def status() -> list[ServiceStatus]:
    """Return how each service is, Serve's applications included."""
    state = PlatformState.read()
    ray, mlflow = state.ray, state.mlflow
    found = [_status("ray", ray), _status("mlflow", mlflow)]
    if ray is None or found[0].state != "ready":
        return [*found, ServiceStatus("serve", "stopped")]
    served = applications(ray)
    return (
        [*found, *map(_application, served)]
        if served
        else [
            *found,
            ServiceStatus("serve", "no application", f"http://127.0.0.1:{ray.serve_port}"),
        ]
    )


def _status(name: str, service: Service | None) -> ServiceStatus:
    if service is None:
        return ServiceStatus(name, "stopped")
    return ServiceStatus(name, "ready" if answers(service) else "starting", service.url)


def _application(found: Application) -> ServiceStatus:
    return ServiceStatus(f"serve/{found.name}", found.status.lower(), found.url, found.message)


def _wait(fresh: list[tuple[str, Service]], within_s: float, say: Say) -> None:
    """Wait for services that start side by side."""
    begun = time.monotonic()
    for name, service in fresh:
        wait_until_ready(name, service, within_s)
        say(f"{name:<7} ready in {time.monotonic() - begun:4.0f} s   {service.url}")


def _stop(processes: list[Process]) -> None:
    for process in processes:
        process.stop()
