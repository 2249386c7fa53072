"""The parent's side against any bytes: a child of the test's own says whatever hypothesis thinks of."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_ray.errors import SandboxError
from rlm_ray.sandbox.outside import host, store
from rlm_ray.sandbox.outside.events import Limits, Request, Restarted
from rlm_ray.sandbox.wire.channel import PREFIX, dumps
from tests.sandbox.liars import GOOD, Liars, check, frame


@pytest.fixture
def liars(monkeypatch):
    found = Liars()
    monkeypatch.setattr(host, "pool", lambda: found)
    return found


scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.integers() | st.text(max_size=20) | st.just("x")
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6
)
names = st.lists(st.sampled_from(["a", "b", "\ud800", 5, None, "x" * 300]), max_size=4)
headers = st.one_of(
    st.fixed_dictionaries({"t": st.just("ready"), "walls": st.just({"seccomp": True}) | values}),
    st.fixed_dictionaries({"t": st.just("set")}, optional={"error": values}),
    st.fixed_dictionaries(
        {"t": st.just("call"), "id": st.integers(0, 4) | values, "verb": st.just("ping") | values, "args": st.just({}) | values}
    ),
    st.fixed_dictionaries(
        {"t": st.just("done"), "n": st.integers(0, 3)},
        optional=dict.fromkeys(("output", "error", "problem", "names", "cut", "denied"), values)
        | {"final": st.sampled_from(["json", "records", "corpus", "x", 3])},
    ),
    st.fixed_dictionaries(
        {"t": st.just("snapshot"), "n": st.integers(0, 3)},
        optional={
            "names": names | values,
            "new": st.lists(st.tuples(st.sampled_from("ab"), st.integers(-1, 9)), max_size=3) | values,
            "lost": names | values,
        },
    ),
    st.fixed_dictionaries(
        {"t": st.sampled_from(["restoring", "restored", "failed"])}, optional={"name": values, "lost": names, "why": values}
    ),
    st.dictionaries(st.text(max_size=4), values, max_size=3),
)
blobs = st.binary(max_size=20) | values.map(dumps)


actions = st.one_of(
    st.tuples(st.just("say"), st.builds(frame, headers, blobs, st.sampled_from([0, 0, 0, 0, 1, 9]))),
    st.tuples(st.just("say"), st.sampled_from(GOOD)),
    st.tuples(st.just("say"), st.binary(min_size=1, max_size=30)),
    st.tuples(st.sampled_from(["start", "interrupt", "close", "receive"]), st.just(b"")),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(actions, max_size=25))
def test_no_bytes_harm_the_parent(liars, script):
    limits = Limits(requests=3)
    box = host.Sandbox({}, level="strict", limits=limits)
    liars.now.say(GOOD[0])
    try:
        for what, data in script:
            if what == "say":
                liars.now.say(data)
            elif what == "start" and not box.busy:
                box.start_cell("1")
            elif what == "interrupt":
                box.interrupt()
            elif what == "close":
                liars.now.mouth.close()
            for event in box.receive():
                check(event)
                if isinstance(event, Request):
                    box.reply(event.id, {"value": 1})
            assert isinstance(box.snapshot, bytes)
            assert all(type(count) is int and count >= 0 for count in box.events.values())
    except SandboxError:
        pass  # it gave up on a child that dies again and again: the run's error, not a crash
    finally:
        box.close()


@pytest.fixture
def started(liars):
    """A function that makes a sandbox whose lying child runs a cell."""
    boxes = []

    def start(limits):
        boxes.append(host.Sandbox({}, level="strict", limits=limits))
        liars.now.say(GOOD[0])
        boxes[-1].receive()
        boxes[-1].start_cell("1")
        return boxes[-1]

    yield start
    for box in boxes:
        box.close()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (frame({"t": "call", "id": 2, "verb": "ping", "args": {}}, b""), "out of turn"),
        (frame({"t": "call", "id": True, "verb": "ping", "args": {}}, b""), "out of turn"),
        (frame({"t": "call", "id": 1, "verb": "ping", "args": []}, b""), "malformed"),
        (frame({"t": "done", "n": 2}, b""), "unexpected frame 'done'"),
        (frame({"t": "snapshot", "n": 1}, b""), "unexpected frame 'snapshot'"),
        (frame({"t": "ready", "walls": {}}, b""), "unexpected frame 'ready'"),
        (PREFIX.pack(1 << 30, 0, 0), "larger than accepted"),
        (PREFIX.pack(2, 0, 1) + b"{}", "flag 1"),
        (PREFIX.pack(3, 0, 0) + b"\xff{}", "not JSON"),
        (PREFIX.pack(4, 0, 0) + b"null", "not an object"),
        (frame({"t": "done", "n": 1}, b"") + frame({"t": "snapshot", "n": 1, "names": [], "new": [["a", 9]]}, b"12"), "sizes"),
        (frame({"t": "done", "n": 1}, b"") + frame({"t": "done", "n": 1}, b""), "unexpected frame"),
    ],
)
def test_a_lie_ends_the_child_and_is_counted(liars, started, said, reason):
    box = started(Limits())
    liars.now.say(said)
    box.receive()
    assert box.events == {"denials": 0, "restarts": 1, "protocol_errors": 1}
    liars.now.say(GOOD[0])
    (*_, restarted) = box.receive()
    assert isinstance(restarted, Restarted)
    assert reason in restarted.reason


def test_a_child_that_does_not_read_is_ended(liars, started):
    box = started(Limits(requests=10**9))
    first = liars.now
    number = 0
    while liars.now is first:
        number += 1
        first.say(frame({"t": "call", "id": number, "verb": "ping", "args": {}}, b""))
        for event in box.receive():
            box.reply(event.id, "y" * 30_000)
        assert number < 10_000
    assert box.events["protocol_errors"] == 1


def test_more_open_calls_than_threads_end_the_child(liars, started):
    box = started(Limits())
    first = liars.now
    for number in range(1, host.MAX_OPEN + 2):
        first.say(frame({"t": "call", "id": number, "verb": "ping", "args": {}}, b""))
        box.receive()
    assert liars.now is not first


def test_a_refusal_is_the_error_that_names_the_walls(liars):
    box = host.Sandbox({}, level="strict", limits=Limits())
    liars.now.say(frame({"t": "refused", "why": "this kernel has no Landlock\x1b"}, b""))
    with pytest.raises(SandboxError, match=r"no Landlock$"):
        box.receive()
    assert box.receive() == []


def test_a_child_that_ends_while_it_restores_gets_a_second_chance_then_the_variable_is_left_out(liars):
    box = host.Sandbox({}, level="strict", limits=Limits(), snapshot=store.pack({"a": b"1", "b": b"2"}))
    for kept in (["a", "b"], ["a", "b"], ["b"]):
        assert sorted(store.unpack(box.snapshot)) == kept
        liars.now.say(GOOD[0] + frame({"t": "restoring", "name": "a"}, b""))
        box.receive()
        liars.now.mouth.close()
        box.receive()
    box.close()


def test_a_child_that_says_nothing_of_what_it_restores_costs_all_only_the_second_time(liars):
    box = host.Sandbox({}, level="strict", limits=Limits(), snapshot=store.pack({"a": b"1", "b": b"2"}))
    for kept in (["a", "b"], ["a", "b"], []):
        assert sorted(store.unpack(box.snapshot)) == kept
        liars.now.say(GOOD[0])
        box.receive()
        liars.now.mouth.close()
        box.receive()
    box.close()
