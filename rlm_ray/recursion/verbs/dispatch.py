"""Checks each request of root code, and turns it into a job.

The other side of the channel is untrusted: every argument is checked for its type and bounds here, handles name only
corpora and results of this run, models only those of the run's list. A request that does not work is an error that
root code can act on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from rlm_ray.corpus.planning.expressions import check_pattern
from rlm_ray.errors import InputError, RlmRayError
from rlm_ray.handle.parts import parts_from_json
from rlm_ray.handle.plan import Plan, Result
from rlm_ray.ledger.calllog import STARTED, CallLog
from rlm_ray.recursion.cell_reports import ReplayedError, error_reply
from rlm_ray.recursion.failed_verbs import MAX_WHAT, CellFailures, FailedVerb
from rlm_ray.recursion.jobs.scheduler import Job, immediate
from rlm_ray.recursion.loop import feedback
from rlm_ray.recursion.ports import RequestKey
from rlm_ray.recursion.verbs.batches import Batches
from rlm_ray.recursion.verbs.citing import Citing
from rlm_ray.recursion.verbs.context import CallContext
from rlm_ray.recursion.verbs.functions import Functions
from rlm_ray.recursion.verbs.queries import Queries
from rlm_ray.recursion.verbs.recursive_calls import RecursiveCalls
from rlm_ray.recursion.verbs.sampling.estimates import EstimateRequest, Estimates
from rlm_ray.recursion.verbs.sampling.samples import Samples
from rlm_ray.recursion.verbs.scans import Scans
from rlm_ray.sandbox.outside.events import Final
from rlm_ray.subcalls.votes import Votes
from rlm_ray.types.json import JsonObject
from rlm_ray.types.run import Context

MAX_PROMPT = 4 << 20
MAX_NAME = 1_000
#: Characters of a prompt that are written down with its name.
MAX_LOGGED = 4_000
MAX_PARTS = 1_000_000
#: Single calls of one cell from which on a note recommends a batch.
MANY_SINGLE_CALLS = 8


@dataclass(frozen=True, slots=True)
class Verb:
    """A row of `VERBS`.

    Attributes
    ----------
    answer : callable
        Checks the arguments and returns the job.
    on_rerun : {"replay", "repeat", "compute"}
        What happens when a cell runs again: the logged reply is given again; the sub-calls run again, answered by those that
        finished; or the reply, which is not logged, is computed again.
    answers : {"one", "many"}, optional
        Of sub-calls whose reply is values and not a result: one answer, or answers and errors by index.
    """

    answer: Callable[[Dispatcher, JsonObject, bytes, RequestKey], Job]
    on_rerun: Literal["replay", "repeat", "compute"] = "replay"
    answers: Literal["one", "many"] | None = None


class Dispatcher:
    """The verbs of one call, as jobs.

    Parameters
    ----------
    context : CallContext
    scans, functions, queries, batches, recursive_calls, samples, estimates
        The implementations of the verbs.
    log : CallLog, optional
        Gets the replies.
    """

    def __init__(
        self,
        context: CallContext,
        scans: Scans,
        functions: Functions,
        queries: Queries,
        batches: Batches,
        recursive_calls: RecursiveCalls,
        samples: Samples,
        estimates: Estimates,
        log: CallLog | None = None,
    ) -> None:
        self._scans = scans
        self._functions = functions
        self._queries = queries
        self._batches = batches
        self._recursive_calls = recursive_calls
        self._samples = samples
        self._estimates = estimates
        self._sure = context.sure
        self._results = context.results
        self._log = log
        self._replay = context.call.replay  # a verification repeats the failures of the first run, and tries nothing again
        self.citing = Citing(scans)
        self._found = context.failures.verbs
        self._failures = CellFailures()
        self._cell = "0"
        self._times: dict[str, int] = {}
        self._previous_replies: JsonObject = {}
        self._single_calls = 0  # of the cell

    def begin_cell(self, label: str, previous_replies: JsonObject | None = None) -> None:
        """Say which cell asks from now on; `previous_replies` are those of its earlier run."""
        self._cell, self._times, self._previous_replies, self._single_calls = label, {}, previous_replies or {}, 0
        self._failures = CellFailures()

    def end_cell(self, final: Final | None, error: str | None) -> list[str]:
        """Return the notes for the root model on the cell that ends: its failures, and that a batch is better than single calls."""
        if final is not None and final.kind == "corpus":
            self.look_at(final.value)
        notes = [*self._recursive_calls.take_notes(), *self._failures.lines(error)]
        if self._single_calls >= MANY_SINGLE_CALLS:
            notes.append(feedback.SINGLE_CALLS.format(count=self._single_calls))
        return notes

    def job(self, verb: str, args: JsonObject, blob: bytes) -> Job:
        """Return the job that answers a request.

        Raises
        ------
        InputError
            No such verb.
        """
        if verb not in VERBS:
            raise InputError(f"There is no verb {verb!r:.60}.")
        try:
            name = self._name(verb, args, blob)
        except RecursionError:
            raise _too_deep(verb) from None
        self._single_calls += verb == "llm_query"
        if VERBS[verb].on_rerun == "replay" and name in self._previous_replies:
            return self._watched(verb, args, _given(self._previous_replies[name]))
        job = VERBS[verb].answer(self, args, blob, RequestKey(name, f"{name}{STARTED}" in self._previous_replies))
        if self._replay and (failed := self._previous_replies.get(f"{name} failed")) is not None:
            return self._watched(verb, args, _as_before(verb, job, failed))
        return self._watched(verb, args, self._logged(verb, args, name, job))

    def _watched(self, verb: str, args: JsonObject, job: Job) -> Job:
        """Take note of what a request shows to have failed: the same in a replay, where its reply comes from the log."""
        failures = self._failures  # of the cell that asks
        try:
            value = yield from job
        except (RlmRayError, ReplayedError) as error:
            self._raised(verb, args, error, failures)
            raise
        if verb in ("map", "filter", "aggregate"):
            self._take(value["failure"], value["key"], value["retried"], failures)
        elif verb == "llm_each":
            self._not_shown(value, failures)
        elif VERBS[verb].answers is not None:
            self._answered(verb, args, value, failures)
            if verb == "estimate":
                self._sure.add({"key": _key(verb, args), "verb": verb, "what": _what(args), "sentence": value["sentence"]})
        elif verb != "page" or value["after"] is None:  # a result that is read in part only may be under way
            self.look_at(args.get("plan"), failures)
        return value

    def _not_shown(self, reply: Context, failures: CellFailures) -> None:
        """Say which columns the model was not shown, since a model wrote them."""
        origin = Plan.from_json(reply["plan"]).origin
        hidden = self._results.get(origin.id).hidden if isinstance(origin, Result) else ()
        if hidden:
            names = ", ".join(map(repr, hidden))
            failures.note(
                f"{names} not shown",
                f"llm_each did not show the model {names[:MAX_WHAT]}, which a model wrote; "
                "name in show=[…] what the question needs of it.",
            )

    def _raised(self, verb: str, args: JsonObject, error: Exception, failures: CellFailures) -> None:
        kind, message, _ = error_reply(error)
        if kind == "FunctionFailed":
            failures.raised(message)
        elif VERBS[verb].answers is not None and kind == "SubcallFailed":
            failures.single(verb, 1, 1, message)
            self._found.add(FailedVerb(verb, _what(args), 1, 1, message, rows=False, raised=True, key=_key(verb, args)))
        else:
            self.look_at(args.get("plan"), failures)

    def _answered(self, verb: str, args: JsonObject, value: Any, failures: CellFailures) -> None:
        """Take note of sub-calls that gave values."""
        many = VERBS[verb].answers == "many"
        errors = value["errors"] if many else {}
        asked, first = len(value["answers"]) if many else 1, str(next(iter(errors.values()), ""))
        failures.single(verb, asked, len(errors), first)
        if errors:
            self._found.add(FailedVerb(verb, _what(args), len(errors), asked, first, rows=False, key=_key(verb, args)))
        else:
            self._found.mended(_key(verb, args))

    def _take(self, failure: JsonObject | None, key: str, retried: str, failures: CellFailures) -> None:
        if failure is None:
            self._found.mended(key, retried)
            return
        failures.add(FailedVerb(**failure))
        self._found.add(FailedVerb(**failure))

    def look_at(self, plan: Any, failures: CellFailures | None = None) -> None:
        """Take note of what failed in the result that a plan is over, now that it is read."""
        with contextlib.suppress(InputError):
            origin = Plan.from_json(plan).origin if plan is not None else None
            if not isinstance(origin, Result):
                return
            state = self._results.get(origin.id)
            if state.promise.done() and state.agreement is not None:
                self._sure.add(state.agreement)
                (self._failures if failures is None else failures).note(state.id, state.agreement["sentence"])
            if state.promise.done() and state.key:
                failure = state.failure.to_json() if state.failure is not None else None
                self._take(failure, state.key, state.retried, self._failures if failures is None else failures)

    def _name(self, verb: str, args: JsonObject, blob: bytes) -> str:
        """Name a request by what it asks and how often this cell asked it before: the same when the cell runs again."""
        text = json.dumps([self._cell, verb, args], sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode("utf-8", "replace") + blob).hexdigest()[:16]
        self._times[digest] = times = self._times.get(digest, 0) + 1
        return f"{digest}-{times}" if times > 1 else digest

    def _logged(self, verb: str, args: JsonObject, name: str, job: Job) -> Job:
        if self._log is not None and VERBS[verb].on_rerun == "repeat":
            self._log.reply(self._cell, f"{name}{STARTED}", _log_entry(verb, args))
        cell, failed_before = self._cell, self._previous_replies.get(f"{name} failed") is not None
        try:
            value = yield from job
        except RecursionError:
            raise _too_deep(verb) from None
        except RlmRayError as error:
            if self._log is not None and not isinstance(error, InputError):  # which the arguments alone decide
                self._log.reply(cell, f"{name} failed", {"error": error_reply(error)})
            raise
        if self._log is not None:
            if VERBS[verb].on_rerun == "replay":
                self._log.reply(cell, name, value)
            errors = value.get("errors") if VERBS[verb].answers == "many" else None
            if errors or failed_before:
                self._log.reply(cell, f"{name} failed", {"errors": errors} if errors else None)
        return value

    # look, count, cut

    def _verb_count(self, args: JsonObject, blob: bytes, request: RequestKey) -> Job:
        return (yield from self._scans.count(_plan(args)))

    def _verb_head(self, args: JsonObject, blob: bytes, request: RequestKey) -> Job:
        return (yield from self._scans.head(_plan(args), _int(args, "n")))

    def _verb_record(self, args: JsonObject, blob: bytes, request: RequestKey) -> Job:
        return (yield from self._scans.record(_plan(args), _int(args, "index")))

    def _verb_page(self, args: JsonObject, blob: bytes, request: RequestKey) -> Job:
        after = args.get("after")
        if after is not None and not (isinstance(after, list) and len(after) == 3 and all(isinstance(item, int) for item in after)):
            raise InputError(f"after = {after!r:.80} is no place.")
        return (yield from self._scans.page(_plan(args), after, _int(args, "n")))

    def _verb_text(self, args: JsonObject, blob: bytes, request: RequestKey) -> Job:
        return (yield from self._scans.text(_plan(args), _int(args, "max_chars")))

    def _verb_sample(self, args: JsonObject, blob: bytes, request: RequestKey) -> Job:
        return (yield from self._scans.sample(_plan(args), _int(args, "n"), _int(args, "seed", least=-(1 << 62))))

    def _verb_count_by(self, args: JsonObject, blob: bytes, request: RequestKey) -> Job:
        return (yield from self._scans.count_by(_plan(args), _name(args, "column"), _int(args, "limit")))

    def _verb_draw(self, args: JsonObject, blob: bytes, request: RequestKey) -> Job:
        seed = _int(args, "seed", least=-(1 << 62))
        return (yield from self._samples.draw(_plan(args), _int(args, "n"), seed, _int(args, "skip")))

    def _verb_chunks(self, args: JsonObject, blob: bytes, request: RequestKey) -> Job:
        tokens = None if args.get("tokens") is None else _int(args, "tokens", least=1)
        return (yield from self._scans.chunks(_plan(args), tokens, _optional_name(args, "by"), _int(args, "overlap")))

    def _verb_reading(self, args: JsonObject, blob: bytes, request: RequestKey) -> Job:
        return (yield from self._scans.reading(_plan(args)))

    @immediate
    def _verb_check_pattern(self, args: JsonObject, blob: bytes, request: RequestKey) -> None:
        check_pattern(_str(args, "pattern"), bool(args.get("ignore_case")))

    # functions over shards

    def _verb_map(self, args: JsonObject, blob: bytes, request: RequestKey) -> Job:
        return (yield from self._functions.map(_plan(args), blob, request, _fn(args), _keep(args)))

    def _verb_filter(self, args: JsonObject, blob: bytes, request: RequestKey) -> Job:
        return (yield from self._functions.filter(_plan(args), blob, request, _fn(args), _keep(args)))

    def _verb_aggregate(self, args: JsonObject, blob: bytes, request: RequestKey) -> Job:
        cut = _int(args, "combine_at")
        return (yield from self._functions.aggregate(_plan(args), blob[:cut], blob[cut:], _fn(args), _keep(args)))

    def _verb_sql(self, args: JsonObject, blob: bytes, request: RequestKey) -> Job:
        return (yield from self._queries.sql(_plan(args), _str(args, "query"), _optional(args, "combine"), request))

    # sub-calls

    def _verb_llm_query(self, args: JsonObject, blob: bytes, request: RequestKey) -> Job:
        part = None if args.get("part") is None else parts_from_json([args["part"]])[0]
        return (yield from self._batches.query(_str(args, "prompt"), part, _optional_name(args, "model"), request))

    def _verb_llm_query_batched(self, args: JsonObject, blob: bytes, request: RequestKey) -> Job:
        return (yield from self._batches.prompts(_strings(args, "prompts"), _optional_name(args, "model"), request))

    def _verb_llm_map(self, args: JsonObject, blob: bytes, request: RequestKey) -> Job:
        parts = _parts(args)
        return (
            yield from self._batches.map(
                _str(args, "prompt"), parts, args.get("schema"), _optional_name(args, "model"), _votes(args), request, _keep(args)
            )
        )

    def _verb_llm_each(self, args: JsonObject, blob: bytes, request: RequestKey, dry: bool = False) -> Job:
        return (
            yield from self._batches.each(
                _str(args, "prompt"),
                _plan(args),
                args.get("schema"),
                _optional_name(args, "model"),
                _votes(args),
                request,
                _keep(args),
                _shown(args),
                dry,
            )
        )

    def _verb_llm_each_plan(self, args: JsonObject, blob: bytes, request: RequestKey) -> Job:
        return (yield from self._verb_llm_each(args, blob, request, dry=True))

    def _verb_rlm_query(self, args: JsonObject, blob: bytes, request: RequestKey) -> Job:
        (part,) = parts_from_json([args.get("part")])
        model = _optional_name(args, "model")
        return (yield from self._recursive_calls.batched([_str(args, "question")], [part], request, single=True, model=model))

    def _verb_rlm_query_batched(self, args: JsonObject, blob: bytes, request: RequestKey) -> Job:
        questions, parts = _strings(args, "questions"), _parts(args)
        if len(questions) != len(parts):
            raise InputError(f"{len(questions)} questions need as many parts, and were given {len(parts)}. Give one for each.")
        return (yield from self._recursive_calls.batched(questions, parts, request))

    def _verb_rlm_map(self, args: JsonObject, blob: bytes, request: RequestKey) -> Job:
        return (
            yield from self._recursive_calls.map(_str(args, "question"), _parts(args), args.get("schema"), request, _keep(args))
        )

    def _verb_estimate(self, args: JsonObject, blob: bytes, request: RequestKey) -> Job:
        asked = EstimateRequest(
            _str(args, "question"),
            args.get("schema") or {},
            _optional_name(args, "model"),
            _optional_number(args, "within"),
            _number(args, "delta"),
            None if args.get("calls") is None else _int(args, "calls", least=1),
            _optional_name(args, "by"),
            (_number(args, "min"), _optional_number(args, "max")),
            _int(args, "seed", least=-(1 << 62)),
        )
        return (yield from self._estimates.estimate(_plan(args), asked, request))

    # the rest

    @immediate
    def _verb_progress(self, args: JsonObject, blob: bytes, request: RequestKey) -> JsonObject:
        state = self._results.get(_name(args, "id"))
        return {"finished": state.promise.done(), "done": state.done, "failed": state.failed, "expected": state.expected}

    @immediate
    def _verb_so_far(self, args: JsonObject, blob: bytes, request: RequestKey) -> Context:
        state = self._results.get(_name(args, "id"))
        if state.promise.done():
            state.promise.result()
            return state.reply()
        there = self._results.new(request.name, state.columns)
        there.segments, there.given, there.written = state.so_far(), state.given, state.written
        self._results.finish(there)
        there.promise.result()
        return there.reply()

    def _verb_cite(self, args: JsonObject, blob: bytes, request: RequestKey) -> Job:
        return (yield from self.citing.cite(_str(args, "address"), _optional(args, "quote")))

    @immediate
    def _verb_budget(self, args: JsonObject, blob: bytes, request: RequestKey) -> JsonObject:
        return self._batches.left()


#: All verbs. A verb with no row does not exist for root code.
VERBS: dict[str, Verb] = {
    "count": Verb(Dispatcher._verb_count),
    "head": Verb(Dispatcher._verb_head),
    "record": Verb(Dispatcher._verb_record),
    "page": Verb(Dispatcher._verb_page),
    "text": Verb(Dispatcher._verb_text),
    "sample": Verb(Dispatcher._verb_sample),
    "draw": Verb(Dispatcher._verb_draw),
    "count_by": Verb(Dispatcher._verb_count_by),
    "chunks": Verb(Dispatcher._verb_chunks),
    "reading": Verb(Dispatcher._verb_reading, "compute"),
    "check_pattern": Verb(Dispatcher._verb_check_pattern, "compute"),
    "map": Verb(Dispatcher._verb_map),
    "filter": Verb(Dispatcher._verb_filter),
    "aggregate": Verb(Dispatcher._verb_aggregate),
    "sql": Verb(Dispatcher._verb_sql),
    "llm_query": Verb(Dispatcher._verb_llm_query, "repeat", "one"),
    "llm_query_batched": Verb(Dispatcher._verb_llm_query_batched, "repeat", "many"),
    "llm_map": Verb(Dispatcher._verb_llm_map, "repeat"),
    "llm_each": Verb(Dispatcher._verb_llm_each, "repeat"),
    "llm_each_plan": Verb(Dispatcher._verb_llm_each_plan),
    "rlm_query": Verb(Dispatcher._verb_rlm_query, "repeat", "one"),
    "rlm_query_batched": Verb(Dispatcher._verb_rlm_query_batched, "repeat", "many"),
    "rlm_map": Verb(Dispatcher._verb_rlm_map, "repeat"),
    "estimate": Verb(Dispatcher._verb_estimate, "repeat", "one"),
    "progress": Verb(Dispatcher._verb_progress),
    "so_far": Verb(Dispatcher._verb_so_far),
    "cite": Verb(Dispatcher._verb_cite, "compute"),
    "budget": Verb(Dispatcher._verb_budget),
}


def _log_entry(verb: str, args: JsonObject) -> JsonObject:
    """Return the log's entry of a sub-call, for the report."""
    parts = next((args[name] for name in ("parts", "prompts", "questions") if isinstance(args.get(name), list)), None)
    prompts = args.get("prompts") or args.get("questions")
    prompt = args.get("prompt") or args.get("question") or (prompts[0] if isinstance(prompts, list) and prompts else "")
    entry = {"verb": verb, "prompt": str(prompt)[:MAX_LOGGED], "schema": args.get("schema"), "model": args.get("model")}
    return entry | {"parts": None if parts is None else len(parts)}


