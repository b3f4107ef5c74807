"""The YAML of `cluster/`, held against the schemas of KubeRay, Kubernetes and Ray."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from raybert.jobs import Cluster, PlatformSettings, settings_from

ROOT = Path(__file__).parents[2]
KUBERNETES = "1.33"
ITEMS: list[dict[str, Any]] = [
    item
    for file in sorted((ROOT / "cluster" / "kubernetes").glob("*.yaml"))
    for item in yaml.safe_load_all(file.read_text())
]
OBJECTS = [pytest.param(item, id=f"{item['kind']} {item['metadata']['name']}") for item in ITEMS]
OF_RAY = [item for item in ITEMS if item["apiVersion"].startswith("ray.io")]
RAY = [pytest.param(item, id=item["kind"]) for item in OF_RAY]


def strict(schema: Any) -> Any:
    """Refuse fields that an object schema does not name; KubeRay would drop them silently."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    if "properties" in found and not found.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    if found.pop("x-kubernetes-int-or-string", False):
        found = {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    return found


def pods(item: Any) -> Iterator[dict[str, Any]]:
    """Yield every pod template in a manifest."""
    if isinstance(item, dict):
        if "containers" in item.get("spec", {}):
            yield item
        for value in item.values():
            yield from pods(value)
    elif isinstance(item, list):
        for value in item:
            yield from pods(value)


@pytest.mark.parametrize("item", OBJECTS)
def test_each_object_fits_its_schema(item: dict[str, Any]) -> None:
    if item["apiVersion"] == "ray.io/v1":
        file = Path(__file__).parent / "schemas" / f"{item['kind']}.json"
        schema = strict(json.loads(file.read_text()))
        schema["properties"]["metadata"] = {"type": "object"}
        jsonschema.validate(item, schema)
    else:
        kubernetes_validate.validate(item, KUBERNETES, strict=True)


@pytest.mark.parametrize("item", RAY)
def test_the_pods_of_ray_are_pods(item: dict[str, Any]) -> None:
    found = list(pods(item))
    assert found
    for number, template in enumerate(found):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"pod-{number}"}}
        pod["metadata"] = {"name": f"pod-{number}", **template.get("metadata", {})}
        kubernetes_validate.validate({**pod, "spec": template["spec"]}, KUBERNETES, strict=True)


@pytest.mark.parametrize("item", OBJECTS)
def test_no_container_is_root_or_without_limits(item: dict[str, Any]) -> None:
    for template in pods(item):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        for container in spec["containers"]:
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys(), container["name"]
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert not container["image"].endswith("latest")
            mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
            known = {volume["name"] for volume in spec.get("volumes", [])}
            known |= {
                claim["metadata"]["name"] for claim in item["spec"].get("volumeClaimTemplates", [])
            }
            assert mounts <= known


@pytest.mark.parametrize("item", OBJECTS)
def test_no_secret_stands_in_the_open(item: dict[str, Any]) -> None:
    assert item["kind"] != "Secret"
    for template in pods(item):
        for container in template["spec"]["containers"]:
            for variable in container.get("env", []):
                secret = re.search("PASSWORD|TOKEN|KEY|SECRET", variable["name"])
                assert not (secret and "value" in variable), variable["name"]


@pytest.mark.parametrize("item", RAY)
def test_ray_asks_for_the_token_and_versions_agree(item: dict[str, Any]) -> None:
    import ray

    spec = item["spec"]
    cluster = spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec
    assert cluster["rayVersion"] == ray.__version__
    assert cluster["authOptions"]["mode"] == "token"
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_the_served_app_is_ours_and_its_values_are_allowed() -> None:
    (item,) = (item for item in OF_RAY if item["kind"] == "RayService")
    from ray.serve.schema import ServeDeploySchema

    config = yaml.safe_load(item["spec"]["serveConfigV2"])
    (application,) = ServeDeploySchema.model_validate(config).applications
    module, _, builder = application.import_path.partition(":")
    source = (ROOT / f"{module.replace('.', '/')}.py").read_text()
    assert f"def {builder}(args: SearchApp)" in source
    keys = set(re.findall(r"^    (\w+): .*$", source, re.M))
    assert set(application.args) <= keys
    assert application.args["gateway"]["access"]["keys_file"] == "/keys/keys.yaml"


