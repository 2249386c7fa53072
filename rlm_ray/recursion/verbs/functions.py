"""`map`, `filter` and `aggregate`: root code's functions over the shards, as jobs.

The function is opaque bytes here; it is loaded only inside a sandbox, on the worker that reads the shard.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from rlm_ray.corpus.planning import grouping
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import FunctionFailed, InputError
from rlm_ray.handle.plan import Keep, Plan
from rlm_ray.recursion.failed_verbs import MAX_ERROR, MAX_WHAT, FailedVerb
from rlm_ray.recursion.jobs.scheduler import Job, Until
from rlm_ray.recursion.ports import CodeGroup, CodeOutcome, RequestKey
from rlm_ray.recursion.verbs.context import CallContext
from rlm_ray.recursion.verbs.scans import Scans, retried, target
from rlm_ray.types.json import JsonObject

#: Bytes for one task: a Python function reads some 20 MB a second.
GROUP_BYTES = 32 << 20
MAX_BLOB = 64 << 20


class FunctionReply(TypedDict):
    """The part of a reply that says what failed: see `FailedVerb`."""

    failure: JsonObject | None
    key: str
    retried: str


class Functions:
    """The function verbs of one call."""

    def __init__(self, context: CallContext, scans: Scans) -> None:
        self._ports = context.ports
        self._scans = scans
        self._results = context.results
        self._run_dir = context.call.run_dir
        self._run_id = context.call.run_id
        self._settings = context.call.settings
        self._failures = context.failures
        self.events: dict[str, int] = {}

    def map(self, plan: Plan, blob: bytes, request: RequestKey, name: str = "", keep: bool = False) -> Job:
        """Return a handle over the rows that the function returned for each record."""
        works = yield from self._scans.works(plan)
        state = self._results.new(request.name, {})
        state.written = self._results.written(plan)  # as far as the function kept them
        outcomes = yield from self._run("map", works, blob, self._results.folder(state.id), keep=keep)
        failure = self._judged("map", name, plan, outcomes, keep, state.id)
        state.failure, state.key, state.retried = failure, target("map", [plan]), retried(plan)
        state.segments = [segment for outcome in outcomes for segment in outcome.segments]
        state.unread = _unread(works, outcomes)
        self._results.finish(state)
        state.columns = shown_columns(self._results.manifest(state).schema if state.segments else {})
        return {**state.reply(), **_reply(failure, state.key, state.retried)}

    def filter(self, plan: Plan, blob: bytes, request: RequestKey, name: str = "", keep: bool = False) -> Job:
        """Return the plan with a selection of the places that the function kept."""
        works = yield from self._scans.works(plan)
        selection = self._results.id(request.name)
        rows = self._results.new(f"{request.name}-failed", {})
        folder = self._results.folder(rows.id)
        outcomes = yield from self._run("filter", works, blob, selection, keep=keep, errors=folder)
        failure = self._judged("filter", name, plan, outcomes, keep, rows.id)
        rows.segments = [segment for outcome in outcomes for segment in outcome.segments]
        self._results.finish(rows)
        self._scans.selections.add(selection)
        kept: dict[int, int] = {}
        for outcome in outcomes:
            kept.update(outcome.kept)
        narrowed = plan.then(Keep(selection))
        manifest = yield from self._scans.manifest(plan)
        shares = sum(work.shard.nbytes for work in works if kept.get(work.shard.index))
        info = manifest.info() | {"schema": shown_columns(manifest.schema), "nbytes": shares, "records": None, "estimate": None}
        if plan.origin.kind == "result":
            info |= {"kind": "result", "unit": "row"}
        failed = _reply(failure, target("filter", [plan]), retried(plan))
        return {"plan": narrowed.to_json(), "info": info | {"failed_rows": rows.reply()}} | failed

    def aggregate(self, plan: Plan, blob: bytes, combine: bytes, name: str = "", keep: bool = False) -> Job:
        """Return the fold of the function over all batches of records."""
        works = yield from self._scans.works(plan)
        outcomes = yield from self._run("aggregate", works, blob, "", combine, keep=keep)
        failure = self._judged("aggregate", name, plan, outcomes, keep, "")
        value = yield from self._folded(outcomes, combine)
        return {"value": value} | _reply(failure, target("aggregate", [plan]), retried(plan))

    def _folded(self, outcomes: Sequence[CodeOutcome], combine: bytes) -> Job:
        values = [value for outcome in outcomes for value in outcome.values]
        if not values:
            return None
        if len(values) == 1:
            return values[0]
        future = self._ports.code(
            CodeGroup("combine", (), combine, "", 0, self._run_dir, self._settings, self._run_id, values=tuple(values))
        )
        yield Until((future,))
        outcome: CodeOutcome = future.result()
        self._count(outcome.events)
        return outcome.values[0]

    def _judged(
        self, kind: str, name: str, plan: Plan, outcomes: Sequence[CodeOutcome], keep: bool, result: str
    ) -> FailedVerb | None:
        """Return how a function failed; raise where that is too much of what it was given."""
        failed, tried = sum(outcome.failed for outcome in outcomes), sum(outcome.tried for outcome in outcomes)
        if not failed:
            return None
        first = next(outcome for outcome in outcomes if outcome.failed)
        stopped = any(outcome.stopped for outcome in outcomes)
        refused = not keep and (
            kind == "aggregate" or stopped or failed == tried or failed > tried * self._settings.max_failed_share
        )
        failure = FailedVerb(
            kind,
            name[:MAX_WHAT],
            failed,
            tried,
            first.error[:MAX_ERROR],
            first.address,
            rows=kind != "aggregate" and not refused,
            raised=refused,
            stopped=stopped,
            key=target(kind, [plan]),
            result=result,
        )
        if refused:
            raise FunctionFailed(
                f"{failure.line()}. Nothing of it was kept. Mend the function, or give on_error='keep' to go on without these "
                "records."
            )
        return failure

    def _run(
        self,
        kind: str,
        works: Sequence[Work],
        blob: bytes,
        output: str,
        combine: bytes = b"",
        keep: bool = False,
        errors: str = "",
    ) -> Job:
        if not blob or len(blob) > MAX_BLOB:
            raise InputError(
                f"A function of {len(blob):,} bytes cannot be sent to the shards. Keep data out of it; use a small closure."
            )
        futures, groups = [], list(grouping.group(works, GROUP_BYTES))
        for number, group in enumerate(groups):
            tables = self._results.mirrors({work.shard.uri for work in group})
            group_ = CodeGroup(
                kind,
                tuple(group),
                blob,
                output,
                number,
                self._run_dir,
                self._settings,
                self._run_id,
                combine=combine,
                tables=tables,
                keep=keep,
                errors=errors,
            )
            futures.append(self._ports.code(group_))
        if futures:
            with self._scans.tally.scanning(list(zip(futures, groups, strict=True))):
                # the first groups show whether the function works at all; if it does not, the others are not started
                first = futures[: 2 * self._ports.capacity()]
                yield Until(tuple(first))
                if any(future.result().stopped for future in first):
                    for future in futures[len(first) :]:
                        future.cancel()
                    futures = first
                yield Until(tuple(futures))
        outcomes: list[CodeOutcome] = [future.result() for future in futures]
        for outcome in outcomes:
            self._failures.add(outcome.failures)
            self._count(outcome.events)
        self._scans.recorder.looked(works)
        return outcomes

    def _count(self, events: dict[str, int]) -> None:
        for name, number in events.items():
            self.events[name] = self.events.get(name, 0) + number


#: Objects that could not be read, of which a result's handle says why.
_MOST_UNREAD = 1_000


def _unread(works: Sequence[Work], outcomes: Sequence[CodeOutcome]) -> list[JsonObject]:
    """Return the objects that could not be read, each with its reason and the address of all of it."""
    shards = {work.shard.index: work.shard for work in works}
    found: list[JsonObject] = []
    for failure in [failure for outcome in outcomes for failure in outcome.failures][:_MOST_UNREAD]:
        shard = shards.get(failure.shard) if failure.shard is not None else None
        version, size = (shard.version, shard.size) if shard is not None else ("", 0)
        address = f"{failure.object}@{version}#bytes=0-{size}"
        found.append({"object": failure.object, "reason": failure.reason, "address": address})
    return found


def _reply(failure: FailedVerb | None, key: str, retried: str) -> FunctionReply:
    return {"failure": failure.to_json() if failure is not None else None, "key": key, "retried": retried}


def shown_columns(schema: dict[str, str]) -> dict[str, str]:
    """Return the columns that root code sees: without those that begin with `_`."""
    return {name: kind for name, kind in schema.items() if not name.startswith("_")}
