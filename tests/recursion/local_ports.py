"""Local ports that remember what they were asked for, and whose recursive calls are given by a test."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rlm_ray.recursion.ports import Call, CallOutcome, CodeGroup, Future, LeafGroup, ScanGroup
from rlm_ray.testing import LocalPorts

Recurse = Callable[[Call], CallOutcome]


class RecordingPorts(LocalPorts):
    """Local ports that remember what they were asked for.

    Parameters
    ----------
    recurse : callable, optional
        Stands for a recursive call: what it comes to, or an error that it raises.
    capacity : int
        CPUs that work is spread over.
    """

    def __init__(self, recurse: Recurse | None = None, capacity: int = 2) -> None:
        super().__init__(capacity)
        self.scans: list[ScanGroup] = []
        self.codes: list[CodeGroup] = []
        self.groups: list[LeafGroup] = []
        self.spread: list[bool] = []
        self.calls: list[Call] = []
        self._recurse = recurse

    def scan(self, group: ScanGroup) -> Future:
        self.scans.append(group)
        return super().scan(group)

    def code(self, group: CodeGroup) -> Future:
        self.codes.append(group)
        return super().code(group)

    def leaves(self, group: LeafGroup, progress: Callable[..., None], spread: bool) -> Future:
        self.groups.append(group)
        self.spread.append(spread)
        return super().leaves(group, progress, spread)

    def recurse(self, call: Call, progress: Callable[..., None]) -> Future:
        self.calls.append(call)
        return super().recurse(call, progress)

    def run_call(self, call: Call, progress: Callable[..., None], cancelled: threading.Event) -> CallOutcome:
        assert self._recurse is not None
        return self._recurse(call)
