"""Running a shipped job over known data with a reader in the place of a model."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import rlm_ray
from rlm_ray.audit import running
from rlm_ray.audit import spec as specs
from rlm_ray.audit.running import JobResult

JOBS = Path(__file__).resolve().parents[2] / "jobs"


def run_job(
    name: str, corpus: str, uris: str, folder: Path, base_url: str, changes: Iterable[str] = (), run_id: str = "first"
) -> JobResult:
    """Run a job over a corpus of another place, with the model `leaf` of an endpoint; `changes` are those of `--set`."""
    path = JOBS / name / "job.yaml"
    places = [
        f"corpora.{corpus}.uris={json.dumps(uris)}",
        f"output.findings={folder / 'findings'}",
        f"output.reports={folder / 'reports'}",
    ]
    flags: dict[str, Any] = {"sub_model": "leaf", "base_url": base_url, "run_dir": str(folder / "runs"), "run_id": run_id}
    return running.run(specs.load(path, [*places, *changes]), path.parent, rlm_ray.ask, rlm_ray.open, lambda run: "", flags)


def precision_recall(found: set[Any], gold: set[Any]) -> tuple[float, float]:
    """Share of what was found that is true, and of what is true that was found."""
    right = len(found & gold)
    return (right / len(found) if found else 1.0), (right / len(gold) if gold else 1.0)
