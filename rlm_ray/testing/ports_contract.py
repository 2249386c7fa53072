"""The contract suite of `recursion.ports.Ports`: what each implementation promises, as tests for pytest to collect."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
from pyarrow import parquet

from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.operations import operations
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import BudgetExceeded, CredentialsError, RlmRayError
from rlm_ray.handle.plan import Plan, Source
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.ledger.segments import Segment
from rlm_ray.models.contract import ChatReply, ChatRequest, Usage
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.leaf.values import LeafSpec
from rlm_ray.recursion.ports import (
    Call,
    CallOutcome,
    CodeGroup,
    CodeOutcome,
    Future,
    LeafGroup,
    LeafOutcome,
    Ports,
    QueryGroup,
    ScanGroup,
    ShardFailure,
)
from rlm_ray.settings import Settings
from rlm_ray.testing.faults import Faults
from rlm_ray.testing.server import ModelServer
from rlm_ray.types.run import CorpusOrigin, UndescribedContext
from rlm_ray.worker.meters import meter_of

Row = dict[str, Any]
#: Files of the suite's corpus, and lines in each; one line in four is an error.
FILES, LINES = ("a", "b", "c"), 20
ERRORS = len(FILES) * LINES // 4
#: Seconds after which something that must end has not: on any machine far more than it takes.
PATIENCE = 120.0


class PortsContract:
    """Tests that any implementation of `recursion.ports.Ports` must pass.

    Subclass it in a test module, with a name that begins with ``Test``, and say how the ports are made. Each test has a corpus
    of its own, a run directory and a scripted model server on loopback; nothing is mocked. It needs pytest, whose
    ``tmp_path`` it uses, and a key in ``OPENAI_API_KEY`` (any word).

    Examples
    --------
    >>> from rlm_ray.testing import LocalPorts
    >>> class TestLocalPorts(PortsContract):
    ...     def make_ports(self, run_id, depth, settings):
    ...         return LocalPorts()
    """

    #: How the names of threads begin that a process keeps for all its runs, in pools that fill up with use.
    pools: tuple[str, ...] = ("asyncio_", "rlm-ray-scan", "rlm-ray-code", "rlm-ray-models")

    def make_ports(self, run_id: str, depth: int, settings: Settings) -> Ports:
        """Return new ports for the loop of a call at `depth` of a run; each test closes those it makes."""
        raise NotImplementedError

    # the world of a test

    @contextmanager
    def _world(
        self, folder: Path, root: list[str] | None = None, leaf: Any = None, faults: Faults | None = None, **options: Any
    ) -> Iterator[_World]:
        with ModelServer(root=root, leaf=leaf or (lambda prompt, schema: "an answer"), faults=faults) as server:
            settings = server.settings(max_depth=2, **options)
            world = _World(folder, settings, server)
            world.ports = self.make_ports(world.run.id, 0, settings)
            try:
                yield world
            finally:
                world.ports.close()

    # looking around

    def test_there_is_capacity(self, tmp_path: Path) -> None:
        """At least one CPU, as a whole number."""
        with self._world(tmp_path) as world:
            capacity = world.ports.capacity()
            assert type(capacity) is int
            assert capacity >= 1

    def test_the_first_recursive_call_may_begin_now(self, tmp_path: Path) -> None:
        """`room` never says less than 0, and 0 beside nothing."""
        with self._world(tmp_path) as world:
            assert world.ports.room(0, 0.0) == 0
            assert world.ports.room(10_000, 0.0) >= 0

    # scans

    def test_a_scan_gives_a_partial_per_shard_in_order(self, tmp_path: Path) -> None:
        """The partials are those of the works, in their order, and merge to the whole."""
        with self._world(tmp_path) as world:
            works = world.works()
            group = ScanGroup("head", works, {"n": 1})
            partials = world.result(world.ports.scan(group))
            assert partials == operations.run_all("head", works, {"n": 1})
            assert len(partials) == len(FILES)
            count = world.result(world.ports.scan(ScanGroup("count", works, {})))
            assert operations.merge("count", count, {}) == len(FILES) * LINES

    def test_a_scan_of_nothing_is_nothing(self, tmp_path: Path) -> None:
        """No works, no partials, no error."""
        with self._world(tmp_path) as world:
            assert world.result(world.ports.scan(ScanGroup("count", (), {}))) == []

    def test_a_shard_that_cannot_be_read_is_a_value_in_its_place(self, tmp_path: Path) -> None:
        """One lost object does not cost the others their partials, and is never counted as data."""
        with self._world(tmp_path) as world:
            works = world.works()
            world.lose("b")
            first, lost, last = world.result(world.ports.scan(ScanGroup("count", works, {})))
            assert [first, last] == operations.run_all("count", [works[0], works[2]], {})
            assert isinstance(lost, ShardFailure)
            assert lost.object == works[1].shard.uri
            assert lost.reason

    def test_an_operation_that_does_not_exist_raises_where_the_result_is_asked_for(self, tmp_path: Path) -> None:
        """An error comes out of `result`, as an error of this package, and not out of the verb."""
        with self._world(tmp_path) as world:
            future = world.ports.scan(ScanGroup("no-such-operation", world.works(), {}))
            error = world.error(future)
            assert "no-such-operation" in str(error)

    # functions

    def test_a_function_runs_over_the_shards(self, tmp_path: Path) -> None:
        """`map` writes segments, `filter` counts what it keeps, `aggregate` and `combine` give values."""
        with self._world(tmp_path) as world:
            mapped = world.code("map", lambda record: {"n": int(record["text"].split()[1])})
            assert [row["n"] for row in world.rows(mapped.segments)] == [*range(LINES)] * len(FILES)
            assert (mapped.tried, mapped.failed, mapped.failures) == (len(FILES) * LINES, 0, ())
            kept = world.code("filter", lambda record: "ERROR" in record["text"])
            assert sum(kept.kept.values()) == ERRORS
            summed = world.code("aggregate", len, combine=lambda one, other: one + other)
            assert summed.values == (len(FILES) * LINES,)
            folded = world.code("combine", lambda one, other: one + other, works=(), values=(1, 2, 3))
            assert folded.values == (6,)

    def test_records_that_a_function_fails_on_are_counted_and_named(self, tmp_path: Path) -> None:
        """A function's error is a value: how many, the first text of it, and the address of its record."""
        with self._world(tmp_path) as world:
            outcome = world.code("map", lambda record: {"n": 1 // (0 if "ERROR" in record["text"] else 1)}, keep=True)
            assert (outcome.tried, outcome.failed) == (len(FILES) * LINES, ERRORS)
            assert "ZeroDivisionError" in outcome.error
            assert outcome.address is not None
            assert sum(segment.failed for segment in outcome.segments) == ERRORS

    def test_a_function_over_a_shard_that_is_lost(self, tmp_path: Path) -> None:
        """The other shards' rows are there, and the lost one is reported."""
        with self._world(tmp_path) as world:
            works = world.works()
            world.lose("b")
            outcome = world.code("map", lambda record: {"n": 1}, works=works)
            assert [failure.object for failure in outcome.failures] == [works[1].shard.uri]
            assert sum(segment.rows for segment in outcome.segments) == (len(FILES) - 1) * LINES

    # SQL

    def test_a_query_is_checked_and_run(self, tmp_path: Path) -> None:
        """A check gives columns and reads nothing; a run writes segments."""
        with self._world(tmp_path) as world:
            query = "select split_part(text, ' ', 3) as word, count(*) as n from context group by 1"
            checked = world.result(world.ports.query(world.query_group(query, columns=None, works=())))
            read, given, _ = checked.values
            assert list(given) == ["word", "n"]
            outcome = world.result(world.ports.query(world.query_group(query, columns=tuple(read))))
            assert isinstance(outcome, CodeOutcome)
            counts = {row["word"]: 0 for row in world.rows(outcome.segments)}
            for row in world.rows(outcome.segments):
                counts[row["word"]] += row["n"]
            assert counts == {"ERROR": ERRORS, "INFO": len(FILES) * LINES - ERRORS}

    def test_a_query_that_cannot_work_raises_its_reason(self, tmp_path: Path) -> None:
        """The error names what is wrong with the query."""
        with self._world(tmp_path) as world:
            group = world.query_group("select no_such_column from context", columns=None, works=())
            assert "no_such_column" in str(world.error(world.ports.query(group)))

    # leaf calls

    def test_leaf_calls_near_and_spread(self, tmp_path: Path) -> None:
        """One row per part in order, the spending in the outcome's budget, and progress up to the last row."""
        with self._world(tmp_path, leaf=lambda prompt, schema: prompt.splitlines()[-1].upper()) as world:
            for spread in (False, True):
                told: list[tuple[int, int, Usage, tuple[int, int]]] = []
                group = world.leaf_group([f"text {number}" for number in range(5)], name=f"spread {spread}")
                outcome = world.result(world.ports.leaves(group, lambda *now, told=told: told.append(now), spread))
                assert isinstance(outcome, LeafOutcome)
                assert [row["index"] for row in outcome.rows] == list(range(5))
                assert all(row["error"] is None and row["answer"] for row in outcome.rows)
                assert outcome.budget.name == group.budget.name
                assert outcome.budget.spent.calls == (5 if not spread else 0)  # equal calls are not paid twice
                assert outcome.budget.reserved == {}
                assert told[-1][:2] == (5, 0)
                assert told[-1][2] == outcome.budget.usage

    def test_calls_that_fail_are_rows(self, tmp_path: Path) -> None:
        """A model that cannot answer is a row with an error; the group itself ends well."""
        with self._world(tmp_path, faults=Faults(error=1), call_attempts=1) as world:
            for spread in (False, True):
                outcome = world.result(world.ports.leaves(world.leaf_group(["a", "b"]), _no_progress, spread))
                assert [row["answer"] for row in outcome.rows] == [None, None]
                assert all(row["error"] for row in outcome.rows)

    def test_a_slice_that_does_not_reach_leaves_rows_unasked(self, tmp_path: Path) -> None:
        """The limit of the slice is never passed; what was not asked is said, and what it would have taken."""
        with self._world(tmp_path) as world:
            for spread in (False, True):
                group = world.leaf_group([f"{spread} {number}" for number in range(5)], budget=Budget.start(calls=2))
                outcome = world.result(world.ports.leaves(group, _no_progress, spread))
                assert outcome.budget.spent.calls == 2
                assert outcome.unasked == 3
                assert outcome.refused is not None

    def test_a_refused_key_ends_the_group_with_its_own_error(self, tmp_path: Path) -> None:
        """The error crosses every border with its type and its text."""
        with self._world(tmp_path, faults=Faults(key="another")) as world:
            for spread in (False, True):
                error = world.error(world.ports.leaves(world.leaf_group(["a"]), _no_progress, spread))
                assert type(error) is CredentialsError
                assert error.__cause__ is None

    def test_a_cancelled_group_ends_and_accounts_for_what_it_spent(self, tmp_path: Path) -> None:
        """No call goes out after it; what was in flight is charged, or the group ends with an error."""
        with self._world(tmp_path, faults=Faults(hang=1)) as world:
            for spread in (False, True):
                group, before = world.leaf_group([f"{spread} {number}" for number in range(3)]), world.requests()
                future = world.ports.leaves(group, _no_progress, spread)
                world.until_requests(before)
                future.cancel()
                outcome = world.result_or_error(future)
                if isinstance(outcome, LeafOutcome):
                    assert outcome.budget.reserved == {}
                    assert 0 < outcome.budget.spent.calls <= 3
                else:
                    assert isinstance(outcome, RlmRayError)

    # one model call

    def test_one_model_call(self, tmp_path: Path) -> None:
        """`complete` gives a reply, metered once."""
        with self._world(tmp_path) as world:
            meter = meter_of(Budget.start(calls=1), world.settings)
            request = ChatRequest("leaf", ({"role": "user", "content": "a question"},))
            reply = world.result(world.ports.complete(request, meter, world.settings, root=True))
            assert isinstance(reply, ChatReply)
            assert reply.text == "an answer"
            assert meter.budget.spent.calls == 1
            error = world.error(world.ports.complete(request, meter, world.settings, root=True))
            assert type(error) is BudgetExceeded  # the second does not fit, and is not sent
            assert world.requests() == 1

    def test_a_model_call_that_fails(self, tmp_path: Path) -> None:
        """Its error is one of this package, and its reservation is settled."""
        with self._world(tmp_path, faults=Faults(error=1), call_attempts=1) as world:
            meter = meter_of(Budget.start(calls=9), world.settings)
            request = ChatRequest("leaf", ({"role": "user", "content": "a question"},))
            assert "500" in str(world.error(world.ports.complete(request, meter, world.settings, root=False)))
            assert meter.budget.reserved == {}

    # recursive calls

    def test_a_recursive_call_has_a_loop_of_its_own(self, tmp_path: Path) -> None:
        """It reads the corpus of the run, spends from the slice that it was lent, and writes down what it came to."""
        with self._world(tmp_path, root=["```repl\nFinal = context.grep('ERROR').count()\n```"]) as world:
            call = world.call("0-1")
            outcome = world.result(world.ports.recurse(call, lambda used, expected: None))
            assert isinstance(outcome, CallOutcome)
            assert (outcome.value, outcome.complete, outcome.stop_reason) == (ERRORS, True, "answered")
            assert outcome.budget.name == call.budget.name
            assert outcome.budget.spent.calls == 1
            assert outcome.budget.reserved == outcome.budget.lent == {}
            assert world.run.outcome("0-1") == json.loads(json.dumps(outcome.to_json()))

    def test_a_recursive_call_that_cannot_go_on_raises_its_own_error(self, tmp_path: Path) -> None:
        """As for leaf calls: type and text cross every border."""
        with self._world(tmp_path, root=["unused"], faults=Faults(key="another")) as world:
            assert type(world.error(world.ports.recurse(world.call("0-1"), lambda used, expected: None))) is CredentialsError

    def test_a_cancelled_recursive_call_ends(self, tmp_path: Path) -> None:
        """Also while its model is silent."""
        with self._world(tmp_path, root=["unused"], faults=Faults(hang=1)) as world:
            future = world.ports.recurse(world.call("0-1"), lambda used, expected: None)
            world.until_requests(0)
            future.cancel()
            assert isinstance(world.result_or_error(future), CallOutcome | RlmRayError)

    # waiting

    def test_waiting_ends_with_the_time(self, tmp_path: Path) -> None:
        """Nothing to wait for, and a time: it returns."""
        with self._world(tmp_path) as world:
            world.ports.wait([], [], 0.0)
            world.ports.wait([], [], 0.01)

    def test_waiting_ends_when_a_descriptor_is_readable(self, tmp_path: Path) -> None:
        """At once where it is readable already, and also beside work that does not end."""
        read, write = os.pipe()
        try:
            with self._world(tmp_path, faults=Faults(hang=1)) as world:
                os.write(write, b"x")
                world.ports.wait([], [read], None)
                assert os.read(read, 1) == b"x"
                for spread in (False, True):
                    future = world.ports.leaves(world.leaf_group([f"{spread}"]), _no_progress, spread)
                    timer = threading.Timer(0.05, os.write, (write, b"y"))
                    timer.start()
                    world.wait_once([future], [read])
                    timer.join()
                    world.wait_once([future], [read])
                    assert os.read(read, 1) == b"y"
                    assert not future.done()
                    future.cancel()
                    world.result_or_error(future)
        finally:
            os.close(read)
            os.close(write)

    def test_waiting_ends_when_work_is_done_and_it_stays_done(self, tmp_path: Path) -> None:
        """Without a time: each end wakes the waiting thread. What is done returns at once, ever after."""
        with self._world(tmp_path) as world:
            futures = [world.ports.scan(ScanGroup("count", (work,), {})) for work in world.works()]
            while not all(future.done() for future in futures):
                world.ports.wait([future for future in futures if not future.done()], [], None)
            for future in futures:
                world.ports.wait([future], [], None)
                assert future.done()
                assert future.result() == future.result()
                future.cancel()  # too late: it changes nothing
                assert len(future.result()) == 1

    # the end

    def test_closing_ends_what_is_under_way(self, tmp_path: Path) -> None:
        """Calls that would hang for ever do not outlive the ports; closing again does nothing."""
        with self._world(tmp_path, root=["unused"], faults=Faults(hang=1)) as world:
            near = world.ports.leaves(world.leaf_group(["near"]), _no_progress, False)
            world.ports.leaves(world.leaf_group(["far"]), _no_progress, True)
            world.until_requests(1)
            world.ports.close()
            assert near.done()
            world.ports.close()

    def test_closing_leaves_no_thread_file_or_socket(self, tmp_path: Path) -> None:
        """Ten uses leave what five leave: what a process keeps for all its runs is made by the first ones."""
        counts = []
        with self._world(tmp_path) as world:
            for number in range(10):
                ports = world.ports = self.make_ports(world.run.id, 0, world.settings)
                world.result(ports.scan(ScanGroup("count", world.works(), {})))
                world.result(ports.leaves(world.leaf_group([f"text {number}"]), _no_progress, False))
                world.result(ports.leaves(world.leaf_group([f"spread {number}"]), _no_progress, True))
                world.code("map", lambda record: {"n": 1})
                ports.close()
                own = [thread.name for thread in threading.enumerate() if not thread.name.startswith(self.pools)]
                counts.append((len(os.listdir("/proc/self/fd")), len(own)))
            files, threads = zip(*counts, strict=True)
            assert files[-1] <= max(files[:5]), counts
            assert threads[-1] <= max(threads[:5]), counts
            world.ports = self.make_ports(world.run.id, 0, world.settings)


class _World:
    """A corpus, a run directory, and the ports over them."""

    ports: Ports

    def __init__(self, folder: Path, settings: Settings, server: ModelServer) -> None:
        self.settings = settings
        self._server = server
        self._logs = folder / "logs"
        self._logs.mkdir()
        for name in FILES:
            lines = [f"{name} {number} {'ERROR' if number % 4 == 0 else 'INFO'}\n" for number in range(LINES)]
            (self._logs / f"{name}.log").write_text("".join(lines))
        self.manifest: Manifest = open_manifest(str(self._logs), name="logs")
        origin: CorpusOrigin = {"uris": self.manifest.uris, "fingerprint": self.manifest.fingerprint}
        self.run = RunDirectory.create(str(folder / "runs"), None, {"question": "", "corpora": {"logs": origin}})
        self.manifest.save(self.run.path("manifest", "logs"))
        self._groups = 0

    # what is asked for

    def works(self) -> tuple[Work, ...]:
        return tuple(Work(shard, bind((), self.manifest.schema), self.run.uri, corpus="logs") for shard in self.manifest.shards)

    def lose(self, name: str) -> None:
        (self._logs / f"{name}.log").unlink()

    def code(self, kind: str, function: Callable[..., Any], combine: Callable[..., Any] = len, **changes: Any) -> CodeOutcome:
        self._groups += 1
        output = self.run.path("segments", f"code-{self._groups}")
        group = CodeGroup(
            kind,
            self.works(),
            cloudpickle.dumps(function),
            f"code-{self._groups}" if kind == "filter" else output,
            0,
            self.run.uri,
            self.settings,
            self.run.id,
            cloudpickle.dumps(combine),
        )
        outcome: CodeOutcome = self.result(self.ports.code(replace(group, **changes)))
        return outcome

    def query_group(self, query: str, columns: tuple[str, ...] | None, works: tuple[Work, ...] | None = None) -> QueryGroup:
        self._groups += 1
        output = self.run.path("segments", f"query-{self._groups}")
        given = self.works() if works is None else works
        schema = self.manifest.schema
        return QueryGroup(query, given, schema, columns, "shards", output, 0, self.settings, self.run.id)

    def leaf_group(self, texts: Sequence[str], name: str = "", budget: Budget | None = None) -> LeafGroup:
        self._groups += 1
        spec = LeafSpec.of(self.settings, "prompts", "", "leaf")
        return LeafGroup(
            f"leaves-{self._groups}",
            0,
            spec,
            tuple(texts),
            (),
            {},
            self.run.path("segments", f"leaves-{self._groups}"),
            budget or Budget.start(calls=100),
            self.settings,
            len(texts),
            run_dir=self.run.uri,
            id=f"0:{self._groups:08x}",
        )

    def call(self, call_id: str) -> Call:
        _, slice_ = Budget.of(self.settings).split(calls=10, deeper=True)
        context: UndescribedContext = {"plan": Plan((Source("logs"),)).to_json(), "info": None}
        contexts = {"context": context}
        return Call(self.run.uri, self.run.id, call_id, 1, "How many?", self.settings, slice_, None, contexts, "context")

    # what came of it

    def rows(self, segments: Sequence[Segment]) -> list[Row]:
        return [row for segment in segments for row in parquet.read_table(segment.uri).to_pylist()]

    def requests(self) -> int:
        return self._server.count

    def result(self, future: Future) -> Any:
        self.until(future.done, futures=[future])
        return future.result()

    def error(self, future: Future) -> RlmRayError:
        try:
            value = self.result(future)
        except RlmRayError as error:
            return error
        raise AssertionError(f"It came to {value!r} in place of an error.")

    def result_or_error(self, future: Future) -> Any:
        try:
            return self.result(future)
        except RlmRayError as error:
            return error

    def until(self, *conditions: Callable[[], bool], futures: Sequence[Future] = ()) -> None:
        """Wait as the recursion does, until each condition holds."""
        ends = time.monotonic() + PATIENCE
        while not all(condition() for condition in conditions):
            assert time.monotonic() < ends, "It has not ended."
            self.ports.wait(futures, [], PATIENCE if futures else 0.05)

    def until_requests(self, before: int) -> None:
        """Wait until the server has got more requests than before."""
        self.until(lambda: self.requests() > before)

    def wait_once(self, futures: Sequence[Future], descriptors: Sequence[int]) -> None:
        """Wait once, without a time; fail where that took too long."""
        started = time.monotonic()
        self.ports.wait(futures, descriptors, None)
        assert time.monotonic() - started < PATIENCE


def _no_progress(done: int, failed: int, used: Usage, contents: tuple[int, int]) -> None:
    """Whoever asks does not look at progress."""