def _what(args: JsonObject) -> str:
    prompts = args.get("prompts") or args.get("questions") or [args.get("prompt") or args.get("question") or ""]
    return str(prompts[0])[:MAX_WHAT]


def _key(verb: str, args: JsonObject) -> str:
    """Return what names a request by what it asks, and not by when."""
    asks = {name: value for name, value in args.items() if name != "model"}
    return f"{verb}:{hashlib.sha256(json.dumps(asks, sort_keys=True, default=str).encode('utf-8', 'replace')).hexdigest()[:16]}"


def _fn(args: JsonObject) -> str:
    return _optional_name(args, "fn") or ""


def _keep(args: JsonObject) -> bool:
    return _optional_name(args, "on_error") == "keep"


def _too_deep(verb: str) -> InputError:
    return InputError(f"The arguments of {verb} are nested too deep. Pass flat values.")


@immediate
def _given(value: Any) -> Any:
    return value


def _as_before(verb: str, job: Job, failed: JsonObject) -> Job:
    """Fail as when the cell first ran. What did not fail is answered anew; recursive calls are reached either way."""
    if "errors" in failed:
        value = yield from job
        errors = {int(index): reason for index, reason in failed["errors"].items()}
        return {"answers": [None if at in errors else answer for at, answer in enumerate(value["answers"])], "errors": errors}
    if verb.startswith("rlm_"):
        with contextlib.suppress(RlmRayError):
            yield from job
    name, message, extra = failed["error"]
    raise ReplayedError((name, message, extra))


