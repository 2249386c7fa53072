"""Retries tasks that lost their worker, as to Ray's memory monitor: each retry does less, and the last loss is a failure.

Ray's own retries are off for them: what its memory monitor kills it would retry without end.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import RayError

from rlm_ray.cluster.futures import unwrapped
from rlm_ray.errors import ClusterError
from rlm_ray.recursion.ports import CodeGroup, CodeOutcome, QueryGroup, ScanGroup, ShardFailure

#: Times that a group, or a part of it, runs again when its worker was lost.
MOST_LOSSES = 3

GroupT = TypeVar("GroupT", ScanGroup, CodeGroup, QueryGroup)


class ShrinkingFuture(Generic[GroupT]):
    """A group as a Ray task; when its worker is lost, its halves as tasks one after the other, and so on.

    Parameters
    ----------
    group : ScanGroup, CodeGroup or QueryGroup
    submit : callable
        Begins a task for a group; returns Ray's reference.
    parts : callable
        ``parts(group, reason)``: its parts, what joins their values, and the value that stands for the group's failure.
    """

    def __init__(self, group: GroupT, submit: Callable[[GroupT], Any], parts: Callable[..., Any]) -> None:
        self._submit: Callable[[GroupT], Any] = submit
        self._parts = parts
        self._todo: list[tuple[GroupT, int]] = [(group, 0)]
        self._values: list[Any] = []
        self._error: Exception | None = None
        self._cancelled = False
        self._whole: GroupT = group
        self.reference = submit(group)
        self.ready = False

    def done(self) -> bool:
        """Whether it has ended; known after `Ports.wait`."""
        return self.ready

    def advance(self) -> None:
        """Take the value of the task that has ended; begin the next part, if there is one."""
        group, losses = self._todo.pop(0)
        try:
            self._values.append(ray.get(self.reference))
        except RayError as problem:
            error = unwrapped(problem)
            if not may_shrink(error) or self._cancelled or (losses >= MOST_LOSSES and not group.works):
                self._error, self.ready = error, True
                return
            halves, _, failed = self._parts(group, f"{error} It ran {losses + 1} times.")
            if losses >= MOST_LOSSES:
                self._values.append(failed)
            else:
                self._todo[:0] = [(half, losses + 1) for half in halves]
        if self._todo:
            self.reference = self._submit(self._todo[0][0])
        else:
            self.ready = True

    def result(self) -> Any:
        """Return the joined values, or raise the error without Ray's wrapping; waits where it has not ended."""
        while not self.ready:
            self.advance()
        if self._error is not None:
            raise self._error from None
        if len(self._values) == 1:
            return self._values[0]
        return self._parts(self._whole, "")[1](self._values)

    def cancel(self, force: bool = False) -> None:
        """Ask Ray to end the task and those below it; `force` ends its worker."""
        self._cancelled = True
        with contextlib.suppress(RayError, ValueError, TypeError):
            ray.cancel(self.reference, force=force)


def may_shrink(error: Exception) -> bool:
    """Whether a task failed because its worker was lost."""
    return isinstance(error, ClusterError) and error.worker_lost


def _halves(works: Sequence[Any]) -> list[tuple[Any, ...]]:
    middle = (len(works) + 1) // 2
    return [part for part in (tuple(works[:middle]), tuple(works[middle:])) if part]


def _failures(group: Any, reason: str) -> tuple[ShardFailure, ...]:
    return tuple(ShardFailure(work.shard.uri, reason, work.shard.index) for work in group.works)


def scan_parts(group: ScanGroup, reason: str) -> tuple[list[ScanGroup], Callable[..., Any], Any]:
    """Return the parts of a scan, what joins their values, and its failure."""
    parts = [replace(group, works=works) for works in _halves(group.works)]
    return parts, lambda values: [partial for value in values for partial in value], list(_failures(group, reason))


def code_parts(group: CodeGroup, reason: str) -> tuple[list[CodeGroup], Callable[..., Any], Any]:
    """Return the parts of a function's group, what joins their values, and its failure."""
    names = "ab" if len(group.works) > 1 else ("",)
    parts = [replace(group, works=works, part=group.part + name) for works, name in zip(_halves(group.works), names, strict=False)]
    return parts or [group], functools.partial(functools.reduce, _joined), CodeOutcome(failures=_failures(group, reason))


def query_parts(group: QueryGroup, reason: str) -> tuple[list[QueryGroup], Callable[..., Any], Any]:
    """Return the parts of SQL's group, which is itself: what a query sees at once is not cut. And its failure."""
    return [group], functools.partial(functools.reduce, _joined), CodeOutcome(failures=_failures(group, reason))


def _joined(one: CodeOutcome, other: CodeOutcome) -> CodeOutcome:
    events = {name: one.events.get(name, 0) + other.events.get(name, 0) for name in (*one.events, *other.events)}
    return CodeOutcome(
        one.segments + other.segments,
        one.values + other.values,
        one.kept | other.kept,
        one.failures + other.failures,
        events,
        one.tried + other.tried,
        one.failed + other.failed,
        one.error or other.error,
        one.address if one.error else other.address,
        one.stopped or other.stopped,
    )
