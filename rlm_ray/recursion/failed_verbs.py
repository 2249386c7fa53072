"""Verbs that failed on some of their input: counts, a first error and an address each, never a list of rows.

Two readers need them. The root model gets a line per verb after each cell (`CellFailures`). The person gets those that the
answer may rest on (`FailedVerbs`), and the answer is not complete while there is one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from rlm_ray.text import counted
from rlm_ray.types.json import JsonObject
from rlm_ray.types.run import Failure as AnswerFailure

#: Failed verbs that are listed one by one; more are added up by verb.
MAX_LISTED = 200
MAX_ERROR, MAX_WHAT = 600, 120
#: Lines after one cell.
MAX_LINES = 20
#: Verbs of root code's functions; the others are sub-calls.
FUNCTIONS = ("map", "filter", "aggregate")


@dataclass(frozen=True, slots=True)
class FailedVerb:
    """One verb that failed on some or all of what it was given.

    Attributes
    ----------
    what : str
        The function's name, or the beginning of the prompt.
    failed, of : int
        How many failed, of how many that were tried.
    error : str
        The first error, with its line where it is a function's.
    address : str, optional
        The record that it was about.
    rows : bool
        Whether the handle's `.failed` has the failed rows.
    raised : bool
        Whether root code got an error in place of a result.
    key : str
        Verb and data: a later verb with the same key that succeeds takes its place.
    result : str
        Id of the result with the rows.
    """

    verb: str
    what: str
    failed: int
    of: int
    error: str
    address: str | None = None
    rows: bool = True
    raised: bool = False
    stopped: bool = False
    key: str = ""
    result: str = ""

    def line(self) -> str:
        """Return it in one line, for the root model and for a person.

        Examples
        --------
        >>> FailedVerb("map", "parse", 3, 10, "line 2: x\\nKeyError: 'x'", "a.log@1#row=4").line()
        "map(parse) failed on 3 of 10: line 2: x; KeyError: 'x'; first at a.log@1#row=4; the failed rows are in .failed"
        """
        name = f"{self.verb}({self.what})" if self.verb in FUNCTIONS and self.what else self.verb
        tried = " that were tried, and was stopped there" if self.stopped else ""
        parts = [f"{name} failed on {self.failed:,} of {self.of:,}{tried}: {'; '.join(self.error.split(chr(10)))[:MAX_ERROR]}"]
        if self.address:
            parts.append(f"first at {self.address}")
        if self.rows:
            parts.append("the failed rows are in .failed")
        return "; ".join(parts)

    def to_json(self) -> JsonObject:
        """Return it as JSON values."""
        return asdict(self)

    def shown(self) -> AnswerFailure:
        """Return it as an answer's `failures` have it."""
        return {
            "verb": self.verb,
            "what": self.what,
            "failed": self.failed,
            "of": self.of,
            "error": self.error,
            "address": self.address,
            "reason": self.line(),
        }


class FailedVerbs:
    """The failed verbs of a call that its answer may rest on."""

    def __init__(self) -> None:
        self.found: dict[str, FailedVerb] = {}

    def add(self, failure: FailedVerb) -> None:
        """Take note of one; a function that raised gave nothing that an answer could rest on."""
        if failure.raised and failure.verb in FUNCTIONS:
            return
        if failure.key in self.found or len(self.found) < MAX_LISTED:
            self.found[failure.key] = failure
            return
        key = f"{failure.verb}: more"
        before = self.found.get(key, replace(failure, key=key, failed=0, of=0, rows=False, result=""))
        self.found[key] = replace(before, failed=before.failed + failure.failed, of=before.of + failure.of)

    def extend(self, failures: Iterable[FailedVerb], call: str) -> None:
        """Take note of those of a recursive call."""
        for failure in failures:
            self.add(replace(failure, key=f"{call}/{failure.key}"))

    def mended(self, key: str, result: str = "") -> None:
        """Forget what a later verb did without a failure: the same one over the same data, or over the failed rows."""
        self.found.pop(key, None)
        if result:
            self.found = {name: failure for name, failure in self.found.items() if failure.result != result}

    def restore(self, logged: Iterable[JsonObject]) -> None:
        """Take what a log has."""
        self.found = {item["key"]: FailedVerb(**item) for item in logged}


class CellFailures:
    """What failed in one cell: a line for each verb, and the single calls together."""

    def __init__(self) -> None:
        self._verbs: dict[str, FailedVerb] = {}
        self._raised: list[str] = []
        self._notes: dict[str, str] = {}  # what else is said of results: second readings, columns not shown
        self._single: dict[str, tuple[int, int, str]] = {}  # failed, asked and first error, by verb

    def add(self, failure: FailedVerb) -> None:
        """Take note of a verb that failed."""
        if len(self._verbs) <= MAX_LINES:
            self._verbs[failure.result or failure.key] = failure

    def raised(self, message: str) -> None:
        """Take note of an error in place of a result: root code may have caught it."""
        if len(self._raised) < MAX_LINES:
            self._raised.append(message[: 2 * MAX_ERROR])

    def note(self, about: str, sentence: str) -> None:
        """Take note of what the root model should know of a result beside its failures."""
        if len(self._notes) < MAX_LINES:
            self._notes[about] = sentence

    def single(self, verb: str, asked: int, failed: int, error: str) -> None:
        """Take note of calls whose answers root code gets as values."""
        before, total, first = self._single.get(verb, (0, 0, ""))
        self._single[verb] = (before + failed, total + asked, first or error)

    def lines(self, error: str | None = None) -> list[str]:
        """Return the lines for the root model after the cell, beside the error that the cell ended with."""
        raised = [message for message in dict.fromkeys(self._raised) if message[:100] not in (error or "")]
        singles = [
            FailedVerb(verb, "", failed, asked, error, rows=False).line()
            for verb, (failed, asked, error) in self._single.items()
            if failed
        ]
        verbs = [failure.line() for failure in self._verbs.values()]
        more = [f"… and {counted(len(verbs) - MAX_LINES, 'more verb')} with failures"] if len(verbs) > MAX_LINES else []
        return [*singles, *raised, *verbs[:MAX_LINES], *more, *self._notes.values()]
