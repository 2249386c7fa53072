"""Reports of cells and errors: as the loop takes them, as root code gets them, and as the log has them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any

from rlm_ray.errors import (
    BudgetExceeded,
    ClusterError,
    CredentialsError,
    ModelError,
    RlmRayError,
    RunPaused,
    StorageError,
    SubcallsFailed,
)
from rlm_ray.recursion.loop import loop
from rlm_ray.recursion.loop.history import cut_middle
from rlm_ray.types.usage import UsageRecord

if TYPE_CHECKING:
    from rlm_ray.recursion.final import Checked
    from rlm_ray.recursion.loop.recovery import Past
    from rlm_ray.recursion.verbs.citing import Citing
    from rlm_ray.recursion.verbs.failures import FailureLog
    from rlm_ray.recursion.verbs.sampling.sure_log import SureLog
    from rlm_ray.sandbox.outside.events import CellDone, Restarted

MAX_ERROR = 4_000


#: Name of the class, message, and further data.
ErrorReply = tuple[str, str, dict[str, object]]


class ReplayedError(Exception):
    """An error of a cell's first run, raised again in a replay.

    Attributes
    ----------
    reply : tuple
        From `error_reply`.
    """

    def __init__(self, reply: ErrorReply) -> None:
        super().__init__(reply[1])
        self.reply = reply


def error_reply(error: Exception) -> ErrorReply:
    """Return an error as root code gets it: the name of its class, its message, and the data that root code may use."""
    if isinstance(error, ReplayedError):
        return error.reply
    if isinstance(error, RlmRayError | IndexError | ValueError):
        extra: dict[str, object] = {"answers": error.answers, "errors": error.errors} if isinstance(error, SubcallsFailed) else {}
        return type(error).__name__, str(error), extra
    return "RuntimeError", f"The engine failed: {type(error).__name__}: {error}", {}


def ends_run(error: BaseException | None) -> bool:
    """Whether an error ends the whole run, whatever root code does: the key is refused, or a record cannot be written."""
    return isinstance(error, CredentialsError | RunPaused) or (isinstance(error, StorageError | ClusterError) and error.ends_run)


def ended_cell(done: CellDone, checked: Checked, notes: Sequence[str], output_chars: int) -> loop.CellDone:
    """Return the event of a cell that ended: its output, cut and with `notes` for the root model, and its checked answer."""
    value, problem = checked
    output = cut_middle(done.output, output_chars)
    if done.lost:
        output += f"\n[These variables cannot be kept if the REPL is restarted: {', '.join(done.lost[:20])}]"
    output += "".join(f"\n[{note}]" for note in notes)
    error = cut_middle(done.error, MAX_ERROR) if done.error else None
    return loop.CellDone(output, error, value, problem, done.requests)


def restarted_cell(event: Restarted, output_chars: int) -> loop.CellDone:
    """Return the event of a cell that ended with its process: its output so far, and why it ended."""
    lost = f" Lost: {', '.join(event.lost[:20])}." if event.lost else ""
    error = f"The REPL was restarted: {event.reason}. Its variables are those after the last cell that ended.{lost}"
    return loop.CellDone(cut_middle(event.output, output_chars), error, requests=1)


class News:
    """Citations and failures of a call that its log does not have yet. Their lists only grow.

    Parameters
    ----------
    citing : Citing
    failures : FailureLog
    sure : SureLog
    """

    def __init__(self, citing: Citing, failures: FailureLog, sure: SureLog) -> None:
        self._citing = citing
        self._failures = failures
        self._sure = sure
        self._counts: dict[str, int] = {}  # entries of each list that the log has

    def restore(self, past: Past) -> None:
        """Take over the entries of a log, which are no news."""
        self._citing.citations += past.citations
        self._citing.refused += past.refused
        self._failures.restore(past.failures)
        self._failures.verbs.restore(past.failed_verbs)
        self._sure.restore(past.sure)
        self.take()

    def take(self) -> dict[str, list[Any]]:
        """Return the new entries, as the log has them: `citations`, `refused`, `failures`."""
        failures = self._new("failures", self._failures.failures.values())
        return {
            "citations": self._new("citations", self._citing.citations),
            "refused": self._new("refused", self._citing.refused),
            "failures": [asdict(failure) for failure in failures],
            "failed_verbs": [failure.to_json() for failure in self._failures.verbs.found.values()],  # all, each time: few
            "sure": list(self._sure.records.values()),
        }

    def _new(self, name: str, items: Collection[Any]) -> list[Any]:
        before, self._counts[name] = self._counts.get(name, 0), len(items)
        return list(islice(items, before, None))


def paid(error: Exception) -> dict[str, UsageRecord]:
    """Return the charge for the attempts of a failed call, for the log."""
    usage = error.usage if isinstance(error, BudgetExceeded | ModelError) else None
    return {"usage": usage.to_json()} if usage is not None and usage.calls else {}
