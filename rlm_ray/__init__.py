"""rlm_ray: a Recursive Language Model as a distributed batch processor over data lakes.

The public names, flat. Each is imported when it is first used, so that `import rlm_ray` stays light.
"""

from __future__ import annotations

TYPE_CHECKING = False  # not from `typing`: a sandbox starts with this file, and should not wait for that import
if TYPE_CHECKING:
    from typing import Any

    from rlm_ray import errors as errors
    from rlm_ray.api import aask as aask
    from rlm_ray.api import aresume as aresume
    from rlm_ray.api import arun_job as arun_job
    from rlm_ray.api import ask as ask
    from rlm_ray.api import evaluate as evaluate
    from rlm_ray.api import open as open
    from rlm_ray.api import resume as resume
    from rlm_ray.api import run_job as run_job
    from rlm_ray.api import session as session
    from rlm_ray.audit.running import JobResult as JobResult
    from rlm_ray.handle.corpus import Corpus
    from rlm_ray.history import Run as Run
    from rlm_ray.history import load as load
    from rlm_ray.history import runs as runs
    from rlm_ray.recursion.answer import Answer as Answer
    from rlm_ray.recursion.budget.budget import Budget
    from rlm_ray.settings import Settings as Settings

__version__ = "0.1.0"

_HOMES = {
    "open": "rlm_ray.api",
    "ask": "rlm_ray.api",
    "resume": "rlm_ray.api",
    "run_job": "rlm_ray.api",
    "evaluate": "rlm_ray.api",
    "aask": "rlm_ray.api",
    "aresume": "rlm_ray.api",
    "arun_job": "rlm_ray.api",
    "session": "rlm_ray.api",
    "load": "rlm_ray.history",
    "runs": "rlm_ray.history",
    "Run": "rlm_ray.history",
    "JobResult": "rlm_ray.audit.running",
    "Corpus": "rlm_ray.handle.corpus",
    "Answer": "rlm_ray.recursion.answer",
    "Budget": "rlm_ray.recursion.budget.budget",
    "Settings": "rlm_ray.settings",
}

__all__ = [
    "Answer", "Budget", "Corpus", "JobResult", "Run", "Settings", "aask", "aresume", "arun_job", "ask", "errors", "evaluate",
    "load", "open", "resume", "run_job", "runs", "session",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    import importlib

    if name == "errors":
        return importlib.import_module("rlm_ray.errors")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'rlm_ray' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
