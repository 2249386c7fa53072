"""What crosses the wall back, and what goes into the log: how a cell ended, an error, what a failed call was charged."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any

from rlm_ray.errors import (
    BudgetExceeded,
    ClusterError,
    CredentialsError,
    ModelError,
    RlmRayError,
    StorageError,
    SubcallsFailed,
)
from rlm_ray.recursion.loop import feedback, loop
from rlm_ray.recursion.loop.history import cut_middle

if TYPE_CHECKING:
    from rlm_ray.recursion.final import Finals
    from rlm_ray.recursion.loop.recovery import Past
    from rlm_ray.recursion.service import Service
    from rlm_ray.recursion.verbs.citing import Citing
    from rlm_ray.recursion.verbs.scans import FailureLog
    from rlm_ray.sandbox.outside.events import CellDone, Restarted

MAX_ERROR = 4_000
#: Single calls of one cell after which it is said that a batch is the way.
MANY_ALONE = 8


class ToldBefore(Exception):
    """An error that a cell had when it first ran, told again in a replay.

    Attributes
    ----------
    told : tuple
        As `told_error` gave it.
    """

    def __init__(self, told: tuple[str, str, dict[str, Any]]) -> None:
        super().__init__(told[1])
        self.told = told


def told_error(error: Exception) -> tuple[str, str, dict[str, Any]]:
    """Return an error as it crosses the wall: its class's name, its message, and what root code may use of it."""
    if isinstance(error, ToldBefore):
        return error.told
    if isinstance(error, RlmRayError | IndexError | ValueError):
        extra = {"answers": error.answers, "errors": error.errors} if isinstance(error, SubcallsFailed) else {}
        return type(error).__name__, str(error), extra
    return "RuntimeError", f"The engine failed: {type(error).__name__}: {error}", {}


def ends_run(error: BaseException | None) -> bool:
    """Whether an error ends the whole run, whatever root code does about it: no key, or a record that cannot be written."""
    return isinstance(error, CredentialsError) or (isinstance(error, StorageError | ClusterError) and error.ends_run)


def ended_cell(done: CellDone, finals: Finals, service: Service, output_chars: int) -> loop.CellDone:
    """Return what a cell gave as the loop takes it: outputs cut, the answer checked."""
    value, problem = (None, done.final_problem) if done.final is None else finals.check(done.final)
    output = cut_middle(done.output, output_chars)
    if done.lost:
        output += f"\n[These variables cannot be kept if the REPL is restarted: {', '.join(done.lost[:20])}]"
    output += "".join(f"\n[{note}]" for note in dict.fromkeys(service.recursions.notes))
    service.recursions.notes.clear()
    if done.final is not None and done.final.kind == "corpus":
        service.requests.look_at(done.final.value)
    output += "".join(f"\n[{line}]" for line in service.requests.failures.lines(done.error))
    if (alone := service.requests.alone) >= MANY_ALONE:
        output += f"\n[{feedback.ALONE.format(count=alone)}]"
    error = cut_middle(done.error, MAX_ERROR) if done.error else None
    return loop.CellDone(output, error, value, problem, done.requests)


def restarted_cell(event: Restarted, output_chars: int) -> loop.CellDone:
    """Return a cell that ended with its process, as the loop takes it: what it had printed, and why it is over."""
    lost = f" Lost: {', '.join(event.lost[:20])}." if event.lost else ""
    error = f"The REPL was restarted: {event.reason}. Its variables are those after the last cell that ended.{lost}"
    return loop.CellDone(cut_middle(event.output, output_chars), error, requests=1)


class News:
    """What a call has cited and could not read, and its log does not have yet. All of it only becomes more.

    Parameters
    ----------
    citing : Citing
    failures : FailureLog
    """

    def __init__(self, citing: Citing, failures: FailureLog) -> None:
        self._citing = citing
        self._failures = failures
        self._told: dict[str, int] = {}  # how many of each were written down

    def restore(self, past: Past) -> None:
        """Take what a log has: it is the call's, and is no news."""
        self._citing.citations += past.citations
        self._citing.refused += past.refused
        self._failures.restore(past.failures)
        self._failures.verbs.restore(past.failed_verbs)
        self.take()

    def take(self) -> dict[str, list[Any]]:
        """Return what is new, as the log has it: `citations`, `refused`, `failures`."""
        failures = self._new("failures", self._failures.failures.values())
        return {
            "citations": self._new("citations", self._citing.citations),
            "refused": self._new("refused", self._citing.refused),
            "failures": [asdict(failure) for failure in failures],
            "failed_verbs": [failure.to_json() for failure in self._failures.verbs.found.values()],  # all, each time: few
        }

    def _new(self, name: str, items: Collection[Any]) -> list[Any]:
        before, self._told[name] = self._told.get(name, 0), len(items)
        return list(islice(items, before, None))


def paid(error: Exception) -> dict[str, Any]:
    """Return what the attempts of a call that failed were charged, for the log."""
    usage = error.usage if isinstance(error, BudgetExceeded | ModelError) else None
    return {"usage": usage.to_json()} if usage is not None and usage.calls else {}
