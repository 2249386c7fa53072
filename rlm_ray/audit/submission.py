"""Runs a job on a cluster through Ray Jobs: packs it, submits it once, follows it, and resumes it."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlm_ray import storage
from rlm_ray.audit import programs
from rlm_ray.audit.spec import ClusterSpec, Spec, files_of
from rlm_ray.corpus.catalog.lakehouse.names import location
from rlm_ray.errors import ClusterError, InputError

#: Attempts of one run that are told apart.
MAX_ATTEMPTS = 1_000


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job that runs on a cluster.

    Attributes
    ----------
    run : str
        The run's id.
    job : str
        Ray's id of this attempt.
    new : bool
        False where it was running already.
    attempt : int
        From 1; later ones take up what earlier ones left.
    """

    run: str
    job: str
    new: bool
    attempt: int


def check_places(spec: Spec) -> None:
    """Refuse places that mean a folder of this machine.

    Raises
    ------
    InputError
        Names the key and the place.
    """
    places: list[tuple[str, str | None]] = [
        (f"corpora.{name}.uris", location(uri)) for name, corpus in spec.corpora.items() for uri in corpus.uris
    ]
    places += [(f"output.{name}", getattr(spec.output, name)) for name in ("findings", "reports", "state")]
    places.append(("settings.run_dir", spec.settings.get("run_dir")))
    for key, place in places:
        if place is not None and storage.is_local(place) and not place.startswith(("/", "file://")):
            raise InputError(
                f"{key} = {place!r} is a folder beside you, and the job runs on a cluster. Put it into object storage (s3://…), "
                f"as with --set {key}=s3://…; or give the whole path of a file system that all nodes share."
            )


def submit(spec: Spec, path: Path, changes: Sequence[str], server: Any, run: str) -> Submitted:
    """Submit a job, or find that it is running. What an earlier attempt of the run has paid is not asked again.

    Parameters
    ----------
    spec : Spec
        Read from `path` with `changes`.
    server : rlm_ray.cluster.jobs.JobServer
    run : str
        The run's id: one run, however often it is submitted.

    Raises
    ------
    InputError
        A place of the job is a folder of this machine, or there is no program where it names one.
    """
    check_places(spec)
    if spec.program is not None:
        programs.load(path.parent / spec.program)
    cluster = spec.cluster if spec.cluster is not None else ClusterSpec()
    command = shlex.join(["rlm-ray", "run", "job.yaml", "--address", "auto", "--run-id", run])
    with tempfile.TemporaryDirectory(prefix="rlm-ray-submit-") as packed:
        for name, text in files_of(spec, path, changes).items():
            file = Path(packed, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
        known = {job.id: job for job in server.all()}
        for attempt in range(1, MAX_ATTEMPTS):
            job = run if attempt == 1 else f"{run}.{attempt}"
            if job in known and known[job].ended:
                continue
            about = {"rlm_ray_run": run, "rlm_ray_job": spec.name}
            new = job not in known and server.submit(job, command, Path(packed), cluster.environment, cluster.packages, about)
            return Submitted(run, job, new, attempt)
    raise ClusterError(f"The run {run} was submitted {MAX_ATTEMPTS:,} times. Give another --run-id.")


def instructions(submitted: Submitted, spec: Spec, path: Path, changes: Sequence[str], address: str) -> list[str]:
    """Return the lines that say what was submitted, and how to follow, stop and resume it."""
    if not submitted.new:
        first = f"the run {submitted.run} is under way, as job {submitted.job}"
    elif submitted.attempt == 1:
        first = f"submitted the run {submitted.run}, as job {submitted.job}"
    else:
        first = f"submitted the run {submitted.run} again, as job {submitted.job}: it goes on from where it stopped"
    command = ["rlm-ray", "submit", str(path), "--address", address, "--run-id", submitted.run]
    for change in changes:
        command += ["--set", change]
    lines = [
        first,
        f"follow or resume: {shlex.join(command)} --wait",
        f"stop:             ray job stop --address {address} {submitted.job}",
    ]
    if spec.settings.get("run_dir") is None:
        lines.append("settings.run_dir is not set: the run is kept on the head, and is lost with it. Give it s3://…")
    return lines


def follow(server: Any, submitted: Submitted, write: Callable[[str], Any]) -> int:
    """Follow a job to its end, and return the exit code of its command; 130 where it was stopped."""
    ended = server.follow(submitted.job, write)
    if ended.status == "STOPPED":
        return 130
    if ended.exit_code is not None and ended.exit_code >= 0:
        return int(ended.exit_code)
    if ended.status == "SUCCEEDED":
        return 0
    write(f"{ended.message}\n")
    return 1
