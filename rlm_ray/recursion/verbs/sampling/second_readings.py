"""Judgements read again, in other words, by a reader that does not know the first answer: how many of them change.

Each label of a large batch has some of its records read again. The share that changes is a floor of the error; it corrects
nothing, and errors that repeat do not show in it.
"""

from __future__ import annotations

from collections.abc import Callable

from rlm_ray.errors import BudgetExceeded
from rlm_ray.handle.plan import Plan, Result, Select, Where
from rlm_ray.recursion.jobs.results import ResultState
from rlm_ray.recursion.jobs.scheduler import Job, Until
from rlm_ray.recursion.ports import RequestKey
from rlm_ray.recursion.verbs.context import CallContext
from rlm_ray.recursion.verbs.sampling.samples import Samples, drawn
from rlm_ray.recursion.verbs.scans import Scans
from rlm_ray.subcalls.schema import AnswerSchema
from rlm_ray.sure.agreement import Agreement, Reread, agreement
from rlm_ray.types.json import JsonSchema

#: Rows of a batch from which on some are read again.
LEAST_ROWS = 200
#: Labels of a closed set that are told apart.
MAX_LABELS = 20
DELTA = 0.05

#: Asks a question about each record of a plan: prompt, plan, columns, key of the request; returns a handle.
Ask = Callable[[str, Plan, JsonSchema, RequestKey], Job]


class SecondReadings:
    """Reads some rows of a finished batch again."""

    def __init__(self, context: CallContext, scans: Scans, samples: Samples) -> None:
        self._results = context.results
        self._scans = scans
        self._samples = samples
        self._most = context.call.settings.second_readings

    def read(self, state: ResultState, rows: int, prompt: str, schema: JsonSchema | None, request: RequestKey, ask: Ask) -> Job:
        """Return how far a second reading agrees with a result whose rows are all there, or None where none is made."""
        column = judged_column(schema)
        if not self._most or column is None or schema is None or rows < LEAST_ROWS:
            return None
        # the rows as a result of their own: the one that is filled is given out when this has ended
        first = self._results.new(f"{request.name}-first", state.columns)
        first.segments, first.given, first.written = state.segments, state.given, state.written
        self._results.finish(first)
        origin = Result(first.id)
        counted = yield from self._scans.count_by(Plan((origin,)), column, MAX_LABELS)
        sizes = {label: size for label, size in counted["counts"] if label is not None}
        each = max(1, self._most // max(1, len(sizes)))
        places = []
        for label in sizes:
            some, _ = yield from self._samples.places(Plan((origin, Where(((column, "==", label),)))), 0, each, 0)
            places += some
        given = tuple(name for name in state.columns if name not in AnswerSchema.of(schema).columns)
        if not places or not given:
            return None
        before = yield from self._samples.answers(drawn(Plan((origin,)), places, (column,)))
        key = RequestKey(f"{request.name}-again", request.resumed)
        try:
            handle = yield from ask(in_other_words(prompt), drawn(Plan((origin,)), places, given), schema, key)
        except BudgetExceeded:
            return None
        again = Plan.from_json(handle["plan"])
        assert isinstance(again.origin, Result)
        second = self._results.get(again.origin.id)
        yield Until((second.promise,))
        second.promise.result()
        after = yield from self._samples.answers(again.then(Select((column,))))
        return _compared(before, after, column, sizes)


def in_other_words(prompt: str) -> str:
    """Return the question of a second reading: it does not show the first answer."""
    return (
        "Judge each record anew and from its own words alone; where two answers seem possible, take the one that the words "
        f"support, and not the one that is usual. This is what is asked:\n{prompt}"
    )


def judged_column(schema: JsonSchema | None) -> str | None:
    """Return the first column of a schema that is a closed set of labels, or true and false; None where there is none.

    Examples
    --------
    >>> judged_column({"why": "string", "bad": ["yes", "no"]}), judged_column({"amount": "number"})
    ('bad', None)
    """
    if schema is None:
        return None
    known = AnswerSchema.of(schema)
    return next((name for name, kind in known.columns.items() if known.labels(name) or kind == "bool"), None)


def _compared(
    before: dict[str, list[dict[str, object]]], after: dict[str, list[dict[str, object]]], column: str, sizes: dict[object, int]
) -> Agreement:
    read: dict[object, list[bool]] = {label: [] for label in sizes}
    for address, rows in before.items():
        for first, second in zip(rows, after.get(address, []), strict=False):
            read.setdefault(first[column], []).append(first[column] != second[column])
    return agreement([Reread(str(label), sizes.get(label, len(some)), len(some), sum(some)) for label, some in read.items()], DELTA)
