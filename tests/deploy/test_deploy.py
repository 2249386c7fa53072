"""What deploy/ ships: manifests against the schemas of who reads them, an image file against what it copies and installs."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

from rlm_ray import settings
from rlm_ray.audit import spec as specs
from rlm_ray.audit.editors import json_schema
from rlm_ray.cli import main
from rlm_ray.errors import SpecError
from tests.audit.test_manifests import all_pods, checked_by_kubernetes, wrong_for_kuberay

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
SCHEMAS = ROOT.parent / "shared" / "schemas" / "kuberay"
JOBS = [*sorted((ROOT / "jobs").glob("log_audit/*.yaml")), *sorted((ROOT / "jobs").glob("contract_audit/job.yaml"))]
PLAIN = ["networkpolicy.yaml", "services.yaml", "rayjob.yaml", "raycronjob.yaml"]


def documents(name: str) -> list[Any]:
    return list(YAML(typ="safe").load_all((DEPLOY / name).read_text("utf-8")))


def pods_of(document: Any) -> list[Any]:
    if document["kind"] in ("RayJob", "RayCronJob"):
        return all_pods(document)
    return [document["spec"]["template"]] if document["kind"] == "Deployment" else []


def check(document: Any) -> None:
    """Raise where a document, or a pod in it, is not what Kubernetes or KubeRay takes."""
    if document["apiVersion"].startswith("ray.io/"):
        if SCHEMAS.is_dir():
            wrong = wrong_for_kuberay(document, document["kind"].lower())
            assert wrong is None, wrong
    else:
        checked_by_kubernetes(document)
    for pod in pods_of(document):
        checked_by_kubernetes({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"} | pod["metadata"], "spec": pod["spec"]})


@pytest.mark.parametrize("name", PLAIN)
def test_manifests_are_what_their_schemas_want(name: str) -> None:
    assert documents(name)
    for document in documents(name):
        check(document)


def _planted(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every mapping of a document that a schema knows, by where it is."""
    if isinstance(value, dict):
        if not path.endswith(("labels", "matchLabels", "data", "selector", "rayStartParams", "requests", "limits")):
            yield path, value
        for key, item in value.items():
            yield from _planted(item, f"{path}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from _planted(item, path)


@pytest.mark.parametrize("name", PLAIN)
def test_a_planted_mistake_anywhere_is_caught(name: str) -> None:
    if not SCHEMAS.is_dir() and name.startswith("ray"):
        pytest.skip("no schemas of KubeRay beside the project")
    pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    for document in documents(name):
        for number in range(len(list(_planted(document)))):
            wrong = copy.deepcopy(document)
            path, place = list(_planted(wrong))[number]
            place["imagePolicy"] = "Always"
            assert "imagePolicy" in _said(wrong), f"a wrong key in {document['kind']}{path} is not seen"


def _said(document: Any) -> str:
    """What is said against a document."""
    try:
        check(document)
    except Exception as error:  # noqa: BLE001 - the validators raise classes of their own
        return str(error)
    return ""


@pytest.mark.parametrize("name", ["services.yaml", "rayjob.yaml", "raycronjob.yaml"])
def test_pods_are_shut_in(name: str) -> None:
    pods = [pod for document in documents(name) for pod in pods_of(document)]
    assert len(pods) == (2 if name == "services.yaml" else 3)
    for pod in pods:
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert not container["image"].endswith(":latest")
            assert ":" in container["image"].rpartition("/")[2]


@pytest.mark.parametrize("kind", ["rayjob", "raycronjob"])
def test_samples_are_what_the_command_prints(kind: str) -> None:
    done = CliRunner().invoke(main, ["manifest", str(ROOT / "jobs" / "log_audit" / "nightly.yaml"), "--kind", kind])
    assert done.exit_code == 0, done.output
    sample = (DEPLOY / f"{kind}.yaml").read_text("utf-8")
    head = sample.split("apiVersion", 1)[0]
    assert sample.removeprefix(head) == done.stdout, (
        f"rlm-ray manifest jobs/log_audit/nightly.yaml --kind {kind} prints something else"
    )


@pytest.mark.parametrize("kind", ["rayjob", "raycronjob", "cronjob"])
def test_the_job_of_the_readme_has_a_manifest_of_each_kind(kind: str, tmp_path: Path) -> None:
    page = (ROOT / "README.md").read_text("utf-8")
    job = tmp_path / "job.yaml"
    job.write_text(page[page.index("name: refused-payments") :].partition("```")[0])
    done = CliRunner().invoke(main, ["manifest", str(job), "--kind", kind])
    assert done.exit_code == 0, done.output
    assert "registry.example/rlm_ray" in done.output


def test_the_policy_is_for_the_pods_and_servers_that_there_are() -> None:
    policy, servers = documents("networkpolicy.yaml")
    labels = {pod["metadata"]["labels"]["app.kubernetes.io/name"] for pod in pods_of(documents("rayjob.yaml")[1])}
    assert {policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/name"]} == labels
    deployed = {document["metadata"]["name"] for document in documents("services.yaml") if document["kind"] == "Deployment"}
    assert set(servers["spec"]["podSelector"]["matchExpressions"][0]["values"]) == deployed
    ports = {document["metadata"]["name"]: document["spec"]["ports"][0]["port"] for document in documents("services.yaml")
             if document["kind"] == "Service"}  # fmt: skip
    allowed = {rule["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/name"]: rule["ports"][0]["port"]
               for rule in policy["spec"]["egress"] if "ports" in rule and "podSelector" in rule["to"][0]}  # fmt: skip
    assert allowed == ports
    nightly = specs.load(ROOT / "jobs" / "log_audit" / "nightly.yaml")
    assert nightly.settings["base_url"] == f"http://vllm:{ports['vllm']}/v1"
    assert nightly.cluster is not None
    assert nightly.cluster.environment == {"AWS_ENDPOINT_URL": f"http://s3:{ports['s3']}"}


def test_values_are_settings() -> None:
    made = settings.load(DEPLOY / "values.yaml")
    assert (made.sub_model, made.base_url) == ("reader", "http://vllm:8000/v1")
    (container,) = next(pod for document in documents("services.yaml") for pod in pods_of(document)
                        if document["metadata"]["name"] == "vllm")["spec"]["containers"]  # fmt: skip
    assert f"--served-model-name={made.sub_model}" in container["args"]


def test_the_cluster_is_what_rays_launcher_takes() -> None:
    origin = importlib.util.find_spec("ray")
    assert origin is not None
    assert origin.origin is not None
    schema = json.loads((Path(origin.origin).parent / "autoscaler" / "ray-schema.json").read_text())
    validator = jsonschema.Draft7Validator(schema)
    (cluster,) = documents("cluster.yaml")
    assert [error.message for error in validator.iter_errors(cluster)] == []
    assert cluster["head_node_type"] in cluster["available_node_types"]
    assert list(validator.iter_errors(cluster | {"max_worker": 3}))


def test_the_image_has_what_the_package_needs_in_one_version_each() -> None:
    lines = (DEPLOY / "requirements.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    versions = {canonicalize_name(name): version for name, version in pinned.items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *extras["audit"], *extras["documents"], *extras["tables"]]:
        requirement = Requirement(text)
        version = versions.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in deploy/requirements.txt"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} is not {version}"
    assert {"aiohttp-cors", "opencensus", "prometheus-client", "grpcio"} <= set(versions)  # ray[default], which serves jobs
    nightly = specs.load(ROOT / "jobs" / "log_audit" / "nightly.yaml")
    assert nightly.cluster is not None
    assert nightly.cluster.ray_version == versions["ray"]


def test_the_image_is_made_of_what_there_is_and_runs_as_nobody_special() -> None:
    text = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text())
    steps = [line.split(None, 1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    words = {"ARG", "FROM", "ENV", "RUN", "COPY", "USER", "WORKDIR", "CMD"}
    assert {word for word, _ in steps} == words
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    for word, rest in steps:
        parts = [part for part in shlex.split(rest) if not part.startswith("--")] if word == "COPY" else []
        if word == "COPY" and "--from=build" not in rest:
            for part in parts[:-1]:
                assert (ROOT / part).exists(), part
                assert f"!{part}" in ignored, f"{part} does not go to the builder"
        if word == "RUN":
            assert "curl" not in rest
            for install in re.findall(r"pip install ([^&]*)", rest):
                assert "-r " in install or "==" in install or "--no-deps" in install, install
        assert not (word in ("ENV", "ARG") and re.search(r"KEY|SECRET|PASSW", rest))
    assert [rest for word, rest in steps if word == "USER"] == ["1000:1000"]
    assert steps.index(["USER", "1000:1000"]) > max(number for number, step in enumerate(steps) if step[0] in ("RUN", "COPY"))
    bases = [rest for word, rest in steps if word == "FROM"]
    assert bases == ["${BASE} AS build", "${BASE}"]
    (base,) = (rest.removeprefix("BASE=") for word, rest in steps if word == "ARG")
    assert ":" in base
    assert not base.endswith(":latest")


# -- specifications in editors


def test_the_schema_that_ships_is_the_one_of_the_code() -> None:
    file = ROOT / "rlm_ray" / "audit" / "spec.schema.json"
    done = CliRunner().invoke(main, ["schema"])
    assert file.read_text("utf-8") == done.stdout, "rlm-ray schema > rlm_ray/audit/spec.schema.json"
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("path", JOBS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_shipped_specifications_name_it_and_fulfil_it(path: Path) -> None:
    text = path.read_text("utf-8")
    first = text.splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (path.parent / first.partition("=")[2]).resolve() == ROOT / "rlm_ray" / "audit" / "spec.schema.json"
    content = YAML(typ="safe").load(text)
    assert [error.message for error in jsonschema.Draft202012Validator(json_schema()).iter_errors(content)] == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("fail_on:", "fails_on:"),
        ("uris: contracts/", "uris: 3"),
        ("max_calls: 5000", "max_calls: many"),
        ("unit: document", "units: document"),
    ],
)
def test_an_editor_sees_what_the_command_refuses(tmp_path: Path, old: str, new: str) -> None:
    text = (ROOT / "jobs" / "contract_audit" / "job.yaml").read_text("utf-8")
    assert old in text
    wrong = text.replace(old, new)
    assert list(jsonschema.Draft202012Validator(json_schema()).iter_errors(YAML(typ="safe").load(wrong)))
    (tmp_path / "job.yaml").write_text(wrong)
    (tmp_path / "clauses.yaml").write_text("[]")
    with pytest.raises(SpecError):
        specs.load(tmp_path / "job.yaml")