def test_mlflow_starts_with_its_passwords_and_shows_none(tmp_path: Path) -> None:
    """The start script as it stands, with a stand-in for `mlflow` that tells how it was called."""
    (script,) = (item["data"]["start.sh"] for item in ITEMS if "start.sh" in item.get("data", {}))
    stand_in = tmp_path / "mlflow"
    stand_in.write_text('#!/bin/sh\necho "$@"\necho "$MLFLOW_BACKEND_STORE_URI" > store\n')
    stand_in.chmod(0o755)
    variables = {
        "PATH": f"{tmp_path}:{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "POSTGRES_PASSWORD": "a/b@c",
    }
    done = subprocess.run(
        ["sh", "-c", script],
        env=variables,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--app-name basic-auth" in done.stdout
    assert "password" not in done.stdout + done.stderr
    assert "a%2Fb" not in done.stdout
    store = "postgresql://mlflow:a%2Fb%40c@mlflow-postgres:5432"
    assert (tmp_path / "store").read_text().strip() == f"{store}/mlflow"
    read = configparser.ConfigParser()  # as MLflow reads it
    read.read(tmp_path / "auth.ini")
    assert read["mlflow"]["database_uri"] == f"{store}/mlflow_auth"


def test_network_policies_close_what_they_do_not_open() -> None:
    policies = [item for item in ITEMS if item["kind"] == "NetworkPolicy"]
    (closed,) = [policy for policy in policies if policy["spec"]["podSelector"] == {}]
    assert "ingress" not in closed["spec"]
    for policy in policies:
        for rule in policy["spec"].get("ingress", []):
            assert rule["from"], f"{policy['metadata']['name']} lets everybody in"
            ports = {port["port"] for port in rule.get("ports", [])}
            outside = any("namespaceSelector" in peer for peer in rule["from"])
            assert not (outside and (6379 in ports or not ports))


def test_ray_up_takes_the_cloud_example() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((ROOT / "cluster" / "ray-up.yaml").read_text())
    validate_config(prepare_config(config))
    gpus = config["available_node_types"]["gpu"]
    assert gpus["min_workers"] == 0 < gpus["max_workers"]
    with pytest.raises(Exception, match="idle_timeout"):
        validate_config(prepare_config({**config, "idle_timeout_minutes": "soon"}))


@pytest.mark.parametrize("name", ["local.yaml", "three-hosts.yaml"])
def test_a_platform_file_is_one(name: str) -> None:
    assert settings_from(PlatformSettings, ROOT / "cluster" / name).nodes


@pytest.mark.parametrize(
    "name", ["cluster/remote.yaml", "cluster/kubernetes.yaml", "docker/cluster.yaml"]
)
def test_a_cluster_file_is_one(name: str) -> None:
    assert settings_from(Cluster, ROOT / name).address.startswith("http://")


def test_the_dashboard_shows_what_is_exported() -> None:
    """Every raybert_ name is the gateway's, every ray_ name stands in Ray's own dashboards."""
    import ray.dashboard.modules.metrics.dashboards as dashboards

    from raybert.serving.lanes import BatchStats
    from raybert.serving.metrics import Metrics, Page

    numbers = dict.fromkeys(BatchStats.__dataclass_fields__, 1.0)
    exported = Page([Metrics().counted()], [], [], {"minilm": numbers}).text().decode()
    known = set(re.findall(r"^# TYPE (\w+)", exported, re.M))
    known |= {f"{name}{end}" for name in known for end in ("_bucket", "_sum", "_count", "_total")}
    folder = Path(str(dashboards.__file__)).parent
    of_ray = set(re.findall(r"ray_\w+", "".join(f.read_text() for f in folder.glob("*.py"))))
    board = json.loads((ROOT / "cluster" / "monitoring" / "grafana.json").read_text())
    expressions = [
        target["expr"] for panel in board["panels"] for target in panel.get("targets", [])
    ]
    assert len(expressions) > 15
    asked = set(re.findall(r"\b(?:raybert|ray)_\w+", " ".join(expressions)))
    assert {name for name in asked if name.startswith("raybert_")} <= known
    assert {name for name in asked if name.startswith("ray_")} <= of_ray
    places = [tuple(panel["gridPos"].values()) for panel in board["panels"]]
    assert len(set(places)) == len(places)


def test_prometheus_scrapes_ray_and_the_gateway() -> None:
    config = yaml.safe_load((ROOT / "cluster" / "monitoring" / "prometheus.yaml").read_text())
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert jobs.keys() == {"ray", "raybert"}
    assert jobs["raybert"]["authorization"]["type"] == "Bearer"
