"""The handle against a backend that writes down what it is asked: what is lazy, what is asked for, what is refused."""

from __future__ import annotations

import copy
import datetime
import pickle
import re
from typing import Any

import cloudpickle
import numpy
import pytest

from rlm_ray.errors import InputError
from rlm_ray.handle.chunks import Chunks
from rlm_ray.handle.corpus import Backend as AnyBackend
from rlm_ray.handle.corpus import Corpus
from rlm_ray.handle.parts import parts_from_json, parts_to_json
from rlm_ray.handle.plan import Between, Grep, Plan, Result, Select, Slice, Source, Split, Where
from rlm_ray.sandbox.inside import snapshot

INFO = {
    "kind": "parquet",
    "unit": "row",
    "schema": {"ts": "timestamp[us]", "level": "string", "msg": "string"},
    "nbytes": 2_000_000,
    "shards": 4,
    "records": 1_000,
    "estimate": None,
    "partitions": {},
    "failed": [],
}

READING = {"shards": 1, "of_shards": 4, "nbytes": 500_000, "of_nbytes": 2_000_000}


class Backend(AnyBackend):
    """Replies with what a test put in, by verb."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.blobs: list[bytes] = []
        self.replies: dict[str, list[Any]] = {"check_pattern": [None] * 100, "reading": [READING] * 100}

    def call(self, verb: str, args: dict[str, Any], blob: bytes = b"") -> tuple[Any, bytes]:
        self.asked.append((verb, args))
        self.blobs.append(blob)
        reply = self.replies[verb].pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply, b""


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def context(backend: Backend) -> Corpus:
    return Corpus(Plan((Source("context"),)), INFO, backend)


def steps(corpus: Corpus) -> tuple[Any, ...]:
    return corpus.plan.steps


# know


def test_what_is_known_without_reading(context: Corpus, backend: Backend) -> None:
    assert context.schema == {"ts": "timestamp[us]", "level": "string", "msg": "string"}
    assert context.columns == ["ts", "level", "msg"]
    assert (context.nbytes, context.shards) == (2_000_000, 4)
    assert repr(context).startswith(
        "<Corpus context: rows, 4 shards, 2.0 MB, 1,000 records; columns: ts, level, msg. It holds no data"
    )
    assert repr(context.describe()).startswith("kind: parquet\nunit: row")
    assert bool(context)
    assert backend.asked == []


def test_knowing_nothing_is_fine(backend: Backend) -> None:
    bare = Corpus(Plan((Result("0-r1"),)), {"kind": "result"}, backend)
    assert (bare.nbytes, bare.shards, bare.schema) == (0, 0, {})
    assert "records not counted" in repr(bare)


def test_a_description_names_the_narrowing_and_no_count_of_the_whole(context: Corpus) -> None:
    told = context.grep("timeout").select("msg")[5:10].describe()
    assert told["schema"] == {"msg": "string"}
    assert told["narrowed by"] == ["grep('timeout')", "select(('msg',))", "[5:10]"]
    assert "records" not in told
    assert told["would read"] == "at most 1 of 4 shards, 500 KB of 2.0 MB"


def test_an_estimate_is_marked(backend: Backend) -> None:
    guessed = Corpus(Plan((Source("context"),)), INFO | {"records": None, "estimate": 50_000}, backend)
    assert "about 50,000 records" in repr(guessed)
    assert "records not counted" in repr(guessed[1:])


# look


def test_looks_are_asked_of_the_backend(context: Corpus, backend: Backend) -> None:
    backend.replies |= {"head": [[{"msg": "a"}]], "sample": [[]], "text": ["some text"], "record": [{"msg": "b"}]}
    plan = context.plan.to_json()
    assert context.head() == [{"msg": "a"}]
    assert context.sample(3, seed=7) == []
    assert context.text(100) == "some text"
    assert context[17] == {"msg": "b"}
    assert backend.asked == [
        ("head", {"plan": plan, "n": 5}),
        ("sample", {"plan": plan, "n": 3, "seed": 7}),
        ("text", {"plan": plan, "max_chars": 100}),
        ("record", {"plan": plan, "index": 17}),
    ]


@pytest.mark.parametrize("n", [-1, 1.5, "5", None, True])
def test_a_number_of_records_is_a_count(context: Corpus, backend: Backend, n: Any) -> None:
    for look in (context.head, context.sample, context.text):
        with pytest.raises(InputError, match=r"is no count\. Give a whole number from 0"):
            look(n)
    assert backend.asked == []


def test_a_count_is_remembered(context: Corpus, backend: Backend) -> None:
    backend.replies["count"] = [1_000, 12]
    assert context.count() == len(context) == context.count() == 1_000
    narrowed = context.grep("x")
    assert len(narrowed) == 12
    assert [verb for verb, _ in backend.asked].count("count") == 2
    assert "12 records" in repr(narrowed)
    assert narrowed.describe()["records"] == 12


def test_iterating_asks_for_page_after_page(context: Corpus, backend: Backend) -> None:
    backend.replies["page"] = [{"records": [{"n": 1}, {"n": 2}], "after": [0, 5, 1]}, {"records": [{"n": 3}], "after": None}]
    assert [record["n"] for record in context] == [1, 2, 3]
    assert [args["after"] for _, args in backend.asked] == [None, [0, 5, 1]]


def test_iterating_is_lazy(context: Corpus, backend: Backend) -> None:
    backend.replies["page"] = [{"records": [{"n": 1}, {"n": 2}], "after": [0, 5, 1]}]
    assert next(iter(context)) == {"n": 1}


def test_a_slice_is_lazy_and_a_number_from_the_end_counts(context: Corpus, backend: Backend) -> None:
    assert steps(context[10:20]) == (Slice(10, 20),)
    assert steps(context[:20]) == (Slice(0, 20),)
    assert steps(context[10:]) == (Slice(10, None),)
    assert steps(context[20:10]) == (Slice(20, 20),)
    assert steps(context[::1]) == (Slice(0, None),)
    assert backend.asked == []
    backend.replies |= {"count": [1_000], "record": [{}]}
    assert steps(context[-5:]) == (Slice(995, None),)
    assert steps(context[:-990]) == (Slice(0, 10),)
    assert steps(context[-2_000:3]) == (Slice(0, 3),)
    context[-1]
    assert backend.asked[-1][1]["index"] == 999
    with pytest.raises(IndexError, match="record -1001 of 1000"):
        context[-1_001]


@pytest.mark.parametrize("key", ["msg", True, 1.5, None, (1, 2)])
def test_other_keys_say_what_to_do(context: Corpus, key: Any) -> None:
    with pytest.raises(InputError, match=r"indexed by a record's number or a slice.*use \.select"):
        context[key]
    with pytest.raises(InputError, match="no slices with step 2"):
        context[::2]


# narrow


def test_narrowing_is_lazy_and_gives_another_handle(context: Corpus, backend: Backend) -> None:
    narrowed = context.select("msg", "level").where([("level", "==", "ERROR")])[:10]
    assert steps(narrowed) == (Select(("msg", "level")), Where((("level", "==", "ERROR"),)), Slice(0, 10))
    assert narrowed.columns == ["msg", "level"]
    assert steps(context) == ()
    assert backend.asked == []


def test_select_takes_a_list_too(context: Corpus) -> None:
    assert context.select(["msg", "ts"]) == context.select("msg", "ts")


@pytest.mark.parametrize(
    "narrow",
    [
        lambda c: c.select("nope"),
        lambda c: c.select("msg").select("level"),
        lambda c: c.where([("nope", "==", 1)]),
        lambda c: c.grep("x", column="nope"),
        lambda c: c.split("nope"),
        lambda c: c.count_by("nope"),
        lambda c: c.chunks(by="nope"),
    ],
)
def test_a_column_that_is_not_there_is_an_error_at_once(context: Corpus, backend: Backend, narrow: Any) -> None:
    with pytest.raises(InputError, match=r"There is no column '\w+'\. The columns are: "):
        narrow(context)
    assert backend.asked == []


def test_conditions_in_every_way_of_writing(context: Corpus) -> None:
    one = Where((("level", "==", "ERROR"),))
    assert steps(context.where([("level", "==", "ERROR")])) == (one,)
    assert steps(context.where(("level", "==", "ERROR"))) == (one,)
    assert steps(context.where([["level", "==", "ERROR"]])) == (one,)  # type: ignore[list-item]
    assert steps(context.where(("level", "==", "ERROR"), ("msg", "!=", None))) == (
        Where((("level", "==", "ERROR"), ("msg", "!=", None))),
    )
    assert steps(context.where([("level", "==", ["A", "B"])])) == (Where((("level", "in", ("A", "B")),)),)
    assert steps(context.where([("level", "not in", {"A"})])) == (Where((("level", "not in", ("A",)),)),)


@pytest.mark.parametrize("condition", ["level == 'x'", 5, ("level", "=="), {"level": "x"}, None])
def test_what_is_no_condition(context: Corpus, condition: Any) -> None:
    with pytest.raises(InputError, match=r"is no condition\. Give \(column, operator, value\)"):
        context.where([condition])


def test_an_operator_that_is_none(context: Corpus) -> None:
    with pytest.raises(InputError, match="operator = 'like'"):
        context.where([("level", "like", "x")])


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        (datetime.datetime(2026, 1, 2, 3, 4), "2026-01-02 03:04:00"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.time(3, 4), "03:04:00"),
        (numpy.int64(5), 5),
        (numpy.float64(0.5), 0.5),
        (None, None),
        (True, True),
    ],
)
def test_values_of_conditions_become_plain(context: Corpus, value: Any, literal: Any) -> None:
    (step,) = steps(context.where([("ts", ">=", value)]))
    assert step.conditions[0][2] == literal
    assert type(step.conditions[0][2]) is type(literal)


def test_a_pattern_is_compiled_at_once(context: Corpus, backend: Backend) -> None:
    assert steps(context.grep("a+", column="msg", ignore_case=True, invert=True)) == (Grep("a+", "msg", True, True),)
    assert backend.asked == [("check_pattern", {"pattern": "a+", "ignore_case": True})]
    backend.replies["check_pattern"] = [InputError("the pattern cannot work")]
    with pytest.raises(InputError, match="the pattern cannot work"):
        context.grep("(")


def test_splitting(context: Corpus, backend: Backend) -> None:
    assert steps(context.split("msg")) == (Split("msg", "paragraph", None),)
    assert steps(context.split("msg", by="line", max_chars=100)) == (Split("msg", "line", 100),)
    assert backend.asked == []
    assert steps(context.split("msg", by=r"\n---\n")) == (Split("msg", r"\n---\n", None),)
    assert backend.asked == [("check_pattern", {"pattern": r"\n---\n", "ignore_case": False})]


# compute


def test_count_by(context: Corpus, backend: Backend) -> None:
    backend.replies["count_by"] = [{"counts": [["ERROR", 5], [None, 2], [["a", "b"], 1]], "distinct": 900}]
    counts = context.count_by("level", limit=3)
    assert counts == {"ERROR": 5, None: 2, "['a', 'b']": 1}
    assert counts.distinct == 900
    assert backend.asked[0][1]["limit"] == 3


def test_functions_are_sent_as_bytes(context: Corpus, backend: Backend) -> None:
    offset = 3
    reply = {"plan": Plan((Result("0-r1"),)).to_json(), "info": {"kind": "result", "schema": {"n": "int64"}}}
    backend.replies |= {"map": [reply], "filter": [reply], "aggregate": [{"value": 41}]}
    result = context.map(lambda record: {"n": record["n"] + offset})
    assert result.schema == {"n": "int64"}
    assert cloudpickle.loads(backend.blobs[0])({"n": 2}) == {"n": 5}
    context.filter(lambda record: record["n"] > offset)
    assert cloudpickle.loads(backend.blobs[1])({"n": 2}) is False
    assert context.aggregate(len, lambda a, b: a + b) == 41
    cut = backend.asked[2][1]["combine_at"]
    assert cloudpickle.loads(backend.blobs[2][:cut]) is len
    assert cloudpickle.loads(backend.blobs[2][cut:])(1, 2) == 3


@pytest.mark.parametrize("function", [None, "len", 5])
def test_what_is_no_function(context: Corpus, function: Any) -> None:
    for verb in (context.map, context.filter, lambda fn: context.aggregate(len, fn)):
        with pytest.raises(InputError, match="is no function"):
            verb(function)


# results


def test_rows_that_failed_and_those_that_did_not(context: Corpus, backend: Backend) -> None:
    result = Corpus(Plan((Result("0-r1"),)), {"kind": "result", "schema": {"answer": "string"}}, backend)
    assert steps(result.ok) == (Where((("_error", "==", None),)),)
    assert steps(result.failed) == (Where((("_error", "!=", None),)),)
    backend.replies["progress"] = [{"finished": False}]
    assert result.progress == {"finished": False}
    assert backend.asked == [("progress", {"id": "0-r1"})]
    with pytest.raises(InputError, match="Only the results"):
        context.failed  # noqa: B018
    with pytest.raises(InputError, match="has progress"):
        context.progress  # noqa: B018


def test_chunks_are_a_sequence_of_handles(context: Corpus, backend: Backend) -> None:
    borders = [[None, [0, 9, 0], 900, 9], [[0, 9, 0], None, 400, None]]
    backend.replies["chunks"] = [borders]
    chunks = context.grep("x").chunks(tokens=200, overlap=10)
    assert backend.asked[-1][1] | {"plan": None} == {"plan": None, "tokens": 200, "by": None, "overlap": 10}
    assert len(chunks) == 2
    assert steps(chunks[0]) == (Grep("x"), Between(None, (0, 9, 0)))
    assert steps(chunks[-1]) == (Grep("x"), Between((0, 9, 0), None))
    assert chunks[0].nbytes == 900
    assert [chunk.nbytes for chunk in chunks] == [900, 400]
    assert isinstance(chunks[:1], Chunks)
    assert repr(chunks) == "<2 chunks of 1.3 KB in all; each is a Corpus>"
    with pytest.raises(IndexError):
        chunks[2]


def test_chunks_by_a_column_hold_one_value_each(context: Corpus, backend: Backend) -> None:
    backend.replies["chunks"] = [[[None, None, 10, 1, "ERROR"], [None, None, 10, 1, None]]]
    chunks = context.chunks(by="level")
    assert steps(chunks[0])[0] == Where((("level", "==", "ERROR"),))
    assert steps(chunks[1])[0] == Where((("level", "==", None),))


# pass on


def test_handles_compare_by_their_plans(context: Corpus) -> None:
    assert context.grep("x") == context.grep("x")
    assert context.grep("x") != context.grep("y")
    assert len({context, context[:], context[0:]}) == 2
    assert context != "context"


def test_a_pickled_handle_has_no_backend_unless_its_pickler_knows_it_by_name(context: Corpus, backend: Backend) -> None:
    backend.replies |= {"count": [5], "chunks": [[[None, None, 10, 1]]]}
    chunks = context.chunks()
    narrowed, pickled = pickle.loads(pickle.dumps((context.grep("x"), chunks)))
    assert narrowed == context.grep("x")
    assert narrowed.schema == context.schema
    with pytest.raises(InputError, match="a function that runs over shards cannot use a handle"):
        narrowed.count()
    assert list(pickled) == list(chunks)
    snapshot.set_fixtures({"backend": backend})
    try:
        restored = snapshot.load(snapshot.dump(context.grep("x"), {}))
    finally:
        snapshot.set_fixtures({})
    assert restored.backend is backend
    assert restored.count() == 5


def test_a_copy_of_a_handle_is_the_handle(context: Corpus) -> None:
    assert copy.copy(context) is context
    assert copy.deepcopy({"kept": [context]})["kept"][0] is context


def test_a_handle_is_not_text(context: Corpus) -> None:
    with pytest.raises(TypeError):
        re.findall("x", context)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        context + "x"  # type: ignore[operator]


def test_parts_travel_with_what_they_share_said_once(context: Corpus, backend: Backend) -> None:
    backend.replies["chunks"] = [[[None, [0, 9, 0], 9, 9], [[0, 9, 0], None, 4, None]]]
    chunks = list(context.grep("x").chunks())
    parts = [*chunks, "a text", chunks[0], context, context.grep("y"), context.grep("x")]
    written = parts_to_json(parts)
    assert [part.get("base") is None for part in written] == [False, True, True, True, False, False, True]
    read = parts_from_json(written)
    assert read == [part if isinstance(part, str) else part.plan for part in parts]


@pytest.mark.parametrize(
    "written",
    [
        None,
        "x",
        {},
        [5],
        [None],
        [{"text": 5}],
        [{}],
        [{"base": None, "step": {"node": "grep", "pattern": "x"}}],
        [{"base": [{"node": "source", "corpus": "c"}], "step": {"node": "source", "corpus": "d"}}],
        [{"base": [{"node": "source", "corpus": "c"}], "step": None}, {"base": None, "step": {"node": "grep", "pattern": "x"}}],
    ],
)
def test_what_are_no_parts(written: Any) -> None:
    with pytest.raises(InputError):
        parts_from_json(written)


@pytest.mark.parametrize("part", [5, None, {"msg": "a"}, ["a"], b"bytes"])
def test_what_is_no_part(part: Any) -> None:
    with pytest.raises(InputError, match="A part is a Corpus or a str"):
        parts_to_json([part])


def test_a_handle_cannot_be_changed(context: Corpus) -> None:
    with pytest.raises(AttributeError):
        context.other = 5  # type: ignore[attr-defined]
    schema = context.schema
    schema["more"] = "string"
    assert "more" not in context.schema
