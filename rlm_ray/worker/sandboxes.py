"""The sandboxes of this worker process: one for functions, one for SQL. A new run closes those of the last."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from rlm_ray.sandbox.outside.events import Limits
from rlm_ray.sandbox.outside.functions import FunctionSandbox
from rlm_ray.sandbox.outside.queries import QuerySandbox
from rlm_ray.settings import Settings

_sandboxes: dict[tuple[str, str, type[FunctionSandbox]], Any] = {}
_lock = threading.Lock()


def function_sandbox(run_id: str, settings: Settings) -> FunctionSandbox:
    """Return this process's sandbox for the functions of a run."""
    sandbox: FunctionSandbox = _sandbox(run_id, settings, FunctionSandbox)
    return sandbox


def query_sandbox(run_id: str, settings: Settings) -> QuerySandbox:
    """Return this process's sandbox for the SQL of a run.

    Raises
    ------
    InputError
        The isolation level cannot run SQL.
    """
    sandbox: QuerySandbox = _sandbox(run_id, settings, QuerySandbox)
    return sandbox


def _sandbox(run_id: str, settings: Settings, kind: type[FunctionSandbox]) -> Any:
    with _lock:
        key = (run_id, settings.isolation, kind)
        if key not in _sandboxes:
            for old in [old for old in _sandboxes if old[:2] != key[:2]]:
                _sandboxes.pop(old).close()
            limits = Limits(settings.cell_seconds, settings.cell_wall_seconds, settings.cell_requests, settings.sandbox_memory)
            _sandboxes[key] = kind(level=settings.isolation, limits=limits)
        return _sandboxes[key]


def since(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    """Return the security events that came since."""
    return {name: number - before.get(name, 0) for name, number in now.items() if number > before.get(name, 0)}
