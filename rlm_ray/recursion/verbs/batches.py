"""Leaf calls in batches, as jobs: one question about many prompts, chunks or records.

A batch is checked whole before anything is spent, cut into groups, and each group is one task that reads its slice,
asks, and writes its segment; this process sees counts. Recursive calls are in `recursive_calls`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import astuple, replace
from typing import Any

from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import BudgetExceeded, ConfirmationNeeded, InputError, PlanMade, SubcallFailed
from rlm_ray.handle.plan import Plan, Window
from rlm_ray.ledger import learned
from rlm_ray.ledger.segments import kept_type
from rlm_ray.recursion.cell_reports import ends_run
from rlm_ray.recursion.failed_verbs import MAX_ERROR, MAX_WHAT, FailedVerb
from rlm_ray.recursion.jobs import batch_plans
from rlm_ray.recursion.jobs.batch_plans import Learned, Sizes
from rlm_ray.recursion.jobs.contents import BatchContents
from rlm_ray.recursion.jobs.progress import Tally
from rlm_ray.recursion.jobs.results import ResultState
from rlm_ray.recursion.jobs.scheduler import Job, Until, immediate
from rlm_ray.recursion.jobs.underway import Asked, Underway, part_name, row_of
from rlm_ray.recursion.leaf.values import Kind, LeafSpec
from rlm_ray.recursion.ports import LeafOutcome, Prompted, RequestKey, TextRow
from rlm_ray.recursion.verbs.context import CallContext
from rlm_ray.recursion.verbs.groups import Batch, Groups, Piece, Trial
from rlm_ray.recursion.verbs.sampling.samples import Samples
from rlm_ray.recursion.verbs.sampling.second_readings import SecondReadings
from rlm_ray.recursion.verbs.scans import Scans, retried, target, with_steps
from rlm_ray.subcalls import keys, quotes
from rlm_ray.subcalls.schema import AnswerSchema
from rlm_ray.subcalls.votes import Votes
from rlm_ray.types.estimate import BatchPlan
from rlm_ray.types.json import JsonSchema
from rlm_ray.types.run import Context

ROWS_PER_GROUP = 10_000
#: Most calls of a group that has to read: with texts alone a process does more before another is worth its start.
DATA_CALLS = 256


class Batches:
    """The sub-call verbs of one call."""

    def __init__(self, context: CallContext, scans: Scans, samples: Samples) -> None:
        self._settings = context.call.settings
        self._ports = context.ports
        self._scheduler = context.scheduler
        self._scans = scans
        self._results = context.results
        self._lender = context.lender
        self._reuses = bool(context.call.others)
        self.tally = Tally()
        self._program = bool(context.call.program)
        self._base = context.call.run_dir.rpartition("/")[0]
        self._known_tokens: dict[str, Learned] | None = None
        self._groups = Groups(context, self.tally)
        self._second_readings = SecondReadings(context, scans, samples)
        self._underway = Underway()
        self._trials: dict[str, Trial] = {}

    def left(self) -> dict[str, float | None]:
        """Return the rest of the limits, and the usage so far."""
        return self._lender.to_dict()

    # leaf calls

    def query(self, prompt: str, part: str | Plan | None, model: str | None, request: RequestKey) -> Job:
        """Ask once; return the answer."""
        if part is None:
            reply = yield from self.prompts([prompt], model, request)
            row = {"answer": reply["answers"][0], "error": reply["errors"].get(0)}
        else:
            (row,) = yield from self.about([(prompt, part)], None, model, request)
        if row["error"] is not None:
            raise SubcallFailed(f"The model call failed: {row['error']}")
        return row["answer"]

    def prompts(self, prompts: list[str], model: str | None, request: RequestKey) -> Job:
        """Ask many prompts; return answers and errors by index."""
        self._check(len(prompts), request)
        rows = yield from self._texts(self._spec("prompts", "", model, None, 1), prompts, prompts)
        errors = {index: row["error"] for index, row in enumerate(rows) if row["error"] is not None}
        return {"answers": [row["answer"] for row in rows], "errors": errors}

    def about(self, questions: Sequence[tuple[str, str | Plan]], schema: Any, model: str | None, request: RequestKey) -> Job:
        """Ask a prompt about each part, one call each; return a row each: `answer`, `error`, `address`."""
        self._check(len(questions), request)
        resolved = yield from self._resolve([part for _, part in questions])
        parts = [Prompted(prompt, part) for (prompt, _), part in zip(questions, resolved, strict=True)]
        names = [(prompt, part_name(part)) for prompt, part in questions]
        return (yield from self._texts(self._spec("prompts", "", model, schema, 1), parts, names))

    def _texts(self, spec: LeafSpec, parts: Sequence[Any], names: Sequence[Hashable]) -> Job:
        """Run bare calls whose answers root code wants as values; they never become a table.

        Equal ones, which have equal names, are one call: also with those that are under way for others.
        """
        rows: list[TextRow] = [{"answer": None, "error": "The call gave no answer.", "address": None} for _ in parts]
        places: dict[Hashable, list[int]] = {}
        for index, name in enumerate(names):
            places.setdefault((_question(spec), name), []).append(index)

        def take(name: Hashable, row: TextRow) -> None:
            for index in places[name]:
                rows[index] = row

        todo = list(places)
        while todo:
            others = self._underway.texts(todo)
            mine = [name for name in todo if name not in others]
            if mine:
                with self._underway.asking(mine) as promises:
                    for index, row in (yield from self._asked(spec, [parts[places[name][0]] for name in mine])):
                        take(mine[index], row)
                        promises[mine[index]].set(row)
            yield Until(tuple(others.values()))
            ended = {name: row_of(promise) for name, promise in others.items()}
            for name, row in ended.items():
                if row is not None:
                    take(name, row)
            todo = [name for name, row in ended.items() if row is None]
        return rows

    def _asked(self, spec: LeafSpec, parts: Sequence[Any]) -> Job:
        """Run the calls of a batch of values; return their rows with their places."""
        size = self._group_size(parts, self._settings.calls_per_group)
        groups = [
            Piece(first // size, len(parts[first : first + size]), tuple(parts[first : first + size]), first=first)
            for first in range(0, len(parts), size)
        ]
        batch = Batch(ResultState("texts", {}), spec, {}, self._results.folder("texts"), len(parts), trial=self._trial(spec))
        outcomes = yield from self._groups.run(batch, groups)
        return [(row["index"], row) for outcome in outcomes for row in outcome.rows]

    @immediate
    def map(
        self,
        prompt: str,
        parts: list[str | Plan],
        schema: Any,
        model: str | None,
        votes: int | str,
        request: RequestKey,
        keep: bool = False,
    ) -> Context:
        """Start one call per part; return the handle of the result at once."""
        spec, many = self._spec("chunks", prompt, model, schema, votes), Votes.of(votes)
        self._check(len(parts) * many.first, request)
        if request.resumed and (before := self._results.finished(request.name)) is not None:
            return before.reply()
        columns = {
            **answer_columns(schema),
            "_address": "string",
            "_part": "int64",
            "_piece": "int64",
            "_error": "string",
        } | _own_columns(many, spec)
        state = self._results.new(request.name, answer_columns(schema), len(parts))
        state.written = tuple(answer_columns(schema))

        def work() -> Job:
            resolved = yield from self._resolve(parts)
            size = self._group_size(resolved, max(1, self._settings.calls_per_group // many.most))
            groups: list[Piece] = []
            for first in range(0, len(resolved), size):
                group = tuple(resolved[first : first + size])
                groups.append(Piece(len(groups), len(group) * many.most, group, first=first))
            yield from self._fill(state, spec, columns, groups, len(parts))

        state.key = target("llm_map", parts)
        asked = Asked(_question(spec), parts=frozenset(map(part_name, parts)))
        self.begin(state, self._underway.in_turn(asked, work()), "llm_map", prompt, keep)
        return state.reply()

    def each(
        self,
        prompt: str,
        plan: Plan,
        schema: Any,
        model: str | None,
        votes: int | str,
        request: RequestKey,
        keep: bool = False,
        show: tuple[str, ...] | None = None,
        dry: bool = False,
        again: bool = True,
    ) -> Job:
        """Start one answer per record; return the handle at once, or, where it is `dry`, what it would take.

        Some of many judgements are read `again`.
        """
        spec, many = self._spec("records", prompt, model, schema, votes, show), Votes.of(votes)
        if request.resumed and (before := self._results.finished(request.name)) is not None:
            return before.reply()
        manifest = yield from self._scans.manifest(plan)
        answer = answer_columns(schema)
        given = _selected(manifest.schema, plan)
        if taken := sorted(answer.keys() & given.keys()):
            raise InputError(
                f"The records already have the column {taken[0]!r}: give the answer another name, or .select() other columns."
            )
        _check_shown(show, given)
        written = tuple(name for name in self._results.written(plan) if name in given)
        hidden = written if show is None and len(written) < len(given) else ()
        if hidden:  # a reader that sees an earlier verdict repeats it
            show = tuple(name for name in given if name not in hidden)
            spec = replace(spec, show=show)
        works = yield from self._scans.works(plan)
        contents = (yield from self._scans.contents(works, spec)) if spec.shared else None
        counts = contents.counts if contents is not None else (yield from self._scans.partials("count", works, {}))
        total = sum(count for count in counts if isinstance(count, int))
        distinct = total if contents is None else contents.distinct
        todo, plan_made, kind = distinct, None, f"{spec.model} {manifest.unit}"
        if contents is not None:
            todo, plan_made = yield from self._planned(spec, contents, kind)
            if dry:
                return plan_made
            self._confirm(plan_made)
        self._check(math.ceil(todo / spec.records_per_call) * many.first, request)
        columns = {**given, **answer, "_address": "string", "_error": "string"} | _own_columns(many, spec)
        columns |= {"_shared": "int64"} if contents is not None and distinct < total else {}
        state = self._results.new(request.name, {**given, **answer}, total)
        state.given = self._scans.recorder.showing(plan, tuple(given))
        state.written, state.hidden = (*written, *answer), hidden
        state.plan, state.text_kind = plan_made, kind
        size = max(1, min(self._settings.calls_per_group * spec.records_per_call, ROWS_PER_GROUP))
        if total > size:
            size = max(1, min(size, math.ceil(total / self._ports.capacity())))
        cut = [list(group) for group in _cut(works, counts, size)]
        sizes = [sum(count for _, count in group) for group in cut]
        parts = [(size, None) for size in sizes] if contents is None else contents.groups(sizes)
        groups = [
            Piece(number, _calls(asked, spec) * many.most, works=tuple(work for work, _ in group), contents=known)
            for number, (group, (asked, known)) in enumerate(zip(cut, parts, strict=True))
        ]
        state.key, state.retried = target("llm_each", [plan]), retried(plan)

        def ask(words: str, some: Plan, columns: JsonSchema, key: RequestKey) -> Job:
            return self.each(words, some, columns, model, 1, key, keep=True, again=False, show=show)

        def second(rows: int) -> Job:
            return self._second_readings.read(state, rows, prompt, schema, request, ask)

        filling = self._fill(state, spec, columns, groups, distinct)
        asking = Asked(_question(spec), nodes=plan.nodes)
        in_turn = self._underway.in_turn(asking, filling)
        self.begin(state, in_turn, "llm_each", prompt, keep, second if again and many.most == 1 else None)
        return state.reply()

    def _planned(self, spec: LeafSpec, contents: BatchContents, kind: str) -> Job:
        """Return how many contents have no answer yet, and what it takes to ask about them."""
        question = spec.question
        of_contents = [keys.call_key(question, name.hex()) for name in contents.table["name"]]
        known = (yield from self._scans.answered(of_contents)) if of_contents else []
        nbytes = [size for size, found in zip(contents.table["bytes"].to_list(), known, strict=True) if not found]
        sizes = Sizes(contents.records, contents.distinct, sum(known), nbytes)
        prices, share = self._lender.meter.prices, self._settings.batch_price
        return len(nbytes), batch_plans.plan_of("llm_each", spec, sizes, prices, share, self._learned(kind))

    def _learned(self, kind: str) -> Learned | None:
        if self._known_tokens is None:
            self._known_tokens = {name: Learned(*row) for name, row in learned.load(self._base).items()}
        return self._known_tokens.get(kind)

    def _learn(self, state: ResultState) -> None:
        """Remember what the calls of a batch used, and how far its plan was off."""
        if state.plan is None:
            return
        state.off = batch_plans.off_by(state.plan, state.used)
        if self._known_tokens is not None:
            self._known_tokens[state.text_kind] = self._known_tokens.get(state.text_kind, Learned()) + state.learned
        learned.add(self._base, {state.text_kind: list(astuple(state.learned))})

    def _confirm(self, plan: BatchPlan) -> None:
        """Stop before a batch that costs more than may be spent without asking, or before any where only a plan is wanted."""
        settings = self._settings
        if settings.plan:
            error = PlanMade(batch_plans.plan_text(plan))
            error.plan = dict(plan)
            raise error
        limit, usd = settings.confirm_over_usd, plan["usd"]
        if limit is None or (usd is not None and usd <= limit) or not plan["calls"]:
            return
        if batch_plans.CONFIRM is not None and batch_plans.CONFIRM(plan):
            return
        reason = batch_plans.narrower(plan, limit)
        if self._program or batch_plans.CONFIRM is not None:
            raise ConfirmationNeeded(f"{reason} To go on as it is, resume the run with a higher confirm_over_usd.")
        raise BudgetExceeded(reason)

    def begin(
        self, state: ResultState, job: Job, verb: str, prompt: str, keep: bool, second: Callable[[int], Job] | None = None
    ) -> None:
        """Start the job that fills a result; one with more failed rows than `max_failed_share` raises when it is read.

        `second` reads some of its good rows, so many, a second time.
        """

        def judged() -> Job:
            yield from job
            state.segments.sort(key=lambda segment: segment.uri)
            failed, total = (sum(getattr(one, name) for one in state.segments) for name in ("failed", "rows"))
            if failed:
                first = yield from self._scans.first_failed(state)
                much = failed == total or failed > total * self._settings.max_failed_share
                state.failure = FailedVerb(
                    verb,
                    prompt[:MAX_WHAT],
                    failed,
                    total,
                    str(first.get("_error"))[:MAX_ERROR],
                    first.get("_address"),
                    raised=much and not keep and not state.unasked,
                    key=state.key,
                    result=state.id,
                )
            if second is not None and not state.unasked and (agreed := (yield from second(total - failed))) is not None:
                key = f"{verb}:{state.id}"
                state.agreement = {"key": key, "verb": verb, "what": prompt[:MAX_WHAT], "sentence": agreed.sentence()}

        def ended(_: Any, error: Exception | None) -> None:
            if error is not None and ends_run(error):
                self._scheduler.abort(error)
            self._results.finish(state, error)

        self._scheduler.start(judged(), ended)

    def _fill(self, state: ResultState, spec: LeafSpec, columns: dict[str, str], groups: list[Piece], expected: int) -> Job:
        """Run the groups of a batch; their segments, in order, are the result."""

        def landed(number: int, outcome: LeafOutcome) -> None:
            if not outcome.unasked:
                state.land(number, list(outcome.segments))

        batch = Batch(state, spec, columns, self._results.folder(state.id), expected, landed, self._trial(spec))
        outcomes = yield from self._groups.run(batch, groups)
        state.segments += [segment for outcome in outcomes for segment in outcome.segments]
        state.unasked = sum(outcome.unasked for outcome in outcomes)
        self._learn(state)
        state.landed.clear()

    def _trial(self, spec: LeafSpec) -> Trial:
        """Return the trial of a question: a new one where its last batch was stopped."""
        name = keys.digest(_question(spec))
        before = self._trials.get(name)
        if before is None or before.unusable is not None:
            before = self._trials[name] = Trial()
        return before

    def _check(self, calls: int, request: RequestKey) -> None:
        """Refuse a batch larger than the calls left, but one that an earlier session or a run that is reused may have paid."""
        if not request.resumed and not self._reuses:
            self._lender.check(calls)

    def _spec(
        self, kind: Kind, prompt: str, model: str | None, schema: Any, votes: int | str, show: tuple[str, ...] | None = None
    ) -> LeafSpec:
        AnswerSchema.of(schema)  # a schema that cannot work is an error before anything is spent
        named = self._settings.leaf_model if model is None else self.known_model(model)
        return LeafSpec.of(self._settings, kind, prompt, named or "", schema, votes, show)

    def known_model(self, model: str) -> str:
        """Return a model's name; raise InputError where it is not one of the run's."""
        settings = self._settings
        allowed = [name for name in dict.fromkeys((settings.leaf_model, settings.root_model, *settings.models)) if name]
        if model not in allowed:
            raise InputError(f"The model {model!r:.80} is not one of this run: {', '.join(allowed)}.")
        return model

    def _group_size(self, parts: Sequence[Any], most: int) -> int:
        """Return how many calls one group makes: all in this process where they are few, else spread over the CPUs."""
        calls, most = len(parts), most if all(isinstance(part, str) for part in parts) else min(most, DATA_CALLS)
        return calls or 1 if calls <= most else max(1, min(most, math.ceil(calls / self._ports.capacity())))

    def _resolve(self, parts: Sequence[str | Plan]) -> Job:
        resolved: list[Any] = []
        for part in parts:
            if isinstance(part, str):
                resolved.append(part)
            else:
                resolved.append(tuple((yield from self._scans.works(part))))
        return resolved


def _question(spec: LeafSpec) -> str:
    """Return what equal questions have in common, whatever they are about."""
    return keys.canonical([spec.kind, spec.model, spec.prompt, spec.schema, spec.votes, spec.show])


def answer_columns(schema: Any) -> dict[str, str]:
    """Return the columns of an answer, with their types."""
    return dict(AnswerSchema.of(schema).columns)


def _selected(schema: dict[str, str], plan: Plan) -> dict[str, str]:
    names = {name: kept_type(kind) for name, kind in schema.items() if not name.startswith("_")}
    for step in plan.steps:
        if step.kind == "select":
            names = {name: names[name] for name in step.columns if name in names}  # type: ignore[attr-defined]
    return names


def _cut(works: Sequence[Work], counts: Sequence[Any], size: int) -> Iterator[list[tuple[Work, int]]]:
    """Cut works into groups of about `size` records; a shard with more is cut by windows."""
    group: list[tuple[Work, int]] = []
    held = 0
    for work, count in zip(works, counts, strict=True):
        if not isinstance(count, int) or count == 0:
            continue
        for first in range(0, count, size):
            part = min(size, count - first)
            index = work.shard.index
            piece = work if count <= size else with_steps(work, Window(index, first, index, first + part))
            if group and held + part > size:
                yield group
                group, held = [], 0
            group.append((piece, part))
            held += part
    if group:
        yield group


def _calls(records: int, spec: LeafSpec) -> int:
    return max(1, math.ceil(records / spec.records_per_call))


def _check_shown(show: tuple[str, ...] | None, given: Mapping[str, str]) -> None:
    if show is not None and not show:
        raise InputError("show = []: the model would be shown nothing. Name at least one column.")
    if unknown := [name for name in show or () if name not in given]:
        raise InputError(f"show names the column {unknown[0]!r:.80}, which the records do not have: {', '.join(given)[:400]}.")


def _own_columns(votes: Votes, spec: LeafSpec) -> dict[str, str]:
    """Return the columns that a result has beside its answers."""
    quoted = {"_quote": "string"} if quotes.has_quotes(AnswerSchema.of(spec.schema)) else {}
    return quoted | ({"_votes": "double"} if votes.most > 1 else {})
