"""The manifests of infra/kubernetes: against the published schemas of Kubernetes, and against Spillway itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml

from infra.settings import PROJECT_ROOT, Settings
from tests.support.programs import BIN, require_command

FOLDER = PROJECT_ROOT / "infra/kubernetes"
VERSIONS = ("1.30", "1.34", "1.37")  # minor versions in production use
MANIFESTS = {
    f"{path.name} {manifest['kind']} {manifest['metadata']['name']}": manifest
    for path in sorted(FOLDER.glob("*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text())
}


def pods(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pod that a manifest describes, if it does."""
    spec = manifest.get("spec", {})
    template = spec.get("jobTemplate", {"spec": spec})["spec"].get("template")
    if template is not None:
        yield template["spec"]


PODS = {name: pod for name, manifest in MANIFESTS.items() for pod in pods(manifest)}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", MANIFESTS)
def test_the_schema_of_kubernetes_accepts_it(name: str, version: str) -> None:
    kubernetes_validate.validate(MANIFESTS[name], version, strict=True)


def test_the_schema_notices_an_unknown_field() -> None:
    wrong = MANIFESTS["worker.yaml Deployment spillway-worker"] | {"spce": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_there_is_a_pod_for_each_thing_to_run() -> None:
    assert {name.split()[-1].removeprefix("spillway-") for name in PODS} == {
        *("schema", "deploy", "worker", "drain", "maintain", "reconcile", "archive")
    }


@pytest.mark.parametrize("name", PODS)
def test_each_pod_meets_the_restricted_standard(name: str) -> None:
    """Kubernetes' Pod Security Standards, level restricted, and a read-only file system."""
    pod = PODS[name]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001  # as in the Dockerfile
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} <= set(container["resources"]["limits"])
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    assert not any("hostPath" in volume for volume in pod["volumes"])


def commands() -> Iterator[list[str]]:
    """Every command line in the manifests, with its program."""
    for pod in PODS.values():
        (container,) = pod["containers"]
        args = container["args"]
        yield args if args[0] == "prefect" else ["spillway", *args]
        for probe in ("readinessProbe", "livenessProbe"):
            if probe in container:
                yield container[probe]["exec"]["command"]


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_the_command_and_its_options_exist(command: list[str]) -> None:
    require_command(command)


def test_every_setting_exists_and_reads_its_value() -> None:
    data = MANIFESTS["settings.yaml ConfigMap spillway"]["data"]
    values = {name: value for name, value in data.items() if not name.endswith("_FILE")}
    known = {f"SPILLWAY_{name.upper()}" for name in Settings.model_fields}
    assert {name.removesuffix("_FILE") for name in data} <= known
    # In an environment without other settings.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("SPILLWAY_")} | values
    done = subprocess.run([BIN / "spillway", "grants", "etl"], env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_secret_and_every_map_that_a_pod_names_exists() -> None:
    secret = MANIFESTS["secret.example.yaml Secret spillway"]
    maps = {m["metadata"]["name"]: m["data"] for m in MANIFESTS.values() if m["kind"] == "ConfigMap"}
    paths = [value for value in maps["spillway"].values() if value.startswith("/run/secrets/spillway/")]
    for pod in PODS.values():
        (container,) = pod["containers"]
        assert {source["configMapRef"]["name"] for source in container["envFrom"]} <= set(maps)
        paths += [one["value"] for one in container.get("env", []) if one["name"].endswith("_FILE")]
        for volume in pod["volumes"]:
            assert volume.get("configMap", {"name": "spillway"})["name"] in maps
            assert volume.get("secret", {"secretName": "spillway"})["secretName"] == secret["metadata"]["name"]
    assert {path.rpartition("/")[2] for path in paths} == set(secret["stringData"])
    assert all("CHANGE-ME" in value for value in secret["stringData"].values())
