"""rlm_ray: a Recursive Language Model as a distributed batch processor over data lakes.

The public names, flat. Each is imported when it is first used, so that `import rlm_ray` stays light.
"""

from __future__ import annotations

TYPE_CHECKING = False  # not from `typing`: a sandbox starts with this file, and should not wait for that import
if TYPE_CHECKING:
    from typing import Any

    from rlm_ray import errors as errors
    from rlm_ray.api import aask as aask
    from rlm_ray.api import ask as ask
    from rlm_ray.api import open as open
    from rlm_ray.api import resume as resume
    from rlm_ray.api import session as session
    from rlm_ray.handle.corpus import Corpus
    from rlm_ray.recursion.answer import Answer as Answer
    from rlm_ray.recursion.budget.budget import Budget
    from rlm_ray.settings import Settings as Settings

__version__ = "0.1.0"

_HOMES = {
    "open": "rlm_ray.api",
    "ask": "rlm_ray.api",
    "aask": "rlm_ray.api",
    "resume": "rlm_ray.api",
    "session": "rlm_ray.api",
    "Corpus": "rlm_ray.handle.corpus",
    "Answer": "rlm_ray.recursion.answer",
    "Budget": "rlm_ray.recursion.budget.budget",
    "Settings": "rlm_ray.settings",
}

__all__ = ["Answer", "Budget", "Corpus", "Settings", "aask", "ask", "errors", "open", "resume", "session"]


def __getattr__(name: str) -> Any:
    import importlib

    if name == "errors":
        return importlib.import_module("rlm_ray.errors")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'rlm_ray' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
