"""The results of a run, by name: the rows that batches of sub-calls and functions over shards returned.

A result is made when its work starts; its readers wait. Its segments are files in the run directory, so that a
recursive call, or a run that is resumed, finds it there.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rlm_ray import storage
from rlm_ray.corpus.catalog.building import manifest_of_segments
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.meaning.types import unite
from rlm_ray.errors import InputError, StorageError
from rlm_ray.handle.plan import Plan, Result
from rlm_ray.ledger.segments import Segment
from rlm_ray.models.contract import Usage
from rlm_ray.recursion.failed_verbs import FailedVerb
from rlm_ray.recursion.jobs.batch_plans import Learned
from rlm_ray.recursion.jobs.scheduler import Promise
from rlm_ray.recursion.ports import Mirrors
from rlm_ray.types.estimate import BatchPlan
from rlm_ray.types.json import JsonObject
from rlm_ray.types.run import Context, SureRecord


@dataclass(slots=True)
class ResultState:
    """One result, finished or under way.

    Attributes
    ----------
    columns : dict
        Type by column, without those that begin with `_`.
    expected : int
        Rows that are to come, where known.
    given : tuple of str
        Columns that show what a corpus' records say: each row has the address of the one that it is about.
    written : tuple of str
        Columns that models wrote, here or in the result that it is about.
    hidden : tuple of str
        Those of its input that models wrote and that its own reader was therefore not shown.
    """

    id: str
    columns: dict[str, str]
    expected: int | None = None
    done: int = 0
    failed: int = 0
    segments: list[Segment] = field(default_factory=list)
    promise: Promise = field(default_factory=Promise)
    manifest: Manifest | None = None
    landed: dict[int, list[Segment]] = field(default_factory=dict)  # while it is under way, by the number of the group
    more_rows: Promise = field(default_factory=Promise)  # set when the next group has landed
    given: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    rows: Callable[[], list[Segment]] | None = None  # writes down the rows that are there
    failure: FailedVerb | None = None
    key: str = ""  # of the verb and its data; see `FailedVerb`
    retried: str = ""  # id of the result whose failed rows it is about
    unasked: int = 0  # rows for which the budget did not reach
    agreement: SureRecord | None = None  # how far a second reading of some of its rows agrees
    plan: BatchPlan | None = None  # of what it would take, before it was asked
    off: JsonObject = field(default_factory=dict)  # and how far that was off
    text_kind: str = ""  # model and kind of text, by which the tokens of its calls are learned
    learned: Learned = field(default_factory=Learned)
    used: Usage = field(default_factory=Usage)
    unread: list[JsonObject] = field(default_factory=list)  # objects of its corpus that could not be read, with the reason
    own_errors: bool = False  # its column `_error` is data of a query, not about its rows

    def land(self, number: int, segments: Sequence[Segment]) -> None:
        """Take note of what a group of the work under way gave."""
        self.landed[number] = list(segments)
        self.notify()

    def notify(self) -> None:
        """Wake the jobs that wait for more rows."""
        more, self.more_rows = self.more_rows, Promise()
        more.set()

    def so_far(self) -> list[Segment]:
        """Return segments with the rows that are there, in order, possibly with gaps."""
        if self.rows is not None:
            return self.rows()
        return [segment for number in sorted(self.landed) for segment in self.landed[number]]

    def first(self) -> list[Segment]:
        """Return the segments that the result begins with, as far as they are there without a gap."""
        found: list[Segment] = []
        for number in itertools.count():
            if number not in self.landed:
                return found
            found += self.landed[number]
        return found

    def info(self) -> JsonObject:
        """Return what a handle knows of it."""
        finished = self.promise.done()
        return {
            **({"unread": self.unread} if self.unread else {}),
            "kind": "result",
            "unit": "row",
            "schema": self.columns,
            "shards": len(self.segments) if finished else None,
            "nbytes": sum(segment.nbytes for segment in self.segments) if finished else None,
            "records": sum(segment.rows - (0 if self.own_errors else segment.failed) for segment in self.segments)
            if finished
            else self.expected,
        }

    def reply(self) -> Context:
        """Return what root code gets: a handle's plan and info."""
        return {"plan": Plan((Result(self.id),)).to_json(), "info": self.info()}


