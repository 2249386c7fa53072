"""The Kubernetes forms of a job, against KubeRay's and Kubernetes' own schemas."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from rlm_ray.audit import manifests
from rlm_ray.audit import spec as specs
from rlm_ray.cli import main
from rlm_ray.errors import InputError, SpecError

KINDS = ("rayjob", "raycronjob", "cronjob")
SCHEMAS = Path(__file__).resolve().parents[3] / "shared" / "schemas" / "kuberay"
MORE = """
schedule: 0 2 * * *
time_zone: Europe/Berlin
program: program
cluster:
  image: registry.example/rlm-ray:0.1.0
  workers: 3
  secret: lake
"""


@pytest.fixture
def scheduled(job: Path) -> Path:
    (job.parent / "program" / "cells").mkdir(parents=True)
    (job.parent / "program" / "program.yaml").write_text("question: x\n")
    (job.parent / "program" / "cells" / "01.py").write_text("Final = []  # with a | and 'quotes'\n")
    job.write_text(job.read_text() + MORE)
    return job


def made(job: Path, kind: Any) -> list[Any]:
    spec = specs.load(job)
    return list(YAML(typ="safe").load_all(manifests.manifest(spec, kind, specs.files_of(spec, job))))


def pods(workload: Any) -> list[Any]:
    if workload["kind"] == "CronJob":
        return [workload["spec"]["jobTemplate"]["spec"]["template"]]
    spec = workload["spec"].get("jobTemplate", workload["spec"])["rayClusterSpec"]
    return [spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])]


def all_pods(workload: Any) -> list[Any]:
    """Also the one that only hands the job over."""
    submitter = workload["spec"].get("jobTemplate", workload["spec"]).get("submitterPodTemplate")
    return pods(workload) + ([submitter] if submitter else [])


def checked_by_kubernetes(document: Any) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    validate.validate(document, "1.33", strict=True)


def wrong_for_kuberay(document: Any, kind: str) -> str | None:
    schema = json.loads((SCHEMAS / f"{kind}-ray-v1.json").read_text())
    error = next(jsonschema.Draft202012Validator(schema).iter_errors(document), None)
    return None if error is None else error.message


@pytest.mark.parametrize("kind", KINDS)
def test_every_document_is_what_its_schema_wants(scheduled: Path, kind: str) -> None:
    config, workload = made(scheduled, kind)
    checked_by_kubernetes(config)
    if kind == "cronjob":
        checked_by_kubernetes(workload)
    elif SCHEMAS.is_dir():
        assert wrong_for_kuberay(workload, kind) is None
    for pod in all_pods(workload):
        checked_by_kubernetes({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"} | pod["metadata"], "spec": pod["spec"]})


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_mistake_is_caught(scheduled: Path, kind: str) -> None:
    _, workload = made(scheduled, kind)
    for pod in all_pods(workload):
        wrong = copy.deepcopy(pod["spec"])
        wrong["containers"][0]["imagePolicy"] = "Always"
        with pytest.raises(Exception, match="imagePolicy"):
            checked_by_kubernetes({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": wrong})
    if kind != "cronjob" and SCHEMAS.is_dir():
        workload["spec"]["entrypont"] = "x"
        assert "entrypont" in (wrong_for_kuberay(workload, kind) or "")


@pytest.mark.parametrize("kind", KINDS)
def test_pods_have_no_privilege_and_no_key_in_sight(scheduled: Path, kind: str) -> None:
    _, workload = made(scheduled, kind)
    assert len(pods(workload)) == (1 if kind == "cronjob" else 2)
    for pod in all_pods(workload):
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["spec"]["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert "env" not in container
    for pod in pods(workload):
        assert pod["spec"]["containers"][0]["envFrom"] == [{"secretRef": {"name": "lake"}}]


def test_the_files_of_the_job_come_back_whole(scheduled: Path) -> None:
    config, workload = made(scheduled, "cronjob")
    items = pods(workload)[0]["spec"]["volumes"][0]["configMap"]["items"]
    files = {item["path"]: config["data"][item["key"]] for item in items}
    assert files["program/cells/01.py"] == (scheduled.parent / "program" / "cells" / "01.py").read_text()
    assert YAML(typ="safe").load(files["job.yaml"]) == YAML(typ="safe").load(scheduled.read_text())
    assert pods(workload)[0]["spec"]["containers"][0]["command"] == ["rlm-ray", "run", "/job/job.yaml", "--address", "local"]


def test_what_a_kind_needs_is_asked_for(job: Path, scheduled: Path) -> None:
    spec = specs.load(scheduled)
    with pytest.raises(InputError, match="no `cluster` with an image"):
        manifests.manifest(spec.model_copy(update={"cluster": None}), "rayjob", {})
    with pytest.raises(InputError, match="needs a `schedule`"):
        manifests.manifest(spec.model_copy(update={"schedule": None}), "cronjob", {})
    with pytest.raises(InputError, match="a ConfigMap holds"):
        manifests.manifest(spec, "rayjob", {"job.yaml": "x" * 1_000_000})
    packed = spec.model_copy(update={"cluster": spec.cluster.model_copy(update={"packages": ("drain3",)})})  # type: ignore[union-attr]
    with pytest.raises(InputError, match="installs no `packages`"):
        manifests.manifest(packed, "cronjob", {})


def test_variables_and_packages_of_the_cluster(scheduled: Path) -> None:
    scheduled.write_text(scheduled.read_text() + "  environment: {AWS_ENDPOINT_URL: http://s3}\n  packages: [drain3-improved]\n")
    _, workload = made(scheduled, "rayjob")
    assert all(
        pod["spec"]["containers"][0]["env"] == [{"name": "AWS_ENDPOINT_URL", "value": "http://s3"}] for pod in pods(workload)
    )
    assert json.loads(workload["spec"]["runtimeEnvYAML"]) == {"pip": ["drain3-improved"]}
    scheduled.write_text(scheduled.read_text().replace("AWS_ENDPOINT_URL", "OPENAI_API_KEY"))
    with pytest.raises(SpecError, match="looks like a secret"):
        specs.load(scheduled)


def test_the_command_prints_them(scheduled: Path) -> None:
    done = CliRunner().invoke(main, ["manifest", str(scheduled), "--kind", "rayjob", "--set", "settings.max_usd=3"])
    assert done.exit_code == 0, done.output
    config, workload = YAML(typ="safe").load_all(done.stdout)
    assert YAML(typ="safe").load(config["data"]["job.yaml"])["settings"]["max_usd"] == 3
    assert workload["kind"] == "RayJob"
    assert workload["spec"]["entrypoint"] == "rlm-ray run /job/job.yaml --address auto"


@pytest.mark.parametrize("kind", [*KINDS, None])
def test_the_job_of_the_readme_has_every_form(kind: str | None, tmp_path: Path) -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    (job,) = (part.partition("```")[0] for part in readme.split("```yaml\n")[1:] if part.startswith("name: refused-payments"))
    (tmp_path / "job.yaml").write_text(job)
    done = CliRunner().invoke(main, ["manifest", str(tmp_path / "job.yaml"), *(["--kind", kind] if kind else [])])
    assert done.exit_code == 0, done.output
    kinds = [item["kind"] for item in YAML(typ="safe").load_all(done.stdout)]
    assert kinds[-1].lower() == (kind or kinds[-1].lower())
