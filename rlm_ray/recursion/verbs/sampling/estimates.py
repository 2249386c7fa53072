"""`estimate`, as a job: what a model's readings of a random sample say of all records.

Labels are used in the order drawn, never in the order of arrival: slow answers may differ from quick ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rlm_ray.errors import BudgetExceeded, InputError, SubcallFailed
from rlm_ray.handle.plan import MAX_PLACES, Plan, Result, Select
from rlm_ray.recursion.jobs.scheduler import Job, Until
from rlm_ray.recursion.ports import RequestKey
from rlm_ray.recursion.verbs.batches import Batches
from rlm_ray.recursion.verbs.context import CallContext
from rlm_ray.recursion.verbs.sampling.samples import Samples, drawn
from rlm_ray.recursion.verbs.scans import Scans
from rlm_ray.subcalls.schema import AnswerSchema
from rlm_ray.sure.estimate import MAX_LABELS, Ended, Reading, Wanted, estimated, narrow_enough, sentence
from rlm_ray.types.json import JsonSchema
from rlm_ray.types.sampled import GroupShares, Label, SampledEstimate

#: Readings where no number of calls is given.
READINGS = 1_000
#: Readings of the first look, where the sample may end early; each look has half as many more.
FIRST_LOOK = 100
MAX_GROUPS = 200


@dataclass(frozen=True, slots=True)
class EstimateRequest:
    """What `estimate` is asked.

    Attributes
    ----------
    within : float, optional
        Half width of every interval at which the sample may end.
    calls : int, optional
        Model calls that it may take.
    by : str, optional
        Column whose values are populations of their own.
    bounds : tuple of (float or None), optional
        Least and largest number that one record can have.
    """

    question: str
    schema: JsonSchema
    model: str | None
    within: float | None
    delta: float
    calls: int | None
    by: str | None
    bounds: tuple[float, float | None]
    seed: int


class Estimates:
    """The verb."""

    def __init__(self, context: CallContext, scans: Scans, samples: Samples, batches: Batches) -> None:
        self._context = context
        self._samples = samples
        self._settings = context.call.settings
        self._scans = scans
        self._batches = batches

    def estimate(self, plan: Plan, asked: EstimateRequest, request: RequestKey) -> Job:
        """Return what a random sample of readings says of all records: a `SampledEstimate`."""
        column, labels = _answer(asked)
        total = yield from self._scans.count(plan)
        sizes = yield from self._sizes(plan, asked.by, total)
        pack = self._settings.records_per_call
        planned = min(total, READINGS if asked.calls is None else asked.calls * pack)
        delta = asked.delta / max(1, len(sizes))
        bounds = None if labels else (asked.bounds[0], float(asked.bounds[1] or 0))
        readings: list[Reading] = []
        ended: Ended = "all read" if planned >= total else "calls"
        while len(readings) < planned:
            size = _look(len(readings), planned, pack) if asked.within is not None else min(MAX_PLACES, planned - len(readings))
            try:
                some, whole = yield from self._read(plan, asked, column, len(readings), size, request)
            except BudgetExceeded:
                if not readings:
                    raise
                ended = "budget"
                break
            readings += some
            if not whole:
                ended = "budget"
                break
            if asked.within is not None and len(readings) < planned:
                now = estimated(readings, total, Wanted(labels, bounds, asked.delta, planned), ended=False)
                if narrow_enough(now, asked.within):
                    ended = "within"
                    break
        last = ended in ("calls", "all read")
        found = estimated(readings, total, Wanted(labels, bounds, asked.delta, planned), ended=last)
        groups: list[GroupShares] = []
        for value, size in sizes:
            own = [reading for reading in readings if reading.group == value]
            groups.append(estimated(own, size, Wanted(labels, bounds, delta, max(1, len(own))), ended=last, group=value))
        reply: SampledEstimate = {
            **found,
            "question": asked.question,
            "column": column,
            "delta": asked.delta,
            "within": asked.within,
            "seed": asked.seed,
            "ended": ended,
            "groups": groups,
            "sentence": sentence(found, asked.delta, ended),
        }
        return reply

    def _sizes(self, plan: Plan, by: str | None, total: int) -> Job:
        """Return the groups with their numbers of records."""
        if by is None:
            return []
        counted = yield from self._scans.count_by(plan, by, MAX_GROUPS + 1)
        if counted["distinct"] > MAX_GROUPS:
            raise InputError(
                f"{by!r} has {counted['distinct']:,} values: more than {MAX_GROUPS} groups share so few readings that each says "
                "nothing. Narrow the corpus, or estimate by another column."
            )
        return [(value, count) for value, count in counted["counts"]]

    def _read(self, plan: Plan, asked: EstimateRequest, column: str, start: int, size: int, request: RequestKey) -> Job:
        """Draw some records and have them read; return their readings in the order drawn, and whether all were asked."""
        places, addresses = yield from self._samples.places(plan, start, start + size, asked.seed)
        if not places:
            raise InputError("No record of the sample can be read. Look at the failed shards.")
        key = RequestKey(f"{request.name}-{start}", request.resumed)
        sample = drawn(plan, places)
        handle = yield from self._batches.each(asked.question, sample, asked.schema, asked.model, 1, key, keep=True, again=False)
        origin = Plan.from_json(handle["plan"]).origin
        assert isinstance(origin, Result)
        state = self._context.results.get(origin.id)
        yield Until((state.promise,))
        state.promise.result()
        columns = (column,) if asked.by is None else (column, asked.by)
        answers = yield from self._samples.answers(Plan((origin, Select(columns))))
        if not answers and state.failure is not None:
            raise SubcallFailed(state.failure.line())
        readings = []
        for address in addresses:
            row = rows.pop(0) if (rows := answers.get(address)) else None
            readings.append(
                Reading(None, failed=True) if row is None else Reading(row[column], group=row.get(asked.by) if asked.by else None)
            )
        return readings, not state.unasked


def _look(read: int, planned: int, pack: int) -> int:
    """Return how many more readings a sample that may end early takes."""
    first = max(FIRST_LOOK, 2 * pack)
    return min(planned - read, MAX_PLACES, first if not read else math.ceil(read / 2))


def _answer(asked: EstimateRequest) -> tuple[str, Sequence[Label]]:
    """Return the column that is estimated, and its labels (none where it is a number)."""
    schema = AnswerSchema.of(asked.schema)
    if not schema.typed or schema.single is None:
        raise InputError('An estimate is of one column. Give a schema with one, as {"refused": ["yes", "no"]}.')
    if not (0 < asked.delta < 1) or (asked.within is not None and asked.within <= 0):
        raise InputError(f"delta = {asked.delta!r}, within = {asked.within!r}: give a delta between 0 and 1 and a width above 0.")
    column, kind = schema.single, schema.columns[schema.single]
    if labels := schema.labels(column):
        if len(labels) > MAX_LABELS:
            raise InputError(f"{len(labels):,} labels are more than a sample can tell apart ({MAX_LABELS}). Give fewer.")
        return column, labels
    if kind == "bool":
        return column, (True, False)
    if kind not in ("double", "int64"):
        raise InputError(f'An estimate is of labels, of true or false, or of a number; "{column}" is {kind}. Give labels.')
    if asked.bounds[1] is None or not asked.bounds[0] < asked.bounds[1]:
        raise InputError(
            f'"{column}" is a number: give max=, the largest amount that one record can have (and min=, 0 if not given). Without '
            "it no limit of a sum holds, since one record that was not read could hold any amount."
        )
    return column, ()
