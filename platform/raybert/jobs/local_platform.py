"""The local platform: start what does not run yet, say how it is, stop what was started."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from raybert.jobs.applications import Application, applications
from raybert.jobs.network import Network
from raybert.jobs.services import (
    answers,
    forget_head,
    node_state,
    start_mlflow,
    start_node,
    start_ray,
    wait_until_ready,
)
from raybert.jobs.state import (
    PlatformSettings,
    PlatformState,
    RayHead,
    RayNode,
    Service,
    platform_lock,
)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """How a service is.

    Args:
        name: ray, mlflow, host2… or serve.
        state: `ready`, `starting`, `stopped`, Serve's own word, or `lost`: a host that the head has
            given up, which `up` starts anew.
        url: where to find it.
        detail: what else is worth knowing.
    """

    name: str
    state: str
    url: str = ""
    detail: str = ""


def up(settings: PlatformSettings, say: Say = print) -> PlatformState:
    """Start the platform's services and nodes that do not run yet, and wait until they answer.

    Raises:
        PlatformError: a port is taken, or a service did not start; what this call started is
            stopped again.
    """
    with platform_lock():
        before = PlatformState.read()
        fresh: list[tuple[str, Service | RayNode]] = []
        network = before.network
        try:
            network = network or _make_network(settings)
            state = _start_services(settings, before, network, fresh)
            head = state.ray
            assert head is not None
            _wait(fresh, settings.start_within_s, say, head)
            services = len(fresh)
            nodes = _start_nodes(settings, state, network, fresh)
            state = state.model_copy(update={"nodes": nodes})
            state.write()
            _wait(fresh[services:], settings.start_within_s, say, head)
        except BaseException:
            for _, started in fresh:
                started.process.stop()
            if network is not None and before.network is None:
                network.remove()
            before.write()
            raise
        for name, service in (("MLflow", state.mlflow), ("Ray", state.ray)):
            if (name, service) not in fresh and service:
                say(f"{name:<7} runs already   {service.url}")
        return state


def down(say: Say = print) -> None:
    """Stop what `up` started, and nothing else."""
    with platform_lock():
        state = PlatformState.read()
        running: dict[str, Service | RayNode | None] = {
            **{f"host{node.number}": node for node in reversed(state.nodes)},
            "Ray": state.ray,
            "MLflow": state.mlflow,
        }
        if not any(running.values()) and state.network is None:
            say("nothing runs")
        for name, service in running.items():
            if service is not None:
                service.process.stop()
                say(f"{name:<7} stopped")
        if state.network is not None:
            state.network.remove()
        forget_head()
        PlatformState().write()


def status() -> list[ServiceStatus]:
    """Return how each service is, further nodes and Serve's applications included."""
    state = PlatformState.read()
    ray, mlflow = state.ray, state.mlflow
    found = [_status("ray", ray), _status("mlflow", mlflow)]
    if ray is None or found[0].state != "ready":
        return [*found, ServiceStatus("serve", "stopped")]
    for node in state.nodes:
        known = {"ALIVE": "ready", "DEAD": "lost"}.get(node_state(ray, node), "starting")
        found.append(ServiceStatus(f"host{node.number}", known, detail=node.name))
    served = applications(ray)
    if not served:
        return [*found, ServiceStatus("serve", "no application", ray.serve_url)]
    return [*found, *map(_application, served)]


def _make_network(settings: PlatformSettings) -> Network | None:
    if settings.network == "shared":
        return None
    network = Network.of_home(1 + len(settings.nodes))
    network.create()
    return network


def _start_services(
    settings: PlatformSettings,
    before: PlatformState,
    network: Network | None,
    fresh: list[tuple[str, Service | RayNode]],
) -> PlatformState:
    """Start MLflow and the head, if they do not run; they start side by side."""
    mlflow, ray = before.mlflow, before.ray
    if mlflow is None:
        mlflow = start_mlflow(settings, network)
        fresh.append(("MLflow", mlflow))
    if ray is None:
        ray = start_ray(settings, network)
        fresh.append(("Ray", ray))
    state = PlatformState(ray=ray, mlflow=mlflow, nodes=before.nodes, network=network)
    state.write()
    return state


def _start_nodes(
    settings: PlatformSettings,
    state: PlatformState,
    network: Network | None,
    fresh: list[tuple[str, Service | RayNode]],
) -> tuple[RayNode, ...]:
    """Start the nodes that do not run, or that the head has given up; returns all of them."""
    head = state.ray
    assert head is not None
    running = {node.number: node for node in state.nodes}
    for number, node in enumerate(settings.nodes, start=2):
        if number in running and node_state(head, running[number]) == "DEAD":
            # Its network was cut for too long; it ends itself once it hears of that.
            running.pop(number).process.stop()
        if number not in running:
            running[number] = start_node(settings, node, number, head, network)
            fresh.append((f"host{number}", running[number]))
    return tuple(node for _, node in sorted(running.items()))


def _status(name: str, service: Service | None) -> ServiceStatus:
    if service is None:
        return ServiceStatus(name, "stopped")
    return ServiceStatus(name, "ready" if answers(service) else "starting", service.url)


def _application(found: Application) -> ServiceStatus:
    return ServiceStatus(f"serve/{found.name}", found.status.lower(), found.url, found.message)


def _wait(
    fresh: list[tuple[str, Service | RayNode]], within_s: float, say: Say, head: RayHead
) -> None:
    """Wait for services that start side by side."""
    begun = time.monotonic()
    for name, service in fresh:
        wait_until_ready(name, service, within_s, head)
        where = service.url if isinstance(service, Service) else service.name
        say(f"{name:<7} ready in {time.monotonic() - begun:4.0f} s   {where}")
