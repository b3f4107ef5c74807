"""`raybert up`, `status`, `down`: the platform on this machine."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import yaml

from raybert.cli.pairs import pairs
from raybert.cli.printing import Commands, say, table

if TYPE_CHECKING:
    from raybert.jobs import PlatformState


def register(commands: Commands) -> None:
    """Add the commands."""
    up = commands.add_parser("up", help="start Ray, MLflow and, if given, a Serve app")
    up.add_argument("--config", metavar="FILE", help="the same in YAML, as cluster/local.yaml")
    up.add_argument("--app", metavar="FILE", help="Serve YAML to deploy, as serve/search.yaml")
    up.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="value for the app's args, by dotted name (indexes.demo=out/index); repeatable",
    )
    for name, default, what in (
        ("ray", 6379, "the Ray head"),
        ("dashboard", 8265, "Ray's dashboard and Jobs API"),
        ("mlflow", 5000, "the MLflow server"),
        ("serve", 8000, "Serve's HTTP proxy"),
    ):
        up.add_argument(f"--{name}-port", type=int, metavar="N", help=f"{what} (default {default})")
    up.add_argument("--cpus", type=int, metavar="N", help="logical CPUs (default: cores + 2)")
    up.add_argument("--object-store-mb", type=int, metavar="N", help="memory of Ray's object store")
    up.add_argument("--auth", choices=("token", "disabled"), help="who may use Ray (default token)")
    up.set_defaults(run=_up)
    status = commands.add_parser("status", help="say what runs, where, and with which token")
    status.add_argument("--json", action="store_true", help="for scripts")
    status.set_defaults(run=_status)
    down = commands.add_parser("down", help="stop what `raybert up` started, and nothing else")
    down.set_defaults(run=_down)


def _up(arguments: argparse.Namespace) -> int:
    from raybert.errors import SettingsError
    from raybert.jobs import PlatformSettings, deploy, settings_from, up, wait_until_served

    given = {key: value for key, value in vars(arguments).items() if value is not None}
    known = PlatformSettings.model_fields.keys()
    flags = {key: given[key] for key in known & given.keys()}
    settings = PlatformSettings(**flags)
    if arguments.config:
        settings = settings_from(PlatformSettings, arguments.config, **flags)
    values = {name: yaml.safe_load(value) for name, value in pairs("--set", arguments.set).items()}
    if values and not arguments.app:
        raise SettingsError("--set: gives values to an app; name it by --app")
    state = up(settings, say)
    if arguments.app and state.ray:
        url = deploy(state.ray, arguments.app, values)
        for application in wait_until_served(state.ray, settings.start_within_s):
            say(f"Serve   {application.name} runs   {url}")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from raybert.jobs import PlatformState, status

    found = status()
    state = PlatformState.read()
    if arguments.json:
        ready = all(service.state in ("ready", "running") for service in found[:2])
        services = [asdict(service) for service in found]
        print(json.dumps({"ready": ready, "services": services, **_access(state)}, indent=2))
    else:
        table(("service", "state", "address", ""), [tuple(asdict(one).values()) for one in found])
        if state.ray and state.ray.token_file:
            say(f"Ray's dashboard asks for the token in {state.ray.token_file}")
    return 0 if found[0].state == "ready" else 3


def _access(state: PlatformState) -> dict[str, Any]:
    """Return how a script may use the Ray that runs."""
    if state.ray is None:
        return {}
    return {"ray_address": state.ray.address, "environment": state.ray.environment}


def _down(arguments: argparse.Namespace) -> int:
    from raybert.jobs import down

    down(say)
    return 0
