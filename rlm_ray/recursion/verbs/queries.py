"""`sql`: root code's SQL over the shards, as a job. The text is opaque here; it is read only inside a sandbox."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import InputError
from rlm_ray.handle.plan import Plan
from rlm_ray.recursion.jobs.results import ResultState
from rlm_ray.recursion.jobs.scheduler import Job, Until
from rlm_ray.recursion.ports import CodeOutcome, QueryGroup, RequestKey
from rlm_ray.recursion.verbs.context import CallContext
from rlm_ray.recursion.verbs.functions import shown_columns
from rlm_ray.recursion.verbs.scans import Scans

#: Bytes for one task at most, of all columns, of which a query reads few.
GROUP_BYTES = 256 << 20
_OURS = ("_address", "_error")


class Queries:
    """The SQL verb of one call."""

    def __init__(self, context: CallContext, scans: Scans) -> None:
        self._ports = context.ports
        self._scans = scans
        self._results = context.results
        self._run_id = context.call.run_id
        self._settings = context.call.settings
        self._failures = context.failures
        self.events: dict[str, int] = {}

    def sql(self, plan: Plan, query: str, combine: str | None, request: RequestKey) -> Job:
        """Return a handle over the rows that the query gave over each piece, or that `combine` made of them."""
        works = yield from self._scans.works(plan)
        manifest = yield from self._scans.manifest(plan)
        schema = bind(plan.steps, manifest.schema).columns
        columns, given, decimals = yield from self._bound(query, schema)
        name = request.name if combine is None else f"{request.name}-parts"
        groups: Sequence[Sequence[Work]] = self._scans.groups(works, GROUP_BYTES) or [()]
        written = self._results.written(plan)
        state = yield from self._run(
            query, groups, schema, columns, name, given, "shards" if combine is None else "pooled", decimals, written
        )
        self._scans.recorder.looked(works)
        if combine is None:
            return state.reply()
        parts = self._results.manifest(state)
        kinds = {column: parts.schema.get(column, "string") for column in (*given, *_OURS)}
        columns, given, decimals = yield from self._bound(combine, kinds)
        everything = bind((), kinds)
        whole = [Work(shard, everything) for shard in parts.shards]
        state = yield from self._run(combine, [whole], kinds, columns, request.name, given, "whole", decimals, written)
        return state.reply()

    def _bound(self, query: str, schema: dict[str, str]) -> Job:
        """Return the columns that a query reads, those that it gives, and the types of decimals among these."""
        (outcome,) = yield from self._outcomes([QueryGroup(query, (), schema, None, "whole", "", 0, self._settings, self._run_id)])
        read, given, decimals = outcome.values
        for name in given:
            if name.startswith("_") and name not in (*schema, *_OURS):
                raise InputError(f"The column name {name!r} begins with _; such names are ours. Give it another (… as other).")
        flat = [name for name in schema if name != "_address"][:1]
        return ((*schema, "_address") if read is None else read or tuple(flat)), given, decimals

    def _run(
        self,
        query: str,
        groups: Sequence[Sequence[Work]],
        schema: dict[str, str],
        columns: tuple[str, ...],
        name: str,
        given: tuple[str, ...],
        pieces: Literal["shards", "pooled", "whole"],
        decimals: dict[str, str],
        written: tuple[str, ...],
    ) -> Job:
        state: ResultState = self._results.new(name, {})
        state.own_errors = True
        state.written = written if "_address" in given else ()  # what a model wrote of a record; a group's label is its data
        outcomes = yield from self._outcomes(
            [
                QueryGroup(
                    query,
                    tuple(group),
                    schema,
                    columns,
                    pieces,
                    self._results.folder(state.id),
                    number,
                    self._settings,
                    self._run_id,
                    self._results.mirrors({work.shard.uri for work in group}),
                    decimals,
                )
                for number, group in enumerate(groups)
            ]
        )
        state.segments = [segment for outcome in outcomes for segment in outcome.segments]
        self._results.finish(state)
        found = shown_columns(self._results.manifest(state).schema) if state.segments else {}
        state.columns = {column: found.get(column, "string") for column in given if column not in _OURS}
        return state

    def _outcomes(self, groups: Sequence[QueryGroup]) -> Job:
        futures = [self._ports.query(group) for group in groups]
        with self._scans.tally.scanning([(future, group.works) for future, group in zip(futures, groups, strict=True)]):
            yield Until(tuple(futures))
        outcomes: list[CodeOutcome] = [future.result() for future in futures]
        for outcome in outcomes:
            self._failures.add(outcome.failures)
            for event, number in outcome.events.items():
                self.events[event] = self.events.get(event, 0) + number
        return outcomes
