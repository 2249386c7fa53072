"""The verbs that look at, count and split the records of a plan, as jobs over its shards.

Each verb is a generator for the scheduler: it yields its waits and returns a JSON value. `corpus.operations` computes over
one shard; this module chooses the shards, their order, and how many run at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rlm_ray import storage
from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.operations import operations
from rlm_ray.corpus.operations.lookup import shard_of
from rlm_ray.corpus.planning import chunk_ranges, drawing, grouping, shard_choice, slicing
from rlm_ray.corpus.planning.bind import BoundPlan, bind
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import InputError, SubcallFailed
from rlm_ray.handle.plan import Between, Keep, Plan, Result, Slice, Step, Where, Window
from rlm_ray.recursion.jobs.contents import BatchContents, ShardContents
from rlm_ray.recursion.jobs.coverage_recorder import CoverageRecorder
from rlm_ray.recursion.jobs.progress import ShardTally
from rlm_ray.recursion.jobs.results import ResultState
from rlm_ray.recursion.jobs.scheduler import Job, Until
from rlm_ray.recursion.leaf.values import LeafSpec
from rlm_ray.recursion.ports import Future, ScanArgs, ScanGroup, ShardFailure
from rlm_ray.recursion.verbs.context import CallContext

#: Bytes of data for one task: enough work to pay for the task, little enough to spread and to bound its time.
LEAST_BYTES, MOST_BYTES = 8 << 20, 128 << 20
#: Of a shard at least this is taken to be read: opening it takes its time, too.
_LEAST_PART = 1 / 16
PAGE_BYTES = 4 << 20
MAX_LOOK = 10_000
#: Shards that `head` looks at first.
_FIRST = 64
#: Slices that are remembered as windows.
MAX_WINDOWS = 10_000
_OK = Where((("_error", "==", None),))


class Scans:
    """The data verbs of one call."""

    def __init__(self, context: CallContext) -> None:
        self._ports = context.ports
        self._corpora = context.corpora
        self._results = context.results
        self._run_dir = context.call.run_dir
        self._others = context.call.others
        self._settings = context.call.settings
        self._failures = context.failures
        self.recorder = CoverageRecorder(context.read_log, context.corpora, context.results)
        self._counted: dict[str, dict[int, int]] = {}
        self._windows: dict[Any, Window] = {}
        self.selections: set[str] = set()
        self.tally = ShardTally({name: len(manifest.shards) for name, manifest in context.corpora.items()})

    # from a plan to work

    def manifest(self, plan: Plan) -> Job:
        """Wait until the data of the plan is complete; return its Manifest."""
        if isinstance(plan.origin, Result):
            state = self._results.get(plan.origin.id)
            yield Until((state.promise,))
            state.promise.result()
            if state.failure is not None and state.failure.raised and not asks_failed(plan.steps):
                raise SubcallFailed(
                    f"{state.failure.line()}. Look at .failed, then ask again in another way, or give on_error='keep' to go on "
                    "with the other rows."
                )
            return self._results.manifest(state)
        if plan.origin.corpus not in self._corpora:
            raise InputError(
                f"There is no corpus {plan.origin.corpus!r} in this run; there are: {', '.join(self._corpora) or 'none'}."
            )
        return self._corpora[plan.origin.corpus]

    def at(self, address: Address) -> tuple[Manifest, Shard] | None:
        """Return the corpus or result of this run that has an address, and the shard. Reads nothing of it."""
        for manifest in self._corpora.values():
            if (shard := shard_of(manifest, address)) is not None:
                return manifest, shard
        folder = storage.join(self._run_dir, "segments") + "/"
        if not address.object.startswith(folder):
            return None
        try:
            manifest = self._results.manifest(self._results.get(address.object.removeprefix(folder).partition("/")[0]))
        except InputError:
            return None
        shard = shard_of(manifest, address)
        return None if shard is None else (manifest, shard)

    def works(self, plan: Plan) -> Job:
        """Return the plan as work over shards, in order: slices made local, shards that cannot match left out."""
        manifest = yield from self.manifest(plan)
        bound = yield from self._local(self._steps(plan), manifest)
        return self._works(manifest, bound)

    def _steps(self, plan: Plan) -> tuple[Step, ...]:
        """Return a plan's steps; of a result with failed rows first the one that leaves these out, unless they are asked for."""
        if not isinstance(plan.origin, Result) or asks_failed(plan.steps):
            return plan.steps
        state = self._results.get(plan.origin.id)
        segments = state.segments if state.promise.done() else state.first()
        if state.own_errors or not any(segment.failed for segment in segments):
            return plan.steps
        return (_OK, *plan.steps)

    def first_failed(self, state: ResultState) -> Job:
        """Return the first failed row of a result whose segments are there."""
        manifest = self._results.manifest(state)
        bad = {segment.uri for segment in state.segments if segment.failed}
        shard = next(shard for shard in manifest.shards if shard.uri in bad)
        failed = bind((Where((("_error", "!=", None),)),), manifest.schema)
        (found,) = yield from self.partials("head", [Work(shard, failed, self._run_dir)], {"n": 1}, looks=False)
        return {} if isinstance(found, ShardFailure) else operations.merge("head", [found], {"n": 1})[0]

    def _works(self, manifest: Manifest, plan: BoundPlan) -> list[Work]:
        choice = self.recorder.chosen(plan, manifest)
        whose = self.recorder.whose(plan, manifest)
        return [
            Work(shard, plan, self._run_dir, corpus=whose, excluded=choice.rows.get(shard.index, ())) for shard in choice.shards
        ]

    def reading(self, plan: Plan) -> Job:
        """Return the most that a plan would read; reads nothing. See `shard_choice.reading`."""
        manifest = yield from self.manifest(plan)
        return shard_choice.reading(bind(shard_choice.before_slices(plan.steps), manifest.schema), manifest)

    def _local(self, steps: tuple[Step, ...], manifest: Manifest) -> Job:
        done = bind((), manifest.schema)
        for step in steps:
            if isinstance(step, Slice):
                step = slicing.plain_window(step.start, step.stop, done, manifest) or (
                    yield from self._window(step, done, manifest)
                )
            if isinstance(step, Keep) and shard_choice.shards_for(done, manifest):
                self._check_selection(step.selection)
            done = done.then(step)
        return done

    def _window(self, step: Slice, done: BoundPlan, manifest: Manifest) -> Job:
        key = (manifest.name, manifest.fingerprint, done.nodes, step)
        if key not in self._windows:
            works = self._works(manifest, done)
            counts = yield from self.counts(manifest, done, works, step)
            if len(self._windows) >= MAX_WINDOWS:
                self._windows.clear()
            self._windows[key] = slicing.window(step.start, step.stop, [work.shard for work in works], counts)
        return self._windows[key]

    def _check_selection(self, selection: str) -> None:
        if selection not in self.selections:
            if not storage.exists(storage.join(self._run_dir, "selections", selection)):
                raise InputError(f"There is no selection {selection!r} in this run. Use the Corpus that .filter() returned.")
            self.selections.add(selection)

    def counts(self, manifest: Manifest, plan: BoundPlan, works: Sequence[Work], wanted: Slice | None = None) -> Job:
        """Return the number of records that a plan leaves of each shard; with `wanted`, None where that slice needs none."""
        shards = [work.shard for work in works]
        counts = shard_choice.known_counts(plan, shards)
        key = f"{manifest.name}/{manifest.fingerprint}/{Plan((Result('x'), *plan.nodes)).fingerprint()}"
        cached = self._counted.setdefault(key, {})
        counts = [cached.get(shard.index) if count is None else count for shard, count in zip(shards, counts, strict=True)]
        wave = 1
        while True:
            first = slicing.counts_wanted(wanted.start, wanted.stop, counts) if wanted is not None else _first_unknown(counts)
            if first is None:
                used = slicing.counts_used(wanted.start, wanted.stop, counts) if wanted is not None else len(counts)
                # counts prefetched beyond the slice are not coverage
                self.recorder.done("count", [(work, count) for work, count in zip(works[:used], counts[:used], strict=True)])
                return counts
            # without a bound all at once; with one, few at first, since the slice may be near
            numbers = [number for number in range(first, len(counts)) if counts[number] is None][: None if wanted is None else wave]
            part = shard_choice.share_read(plan, (), manifest)
            partials = yield from self.partials("count", [works[number] for number in numbers], {}, looks=False, part=part)
            for number, partial in zip(numbers, partials, strict=True):
                counts[number] = cached[shards[number].index] = 0 if isinstance(partial, ShardFailure) else partial
            wave *= 2

    def partials(self, operation: str, works: Sequence[Work], args: ScanArgs, *, looks: bool = True, part: float = 1.0) -> Job:
        """Run an operation over all works at once; return a partial or a ShardFailure for each, in order.

        It `looks` at all that the works' steps look at, unless the caller knows better, and reads `part` of their bytes.
        """
        groups = self.groups(works, MOST_BYTES, part)
        futures: list[Future] = [self._scan(operation, group, args) for group in groups]
        if futures:
            with self.tally.scanning(list(zip(futures, groups, strict=True))):
                yield Until(tuple(futures))
        partials = [partial for future in futures for partial in future.result()]
        self._failures.add(partial for partial in partials if isinstance(partial, ShardFailure))
        if looks:
            done = [(work, partial) for work, partial in zip(works, partials, strict=True) if not isinstance(partial, ShardFailure)]
            self.recorder.done(operation, done)
        return partials

    def contents(self, works: Sequence[Work], spec: LeafSpec) -> Job:
        """Return the distinct contents of the works' records, as a model is shown them."""
        partials = yield from self.partials("contents", works, {"spec": spec}, looks=False)
        found = [partial if isinstance(partial, ShardContents) else None for partial in partials]
        read = [(work, part.records) for work, part in zip(works, found, strict=True) if part is not None]
        self.recorder.done("count", read)
        return BatchContents(found)

    def answered(self, keys: Sequence[str]) -> Job:
        """Return for each key of a sub-call whether its answer is known."""
        args: ScanArgs = {"run_dir": self._run_dir, "others": self._others, "keys": keys, "settings": self._settings}
        future = self._ports.scan(ScanGroup("answered", (), args))
        yield Until((future,))
        return future.result()

    def groups(self, works: Sequence[Work], most_bytes: int, part: float = 1.0) -> list[list[Work]]:
        """Return works in groups for tasks: two for each CPU, unless they would be too small or too large, where `part` is read."""
        # a little more than a share, so that shards alike come out even
        share = sum(work.shard.nbytes for work in works) / (2 * self._ports.capacity()) * 1.02
        part = max(part, _LEAST_PART)
        return list(grouping.group(works, int(max(LEAST_BYTES / part, min(most_bytes / part, share)))))

    def _scan(self, operation: str, works: Sequence[Work], args: ScanArgs) -> Future:
        tables = self._results.mirrors({work.shard.uri for work in works if work.shard.traits.is_result})
        return self._ports.scan(ScanGroup(operation, tuple(works), args, tables))

    def merged(self, operation: str, works: Sequence[Work], args: ScanArgs, part: float = 1.0) -> Job:
        """Run an operation over all works, of which it reads `part`, and return its merged value."""
        partials = yield from self.partials(operation, works, args, part=part)
        return operations.merge(operation, [partial for partial in partials if not isinstance(partial, ShardFailure)], args)

    def in_order(self, operation: str, works: Sequence[Work], args: ScanArgs, enough: Any) -> Job:
        """Run an operation shard after shard, more at a time as it goes on, until `enough(merged)`."""
        partials: list[Any] = []
        read: list[Work] = []
        position, wave = 0, 1
        while position < len(works):
            part = works[position : position + wave]
            batch = yield from self.partials(operation, part, args, looks=False)
            good = [(work, partial) for work, partial in zip(part, batch, strict=True) if not isinstance(partial, ShardFailure)]
            read += [work for work, _ in good]
            partials += [partial for _, partial in good]
            position, wave = position + wave, wave * 2
            if enough(operations.merge(operation, partials, args)):
                break
        merged = operations.merge(operation, partials, args)
        self.recorder.looked_until(operation, read, partials, args, enough)
        return merged

    # the verbs

    def count(self, plan: Plan) -> Job:
        """Return the number of records."""
        manifest = yield from self.manifest(plan)
        bound = yield from self._local(self._steps(plan), manifest)
        return sum((yield from self.counts(manifest, bound, self._works(manifest, bound))))

    def head(self, plan: Plan, n: int) -> Job:
        """Return the first n records."""
        _bounded(n, "head")
        if not n:
            return []
        manifest = yield from self.manifest(plan)
        records: list[Any] = []
        # the first shards of very many, as a rule, have them: the others need not be looked at one by one
        for last in (_FIRST, None) if len(manifest.shards) > 2 * _FIRST else (None,):
            works = yield from self.works(plan if last is None else plan.then(Between(None, (last, 0, 0))))
            records = yield from self.in_order("head", works, {"n": n}, lambda records: len(records) >= n)
            if len(records) >= n:
                break
        return records

    def record(self, plan: Plan, index: int) -> Job:
        """Return one record by its number."""
        found = yield from self.head(plan.then(Slice(index, index + 1)), 1)
        if not found:
            count = yield from self.count(plan)
            raise IndexError(f"record {index} of {count:,}")
        return found[0]

    def page(self, plan: Plan, after: Any, n: int) -> Job:
        """Return some records after a place, and the place to go on from (None at the end).

        Of a result that is under way it waits only for the next rows.
        """
        if (page := (yield from self._next_rows(plan, after, n))) is not None:
            return page
        works = yield from self.works(plan if after is None else plan.then(Between(tuple(after), None)))
        args: ScanArgs = {"n": _bounded(n, "page"), "max_bytes": PAGE_BYTES, "after": None}
        page = yield from self.in_order("page", works, args, lambda page: page["after"] is not None)
        return page

    def _next_rows(self, plan: Plan, after: Any, n: int) -> Job:
        """Return a page of a result under way, from the rows that it begins with; None where it has ended."""
        if not isinstance(plan.origin, Result) or any(isinstance(step, Slice | Keep) for step in plan.steps):
            return None
        state = self._results.get(plan.origin.id)
        start = 0 if after is None else after[0]
        while not state.promise.done():
            manifest = self._results.beginning(state)
            if start < (count := len(manifest.shards)):
                rest = bind((*self._steps(plan), Between(None if after is None else tuple(after), None)), manifest.schema)
                works = [Work(shard, rest, self._run_dir) for shard in shard_choice.shards_for(rest, manifest)]
                args: ScanArgs = {"n": _bounded(n, "page"), "max_bytes": PAGE_BYTES, "after": None}
                page = yield from self.in_order("page", works, args, lambda page: page["after"] is not None)
                # all rows so far were read: the next page begins at the next rows
                return page | {"after": page["after"] or [count, 0, 0]}
            yield Until((state.more_rows,))
        return None

    def text(self, plan: Plan, max_chars: int) -> Job:
        """Return records as one text, cut at `max_chars`."""
        args: ScanArgs = {"max_chars": min(max_chars, 4 << 20)}
        works = yield from self.works(plan)
        return (yield from self.in_order("text", works, args, lambda text: len(text) > args["max_chars"]))

    def sample(self, plan: Plan, n: int, seed: int) -> Job:
        """Return n records drawn uniformly, in order."""
        _bounded(n, "sample")
        manifest = yield from self.manifest(plan)
        bound = yield from self._local(self._steps(plan), manifest)
        works = self._works(manifest, bound)
        drawn = drawing.draw((yield from self.counts(manifest, bound, works)), n, seed)
        records: list[Any] = []
        futures = [(works[number], self._scan("at", (works[number],), {"ordinals": some})) for number, some in drawn.items()]
        if futures:
            with self.tally.scanning([(future, (work,)) for work, future in futures]):
                yield Until(tuple(future for _, future in futures))
        for work, future in futures:
            (partial,) = future.result()
            if isinstance(partial, ShardFailure):
                self._failures.add([partial])
            else:
                records += operations.merge("at", [partial], {})
                self.recorder.drawn(work, partial)
        return records

    def ordinals(self, works: Sequence[Work], numbers: Sequence[Sequence[int]]) -> Job:
        """Return position, character and address of records by their number in each work, or a ShardFailure for a work."""
        futures = [self._scan("places", (work,), {"ordinals": some}) for work, some in zip(works, numbers, strict=True)]
        if futures:
            with self.tally.scanning([(future, (work,)) for future, work in zip(futures, works, strict=True)]):
                yield Until(tuple(futures))
        partials = [future.result()[0] for future in futures]
        self._failures.add(partial for partial in partials if isinstance(partial, ShardFailure))
        return partials

    def count_by(self, plan: Plan, column: str, limit: int) -> Job:
        """Return counts by value, most frequent first."""
        manifest = yield from self.manifest(plan)
        bound = yield from self._local(self._steps(plan), manifest)
        works = self._works(manifest, bound)
        part = shard_choice.share_read(bound, (column,), manifest)
        return (yield from self.merged("count_by", works, {"column": column, "limit": min(limit, 1_000_000)}, part))

    def chunks(self, plan: Plan, tokens: int | None, by: str | None, overlap: int) -> Job:
        """Return the ranges of chunks: `[start, stop, nbytes, records or None, key?]` each."""
        tokens = self._settings.chunk_tokens if tokens is None else tokens
        if tokens < 1 or overlap >= tokens:
            raise InputError(f"Chunks of {tokens} tokens with an overlap of {overlap} cannot be cut. Give tokens > overlap.")
        target, overlapping = (round(value * self._settings.bytes_per_token) for value in (tokens, overlap))
        manifest = yield from self.manifest(plan)
        bound = yield from self._local(self._steps(plan), manifest)
        works = self._works(manifest, bound)
        plain = chunk_ranges.plain_chunk_ranges(bound, manifest, target, overlapping, by, [work.shard for work in works])
        if plain is not None:
            return plain
        args: ScanArgs = {"target_bytes": target, "by": by, "overlap_bytes": overlapping}
        return (yield from self.merged("chunk_ranges", works, args))