class Results:
    """The results that one process knows, and those it finds in the run directory.

    Parameters
    ----------
    run_dir : str
    call : str
        Id of the call that makes them: names are unique in the whole tree.
    replay : bool
        What was finished counts as finished also with failed rows.
    """

    def __init__(self, run_dir: str, call: str, replay: bool = False) -> None:
        self._replay = replay
        self._run_dir = run_dir
        self._call = call
        self._states: dict[str, ResultState] = {}

    def new(self, name: str, columns: dict[str, str], expected: int | None = None) -> ResultState:
        """Begin a result. `name` is the request's: the same request of the same cell makes the same result."""
        state = ResultState(self.id(name), columns, expected)
        self._states[state.id] = state
        return state

    def id(self, name: str) -> str:
        """Return a name that no other result of the run has."""
        return f"{self._call}-{name}"

    def finished(self, name: str) -> ResultState | None:
        """Return the result of a request that an earlier session finished without a failed row, or None."""
        try:
            state = self.get(self.id(name))
        except InputError:
            return None
        whole = self._replay or not any(segment.failed for segment in state.segments)
        return state if state.promise.done() and whole else None

    def folder(self, result: str) -> str:
        """Return the folder of a result's segments."""
        return storage.join(self._run_dir, "segments", result)

    def finish(self, state: ResultState, error: Exception | None = None) -> None:
        """Say that all rows are there; write it down, so that others find it."""
        if error is None:
            state.segments.sort(key=lambda segment: segment.uri)
            record: JsonObject = {"columns": state.columns, "segments": [segment.to_json() for segment in state.segments]}
            record |= {"given": state.given} if state.given else {}
            record |= {"written": state.written, "hidden": state.hidden} if state.written else {}
            record |= {"failure": state.failure.to_json()} if state.failure is not None else {}
            record |= {"key": state.key, "retried": state.retried} if state.key else {}
            record |= {"agreement": state.agreement} if state.agreement is not None else {}
            record |= {"plan": state.plan, "off": state.off} if state.plan is not None else {}
            record |= {"own_errors": True} if state.own_errors else {}
            record |= {"unread": state.unread} if state.unread else {}
            try:
                storage.write_bytes(storage.join(self.folder(state.id), "result.json"), json.dumps(record).encode())
            except StorageError as failed:  # the jobs that wait for the result get the error
                failed.ends_run = True
                error = failed
        state.promise.set(state, error)
        state.notify()

    def get(self, result: str) -> ResultState:
        """Return a result by name.

        Raises
        ------
        InputError
            No result of this run has the name.
        """
        if result not in self._states:
            Result(result)  # refuses what is no id: it becomes a part of a path
            data = storage.find_bytes(storage.join(self.folder(result), "result.json"))
            if data is None:
                raise InputError(f"There is no result {result!r} in this run. Use the Corpus that the batch returned.")
            record = json.loads(data)
            state = ResultState(result, record["columns"], segments=[Segment.from_json(item) for item in record["segments"]])
            state.given = tuple(record.get("given", ()))
            state.written, state.hidden = tuple(record.get("written", ())), tuple(record.get("hidden", ()))
            state.failure = FailedVerb(**record["failure"]) if record.get("failure") else None
            state.key, state.retried = record.get("key", ""), record.get("retried", "")
            state.agreement = record.get("agreement")
            state.own_errors = record.get("own_errors", False)
            state.unread = record.get("unread", [])
            state.promise.set(state)
            self._states[result] = state
        return self._states[result]

    def written(self, plan: Plan) -> tuple[str, ...]:
        """Return the columns of a plan's origin that models wrote."""
        return self.get(plan.origin.id).written if isinstance(plan.origin, Result) else ()

    def manifest(self, state: ResultState) -> Manifest:
        """Return the shards of a finished result."""
        if state.manifest is None:
            state.manifest = _manifest(state, state.segments)
        return state.manifest

    def beginning(self, state: ResultState) -> Manifest:
        """Return the shards that a result begins with, as far as they are there."""
        return _manifest(state, state.first())

    def mirrors(self, uris: set[str]) -> Mirrors:
        """Return the objects of the cluster that hold these segments."""
        return {
            segment.uri: segment.mirror
            for state in self._states.values()
            for segment in (*state.segments, *(item for landed in state.landed.values() for item in landed))
            if segment.mirror is not None and segment.uri in uris
        }

    def unfinished(self) -> list[ResultState]:
        """Return the results that are still being worked on."""
        return [state for state in self._states.values() if not state.promise.done()]


def _manifest(state: ResultState, segments: Sequence[Segment]) -> Manifest:
    columns: dict[str, str] = {}
    for segment in segments:
        for name, kind in segment.columns.items():
            columns[name] = unite(columns[name], kind) if name in columns else kind
    if not columns:
        columns = state.columns | {"_address": "string", "_error": "string"}
    return manifest_of_segments(state.id, [segment.to_json() for segment in segments], columns)
