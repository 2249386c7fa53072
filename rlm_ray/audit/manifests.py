"""The Kubernetes form of a job: a ConfigMap with its files, and a RayJob, a RayCronJob or a CronJob that runs it. Pure.

Field names are those of KubeRay's `ray.io/v1` (RayCronJob is alpha there, and has no concurrency policy) and of Kubernetes'
`batch/v1`. The pods ask for the security context of SECURITY.md: the sandbox needs no privilege.
"""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Mapping
from importlib.metadata import version
from typing import Literal

from rlm_ray.audit.spec import ClusterSpec, Spec
from rlm_ray.errors import InputError
from rlm_ray.types.json import JsonObject

Kind = Literal["rayjob", "raycronjob", "cronjob"]
#: Where the job's files are in a pod.
FOLDER = "/job"
#: A ConfigMap holds at most a megabyte.
MAX_FILES = 900_000
_SECONDS_KEPT = 3_600


def manifest(spec: Spec, kind: Kind, files: Mapping[str, str]) -> str:
    """Return the manifests of a job as YAML documents.

    Parameters
    ----------
    spec : Spec
        With `cluster`, and with `schedule` for what is scheduled.
    kind : {"rayjob", "raycronjob", "cronjob"}
        A RayJob runs once, on a Ray cluster of its own; a RayCronJob makes one at each time of the schedule; a CronJob runs the
        job in one pod, with an embedded Ray.
    files : mapping of str to str
        The specification as `job.yaml`, and the program's files by their path.

    Raises
    ------
    InputError
        The specification does not say what the kind needs, or its files are too large.
    """
    if spec.cluster is None or spec.cluster.image is None:
        raise InputError(
            "The specification has no `cluster` with an image. Add it: an image that has rlm_ray, workers, cpus, memory, secret."
        )
    if kind != "rayjob" and spec.schedule is None:
        raise InputError(f"A {kind} needs a `schedule` in the specification, as in schedule: '0 2 * * *'.")
    if (size := sum(len(text.encode()) for text in files.values())) > MAX_FILES:
        raise InputError(f"The job's files are {size:,} bytes; a ConfigMap holds {MAX_FILES:,}. Put them into the image.")
    if kind == "cronjob" and spec.cluster.packages:
        raise InputError("A cronjob's pod installs no `packages`. Put them into the image, or take --kind raycronjob.")
    documents = [_config_map(spec, files), _workload(spec, spec.cluster, kind, files)]
    return "---\n".join(_yaml(document) for document in documents)


def _workload(spec: Spec, cluster: ClusterSpec, kind: Kind, files: Mapping[str, str]) -> JsonObject:
    if kind == "cronjob":
        pod = _pod(spec, cluster, files, _command(spec, "local"))
        pod["spec"]["restartPolicy"] = "Never"
        job = {"template": pod, "backoffLimit": 0, "ttlSecondsAfterFinished": _SECONDS_KEPT}
        schedule = {"schedule": spec.schedule, "concurrencyPolicy": "Forbid", "jobTemplate": {"spec": job}}
        return _object("batch/v1", "CronJob", spec, schedule | ({"timeZone": spec.time_zone} if spec.time_zone else {}))
    ray_job = _ray_job(spec, cluster, files)
    if kind == "rayjob":
        return _object("ray.io/v1", "RayJob", spec, ray_job)
    schedule = {"schedule": spec.schedule, "jobTemplate": ray_job} | ({"timeZone": spec.time_zone} if spec.time_zone else {})
    return _object("ray.io/v1", "RayCronJob", spec, schedule)


