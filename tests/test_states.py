"""The tables of docs/states.md are what the loop and the sandbox's host do, each state under each event.

To renew them: ``RLM_RAY_RENEW_STATES=1 pytest tests/test_states.py``.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import pytest

from rlm_ray.errors import SandboxError, SandboxUnavailable
from rlm_ray.recursion.loop import loop
from rlm_ray.recursion.loop.history import History
from rlm_ray.sandbox.outside import host
from rlm_ray.sandbox.outside.events import CellDone, Limits, Request
from tests.sandbox.liars import Liars, frame

PAGE = Path(__file__).resolve().parents[1] / "docs" / "states.md"


def markdown(corner: str, columns: list[str], rows: dict[str, list[str]]) -> str:
    lines = [f"| {corner} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    return "\n".join([*lines, *(f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items())]) + "\n"


def held(name: str, table: str) -> None:
    """Compare a table with the page, or write it there when the environment asks for that."""
    pattern = re.compile(rf"(<!-- {name} -->\n)(.*?)(<!-- end -->)", re.DOTALL)
    text = PAGE.read_text("utf-8")
    if os.environ.get("RLM_RAY_RENEW_STATES") == "1":
        text = pattern.sub(lambda match: match[1] + table + match[3], text)
        PAGE.write_text(text, "utf-8")
    match = pattern.search(text)
    assert match is not None, f"{PAGE.name} has no table {name!r}"
    assert match[2] == table, "renew it: RLM_RAY_RENEW_STATES=1 pytest tests/test_states.py"


# -- the loop --------------------------------------------------------------------------------------------

_ONE, _TWO = "```repl\na = 1\n```", "```repl\na = 1\n```\n\n```repl\nb = 2\n```"
_LIMIT = loop.LimitReached("budget", "The budget is used up.")
#: Events of each class, by what distinguishes them.
LOOP_EVENTS: dict[str, loop.Event] = {
    "`Started`": loop.Started(),
    "`Replied`, with cells": loop.Replied(_TWO),
    "`Replied`, without a cell": loop.Replied("It is 4."),
    "`AskFailed`": loop.AskFailed("refused"),
    "`TooLong`": loop.TooLong("The context has 8,192 tokens."),
    "`CellDone`, no answer": loop.CellDone("out", requests=1),
    "`CellDone`, an error or an invalid answer": loop.CellDone("out", error="ValueError", requests=1),
    "`CellDone`, an answer": loop.CellDone("out", final={"kind": "json", "value": 4}, requests=1),
    "`LimitReached`": _LIMIT,
    "`Unaffordable`": loop.Unaffordable("A turn costs more than is left."),
    "`ProgramEnded`": loop.ProgramEnded("The data has changed."),
}


def loop_states() -> dict[str, loop.State]:
    """Every state, reached by events alone."""

    def after(*events: loop.Event, max_turns: int = 5) -> loop.State:
        state = loop.State(History("system", "task"), max_turns)
        for event in events:
            state, _ = loop.step(state, event)
        return state

    def family(name: str, *last: loop.Event) -> dict[str, loop.State]:
        limited = after(loop.Started(), *last, _LIMIT)
        return {
            name: after(loop.Started(), *last),
            f"{name}, limited": limited,
            f"{name}, last": after(loop.Started(), *last, max_turns=1),
            f"{name}, last, limited": after(loop.Started(), loop.Unaffordable("Too dear."), *last),
        }

    asking = family("asking")
    more, one = family("cells left", loop.Replied(_TWO)), family("last cell", loop.Replied(_ONE))
    return {"new": after(), **asking, **more, **one, "done": after(loop.Started(), loop.ProgramEnded("Gone."))}


def loop_name(state: loop.State) -> str:
    """The name of a state, from its fields."""
    if state.done:
        return "done"
    if state.turn == 0:
        return "new"
    doing = "asking" if state.ran == 0 else "cells left" if state.cells else "last cell"
    return doing + ", last" * state.last + ", limited" * (state.limit is not None)


def command_name(command: loop.Command) -> str:
    if isinstance(command, loop.Finish):
        answer = "no answer" if command.final is None else "complete" if command.complete else "partial"
        return f"`Finish`: {answer}, {command.stop_reason}"
    return f"`{type(command).__name__}`"


def test_every_state_is_what_its_name_says_and_every_event_is_tried() -> None:
    assert {name: loop_name(state) for name, state in loop_states().items()} == {name: name for name in loop_states()}
    assert {type(event) for event in LOOP_EVENTS.values()} == set(get_args(loop.Event))


#: The events that the driver can bring in a state; others cannot come, since it does one thing at a time.
_DURING = {
    "new": ("Started",),
    "asking": ("Replied", "AskFailed", "TooLong", "LimitReached", "Unaffordable", "ProgramEnded"),
    "cells left": ("CellDone", "LimitReached"),
    "last cell": ("CellDone", "LimitReached"),
}


@pytest.mark.parametrize("doing", ["asking", "cells left", "last cell"])
def test_the_loops_table(doing: str) -> None:
    states = {name: state for name, state in loop_states().items() if name.split(",")[0] == doing}
    rows = {}
    for name, event in LOOP_EVENTS.items():
        if type(event).__name__ in _DURING[doing]:
            outcomes = [loop.step(state, event) for state in states.values()]
            rows[name] = [
                "; ".join([loop_name(after), *map(command_name, commands)]).removeprefix("done; ") for after, commands in outcomes
            ]
    held(f"loop: {doing}", markdown("event", [f"*{name}*" for name in states], rows))


def test_a_loop_that_is_done_stays_done() -> None:
    done = loop_states()["done"]
    assert all(loop.step(done, event) == (done, []) for event in LOOP_EVENTS.values())
    first, commands = loop.step(loop_states()["new"], loop.Started())
    assert (loop_name(first), [type(command) for command in commands]) == ("asking", [loop.AskRoot])


def test_an_answer_before_anything_was_read_is_questioned_once() -> None:
    unread = replace(loop_states()["last cell"], questions_unread=True)
    blind = replace(LOOP_EVENTS["`CellDone`, an answer"], requests=0)
    state, commands = loop.step(unread, blind)
    assert (loop_name(state), [type(command) for command in commands]) == ("asking", [loop.AskRoot])
    state, _ = loop.step(loop.step(state, loop.Replied(_ONE))[0], blind)
    assert loop_name(state) == "done"


# -- the sandbox's host -----------------------------------------------------------------------------------


class Hosted:
    """A host whose child says what the test lets it say, brought into a state by frames and calls alone."""

    def __init__(self, liars: Liars, state: str) -> None:
        self.liars = liars
        # a snapshot of an earlier child makes the host restore
        snapshot = b"" if state != "restoring" else self._snapshot()
        self.box = host.Sandbox({}, level="strict", limits=Limits(), snapshot=snapshot or None)
        self.events: list[Any] = []
        if state != "starting":
            self.say({"t": "ready", "walls": {}})
            self.say({"t": "set"})
        if state in ("running", "keeping"):
            self.box.start_cell("1")
        if state == "keeping":
            self.say({"t": "done", "n": 1, "names": ["a"]}, b"[null]")
        if state == "closed":
            self.box.close()
        assert self.state == state
        self.events.clear()

    def _snapshot(self) -> bytes:
        before = Hosted(self.liars, "keeping")
        before.say({"t": "snapshot", "n": 1, "names": ["a"], "new": [["a", 2]]}, b"xx")
        before.close()
        return before.box.snapshot

    def close(self) -> None:
        self.box.close()

    @property
    def state(self) -> str:
        return self.box._state

    def say(self, header: dict[str, Any], blob: bytes = b"") -> None:
        self.liars.now.say(frame(header, blob))
        self.events += self.box.receive()


def _late(hosted: Hosted) -> None:
    """The deadline of the state passes."""
    if hosted.box._clock is not None:
        hosted.box._clock.wall_ends = time.monotonic() - 1
    elif hosted.box._state_ends is not None:
        hosted.box._state_ends = time.monotonic() - 1
    hosted.events += hosted.box.receive()


def _hang_up(hosted: Hosted) -> None:
    hosted.liars.now.mouth.close()
    hosted.events += hosted.box.receive()


def _bad_bytes(hosted: Hosted) -> None:
    hosted.liars.now.say(b"\xff" * 64)
    hosted.events += hosted.box.receive()


HOST_EVENTS: dict[str, Callable[[Hosted], None]] = {
    "frame `ready`": lambda hosted: hosted.say({"t": "ready", "walls": {}}),
    "frame `set`": lambda hosted: hosted.say({"t": "set"}),
    "frame `set` with an error": lambda hosted: hosted.say({"t": "set", "error": "no such name"}),
    "frame `refused`": lambda hosted: hosted.say({"t": "refused", "why": "no Landlock"}),
    "frame `restoring`": lambda hosted: hosted.say({"t": "restoring", "name": "a"}),
    "frame `restored`": lambda hosted: hosted.say({"t": "restored"}),
    "frame `call`": lambda hosted: hosted.say({"t": "call", "id": 1, "verb": "count", "args": {}}),
    "frame `done`": lambda hosted: hosted.say({"t": "done", "n": 1}, b"[null]"),
    "frame `snapshot`": lambda hosted: hosted.say({"t": "snapshot", "n": 1, "names": [], "new": []}),
    "frame `failed`": lambda hosted: hosted.say({"t": "failed", "why": "memory"}),
    "bytes that are no frame": _bad_bytes,
    "the child ends": _hang_up,
    "the deadline passes": _late,
    "`start_cell`": lambda hosted: hosted.box.start_cell("2"),
    "`interrupt`": lambda hosted: hosted.box.interrupt(),
    "`close`": lambda hosted: hosted.box.close(),
}


def outcome(liars: Liars, state: str, act: Callable[[Hosted], None]) -> str:
    """What an event does in a state, in a few words: the next state, events for the driver, an error."""
    hosted = Hosted(liars, state)
    queued = hosted.box._queued
    try:
        try:
            act(hosted)
        except (SandboxUnavailable, SandboxError) as error:
            return f"`{type(error).__name__}`" + (f", {hosted.state}" if hosted.state != state else "")
        restarted = hosted.box.events["restarts"] > 0
        words = ["**restart**" if restarted else "" if hosted.state == state else hosted.state]
        words += [f"`{type(event).__name__}`" for event in hosted.events if isinstance(event, CellDone | Request)]
        words += ["the cell waits"] if hosted.box._queued is not None and queued is None else []
        return ", ".join(filter(None, words)) or "·"
    finally:
        hosted.close()


def test_the_hosts_table(monkeypatch: pytest.MonkeyPatch) -> None:
    liars = Liars()
    monkeypatch.setattr(host, "pool", lambda: liars)
    states = list(get_args(host._State))
    rows = {name: [outcome(liars, state, act) for state in states] for name, act in HOST_EVENTS.items()}
    held("host", markdown("event", [f"*{state}*" for state in states], rows))


def test_a_child_that_never_starts_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    liars = Liars()
    monkeypatch.setattr(host, "pool", lambda: liars)
    box = host.Sandbox({}, level="strict", limits=Limits())
    for _ in range(host.MAX_FAILED_STARTS - 1):
        liars.now.mouth.close()
        assert box.receive() == []
        assert box._state == "starting"
    liars.now.mouth.close()
    with pytest.raises(SandboxError, match=f"ended {host.MAX_FAILED_STARTS} times before it ran anything"):
        box.receive()
    assert box._state == "closed"


def test_the_page_names_every_state() -> None:
    text = PAGE.read_text("utf-8")
    assert all(f"*{state}*" in text for state in [*get_args(host._State), *loop_states()])
    assert {field.name for field in fields(loop.State)} >= {"done", "turn", "ran", "cells", "last", "limit"}
