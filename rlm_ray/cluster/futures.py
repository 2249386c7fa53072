"""Futures of work that is under way as Ray tasks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError, TaskCancelledError

from rlm_ray.errors import ClusterError, RlmRayError
from rlm_ray.recursion.ports import LeafOutcome


def unwrapped(error: RayError) -> Exception:
    """Return the error that a task raised, or a ClusterError where Ray itself failed."""
    if isinstance(error, RayTaskError):
        cause = error.cause
        if isinstance(cause, RlmRayError):
            return cause
        lines = str(cause).strip().splitlines() or [""]
        return ClusterError(
            f"A task failed: {type(cause).__name__}: {lines[0][:300]}. This is a defect of rlm_ray: please report it."
        )
    if isinstance(error, TaskCancelledError):
        return ClusterError("The task was cancelled.")
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    lost = ClusterError(f"A worker of the cluster was lost: {reason[:300]} Look at its memory, then run again.")
    lost.worker_lost = True
    return lost


class StreamFuture:
    """A leaf group or a recursive call as a Ray task: a stream of progress, then its outcome, then a group's segments as
    objects of the store.

    Done when the stream has ended, not when the outcome came: until then the worker is taken, and a task that is begun in its
    place would have Ray start another worker, which costs a few seconds of a CPU.
    """

    def __init__(self, generator: Any, progress: Callable[..., None]) -> None:
        self.reference = generator
        self._progress = progress
        self._outcome: Any = None
        self._error: Exception | None = None
        self.ready = False

    def done(self) -> bool:
        """Whether it has ended; known after `Ports.wait`."""
        return self.ready

    def advance(self) -> None:
        """Take what the stream has; never waits for what it does not have."""
        try:
            message = ray.get(next(self.reference))
            if message[0] == "progress":
                self._progress(*message[1:])
                return
            self._outcome = message[1]
            if isinstance(self._outcome, LeafOutcome):
                # the rest of the stream is segments: they stay in the store, only their references come here
                segments = [replace(segment, mirror=next(self.reference)) for segment in self._outcome.segments]
                self._outcome = replace(self._outcome, segments=tuple(segments))
                self._progress(*message[2:])
            return
        except StopIteration:
            if self._outcome is None:
                self._error = ClusterError("A task ended without an outcome. Run again; finished calls are kept.")
        except RayError as error:
            if self._outcome is None:  # else the worker was lost after it had sent all
                self._error = unwrapped(error)
        self.ready = True

    def result(self) -> Any:
        """Return the outcome, or raise its error without Ray's wrapping."""
        if self._error is not None:
            raise self._error
        return self._outcome

    def cancel(self, force: bool = False) -> None:
        """Ask Ray to end the task; `force` ends its worker."""
        with contextlib.suppress(RayError, ValueError, TypeError):
            ray.cancel(self.reference, force=force)


def fetch(mirror: Any, seconds: float = 10.0) -> Any:
    """Return the table behind a reference, or None where the store no longer has it."""
    try:
        return ray.get(mirror, timeout=seconds)
    except (RayError, GetTimeoutError):
        return None
