"""Checks the answers that root code sets, and turns them into values of an outcome."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from rlm_ray.errors import RlmRayError
from rlm_ray.handle.plan import Plan, Result
from rlm_ray.recursion.jobs.results import Results
from rlm_ray.recursion.jobs.scheduler import Scheduler
from rlm_ray.recursion.verbs.scans import Scans
from rlm_ray.sandbox.outside.events import CellDone, Final
from rlm_ray.types.json import JsonSchema
from rlm_ray.types.run import Context

#: Rows of a table that a recursive call hands to the one above, and that are checked against a schema.
MAX_ROWS = 10_000


class FinalAnswer(TypedDict):
    """An answer as JSON.

    Attributes
    ----------
    kind : {"json", "corpus"}
    value : Any
        JSON value; of a table its `Context`.
    """

    kind: Literal["json", "corpus"]
    value: Any


#: An answer, or None and the problem with it.
Checked = tuple[FinalAnswer | None, str | None]


class Finals:
    """Checks answers of one call.

    Parameters
    ----------
    schema : dict, optional
        JSON Schema that the answer must fit.
    handed_up : bool
        The answer goes to the call above, as plain values: a table is a list of dicts, of at most `MAX_ROWS`.
    """

    def __init__(
        self, scheduler: Scheduler, scans: Scans, results: Results, schema: JsonSchema | None, handed_up: bool = False
    ) -> None:
        self._handed_up = handed_up
        self._scheduler = scheduler
        self._scans = scans
        self._results = results
        self._schema = schema

    def of_cell(self, done: CellDone) -> Checked:
        """Return the answer that a cell set, checked; (None, None) if it set none."""
        return (None, done.final_problem) if done.final is None else self.check(done.final)

    def check(self, final: Final) -> Checked:
        """Return the answer, or the reason why it is none."""
        if final.kind == "corpus":
            return self._table(final.value)
        if self._schema is not None and (problem := misfit(final.value, self._schema)):
            return None, problem
        return {"kind": "json", "value": final.value}, None

    def _table(self, value: Any) -> Checked:
        try:
            plan = Plan.from_json(value)
            manifest = self._scheduler.run(self._scans.manifest(plan))
            count = self._scheduler.run(self._scans.count(plan)) if self._schema is not None or self._handed_up else 0
            if self._handed_up and count > MAX_ROWS:
                return None, (
                    f"The answer goes to the call above as a list; a table of {count:,} rows is longer than {MAX_ROWS:,}. "
                    "Narrow it, or aggregate."
                )
            if self._schema is not None:
                if count > MAX_ROWS:
                    return (
                        None,
                        f"The answer must fit a JSON Schema; a table of {count:,} rows is too long to check. Set a JSON value.",
                    )
                rows = self._scheduler.run(self._scans.head(plan, count))
                value = [{key: item for key, item in row.items() if not key.startswith("_")} for row in rows]
                problem = misfit(value, self._schema)
                return (None, problem) if problem else ({"kind": "json", "value": value}, None)
        except RlmRayError as error:
            return None, f"The Corpus cannot be read: {error}"
        info = manifest.info()
        if isinstance(plan.origin, Result):
            info |= {"kind": "result"}
        return {"kind": "corpus", "value": {"plan": plan.to_json(), "info": info}}, None

    def plain(self, table: Context) -> tuple[str, Any]:
        """Return a table as a list of dicts, for the call above; `check` has seen that it is not too long."""
        rows = self._scheduler.run(self._scans.head(Plan.from_json(table["plan"]), MAX_ROWS))
        return "json", [{name: value for name, value in row.items() if name != "_error"} for row in rows]

    @staticmethod
    def outcome(final: FinalAnswer | None) -> tuple[str, Any]:
        """Return the kind and value of an outcome: ("none", None) without an answer."""
        if final is None:
            return "none", None
        return final["kind"], final["value"]


def misfit(value: Any, schema: JsonSchema) -> str | None:
    """Return how a value does not fit a JSON Schema, in words for a model, or None."""
    import jsonschema

    validator = jsonschema.validators.validator_for(schema)(schema)
    error = next(iter(sorted(validator.iter_errors(value), key=lambda item: list(map(str, item.path)))), None)
    if error is None:
        return None
    where = ".".join(map(str, error.path)) or "the value"
    return f"it does not fit the answer's JSON Schema: {where}: {error.message[:300]}"