def _ray_job(spec: Spec, cluster: ClusterSpec, files: Mapping[str, str]) -> JsonObject:
    workers = {
        "groupName": "workers",
        "replicas": cluster.workers,
        "minReplicas": cluster.workers,
        "maxReplicas": cluster.workers,
        "rayStartParams": {},
        "template": _pod(spec, cluster, files),
    }
    # the head has no CPUs for tasks: it holds the driver
    head = {"rayStartParams": {"num-cpus": "0"} if cluster.workers else {}, "template": _pod(spec, cluster, files)}
    installed = {"runtimeEnvYAML": json.dumps({"pip": list(cluster.packages)})} if cluster.packages else {}
    return installed | {
        "entrypoint": shlex.join(_command(spec, "auto")),
        "submissionMode": "K8sJobMode",
        "submitterPodTemplate": _submitter(spec, cluster),
        "backoffLimit": 0,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": _SECONDS_KEPT,
        "rayClusterSpec": {
            "rayVersion": cluster.ray_version or version("ray"),
            "authOptions": {"mode": "token"},
            "headGroupSpec": head,
            "workerGroupSpecs": [workers] if cluster.workers else [],
        },
    }


def _submitter(spec: Spec, cluster: ClusterSpec) -> JsonObject:
    """The pod that hands the job to the head: as shut in as the others, but small, and without the job's files and keys."""
    pod = _pod(spec, cluster, {})
    (container,) = pod["spec"]["containers"]
    for name in ("env", "envFrom", "volumeMounts"):
        container.pop(name, None)
    container["resources"] = {kind: {"cpu": "1", "memory": "1Gi"} for kind in ("requests", "limits")}
    del pod["spec"]["volumes"]
    pod["spec"]["restartPolicy"] = "Never"
    return pod


def _command(spec: Spec, address: str) -> list[str]:
    return ["rlm-ray", "run", f"{FOLDER}/job.yaml", "--address", address]


def _pod(spec: Spec, cluster: ClusterSpec, files: Mapping[str, str], command: list[str] | None = None) -> JsonObject:
    container: JsonObject = {
        "name": "rlm-ray",
        "image": cluster.image,
        "resources": {kind: {"cpu": str(cluster.cpus), "memory": cluster.memory} for kind in ("requests", "limits")},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": "job", "mountPath": FOLDER, "readOnly": True}],
    }
    if command is not None:
        container["command"] = command
    if cluster.environment:
        container["env"] = [{"name": name, "value": value} for name, value in sorted(cluster.environment.items())]
    if cluster.secret is not None:
        container["envFrom"] = [{"secretRef": {"name": cluster.secret}}]
    items = [{"key": _key(path), "path": path} for path in sorted(files)]
    pod: JsonObject = {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "job", "configMap": {"name": _name(spec), "items": items}}],
    }
    if cluster.service_account is not None:
        pod["serviceAccountName"] = cluster.service_account
    return {"metadata": {"labels": _labels(spec)}, "spec": pod}


def _config_map(spec: Spec, files: Mapping[str, str]) -> JsonObject:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": _name(spec), "labels": _labels(spec)},
        "data": {_key(path): text for path, text in sorted(files.items())},
    }


def _object(api: str, kind: str, spec: Spec, body: JsonObject) -> JsonObject:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": _name(spec), "labels": _labels(spec)}, "spec": body}


def _key(path: str) -> str:
    """A file's key in a ConfigMap, which knows no folders."""
    return path.replace("/", "__")


def _name(spec: Spec) -> str:
    return f"rlm-ray-{spec.name.replace('_', '-')}".rstrip("-")


def _labels(spec: Spec) -> dict[str, str]:
    return {"app.kubernetes.io/name": "rlm-ray", "app.kubernetes.io/instance": _name(spec)}


def _yaml(document: JsonObject) -> str:
    from ruamel.yaml import YAML
    from ruamel.yaml.scalarstring import LiteralScalarString

    if document["kind"] == "ConfigMap":
        document = document | {"data": {key: LiteralScalarString(text) for key, text in document["data"].items()}}
    writer = YAML()
    writer.width = 4_000  # no line of a file is broken
    sink = io.StringIO()
    writer.dump(document, sink)
    return sink.getvalue()