def asks_failed(steps: Sequence[Step]) -> bool:
    """Whether a plan itself says which rows of a result it is of, failed ones or others."""
    return any(isinstance(step, Where) and any(column == "_error" for column, *_ in step.conditions) for step in steps)


def target(verb: str, parts: Sequence[str | Plan]) -> str:
    """Return the key of a verb over its data: a later one with the same key takes its place."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update((part if isinstance(part, str) else part.fingerprint()).encode("utf-8", "replace") + b"\0")
    return f"{verb}:{digest.hexdigest()[:16]}"


def retried(plan: Plan) -> str:
    """Return the id of the result whose failed rows a plan is of, or ""."""
    return plan.origin.id if isinstance(plan.origin, Result) and asks_failed(plan.steps) else ""


def _first_unknown(counts: Sequence[int | None]) -> int | None:
    return next((number for number, count in enumerate(counts) if count is None), None)


def with_steps(work: Work, *steps: Step) -> Work:
    """Return the work with more steps at its end."""
    return replace(work, plan=work.plan.then(*steps))


def _bounded(n: int, what: str) -> int:
    if n > MAX_LOOK:
        raise InputError(
            f".{what}({n:,}) is more than looking is for (at most {MAX_LOOK:,}). Iterate over the Corpus, or use count_by or "
            "aggregate."
        )
    return n