def _plan(args: JsonObject) -> Plan:
    return Plan.from_json(args.get("plan"))


def _str(args: JsonObject, name: str) -> str:
    value = args.get(name)
    if not isinstance(value, str):
        raise InputError(f"{name} is a str, not {type(value).__name__}.")
    if len(value) > MAX_PROMPT:
        raise InputError(
            f"{name} has {len(value):,} characters, more than {MAX_PROMPT:,}. Pass data as a part, not inside the text."
        )
    return value


def _optional(args: JsonObject, name: str) -> str | None:
    return None if args.get(name) is None else _str(args, name)


def _name(args: JsonObject, name: str) -> str:
    value = _str(args, name)
    if len(value) > MAX_NAME:
        raise InputError(f"{name} = {value[:60]!r}… has {len(value):,} characters, which no {name} has. Look at .schema.")
    return value


def _optional_name(args: JsonObject, name: str) -> str | None:
    return None if args.get(name) is None else _name(args, name)


def _strings(args: JsonObject, name: str) -> list[str]:
    values = args.get(name)
    if not isinstance(values, list) or len(values) > MAX_PARTS:
        raise InputError(f"{name} is a list of str, of at most {MAX_PARTS:,}.")
    return [_str({name: value}, name) for value in values]


def _parts(args: JsonObject) -> list[str | Plan]:
    written = args.get("parts")
    if isinstance(written, list) and len(written) > MAX_PARTS:
        raise InputError(f"A batch of {len(written):,} parts is more than {MAX_PARTS:,}. Use larger chunks.")
    return parts_from_json(written)  # type: ignore[arg-type]


def _int(args: JsonObject, name: str, least: int = 0) -> int:
    value = args.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 1 << 62:
        raise InputError(f"{name} = {value!r:.80} is no whole number from {least}.")
    return value


def _shown(args: JsonObject) -> tuple[str, ...] | None:
    return None if args.get("show") is None else tuple(_strings(args, "show"))


def _number(args: JsonObject, name: str) -> float:
    value = args.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{name} = {value!r:.80} is no number.")
    return float(value)


def _optional_number(args: JsonObject, name: str) -> float | None:
    return None if args.get(name) is None else _number(args, name)


def _votes(args: JsonObject) -> int | str:
    Votes.of(args.get("votes"))
    votes: int | str = args["votes"]
    return votes
