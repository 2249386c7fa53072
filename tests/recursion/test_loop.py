"""The loop, driven by hand: what it commands for each event, and what the root is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.recursion.loop import feedback
from rlm_ray.recursion.loop.history import History
from rlm_ray.recursion.loop.loop import (
    AskFailed,
    AskRoot,
    CellDone,
    Command,
    Event,
    Finish,
    LimitReached,
    Replied,
    RunCell,
    Started,
    State,
    TooLong,
    Unaffordable,
    step,
)

ANSWER = {"kind": "json", "value": 5}
OUT_OF_TIME = LimitReached("time", "The 60 seconds of the run are over.")


def cell(code: str, mark: str = "repl") -> str:
    return f"```{mark}\n{code}\n```"


class Played:
    """A loop that was started, and the commands that the last event gave."""

    def __init__(self, max_turns: int = 5, questions_unread: bool = False, **options: Any) -> None:
        self.state = State(History("system", "task", **options), max_turns, questions_unread=questions_unread)
        self.commands: list[Command] = []
        self.take(Started())

    def take(self, *events: Event) -> Command | None:
        """Take events; return what the last one commanded."""
        for event in events:
            self.state, self.commands = step(self.state, event, "Left: 9 calls.")
        assert len(self.commands) <= 1
        return self.commands[0] if self.commands else None

    def reply(self, *codes: str, cut: bool = False) -> Command | None:
        return self.take(Replied("\n".join(map(cell, codes)), cut))

    @property
    def asked(self) -> AskRoot:
        """The question that was just commanded."""
        (command,) = self.commands
        assert isinstance(command, AskRoot)
        return command

    @property
    def told(self) -> str:
        """The last message that the root is shown."""
        return self.asked.messages[-1]["content"]


def test_it_begins_with_the_system_prompt_and_the_task() -> None:
    played = Played()
    assert played.asked == AskRoot(({"role": "system", "content": "system"}, {"role": "user", "content": "task"}), last=False)
    assert played.state.turn == 1


def test_one_turn_after_another() -> None:
    played = Played()
    assert played.reply("print(1)") == RunCell(1, 1, "print(1)")
    played.take(CellDone("1\n"))
    assert [message["role"] for message in played.asked.messages] == ["system", "user", "assistant", "user"]
    assert played.told == "Cell 1 printed:\n1\n\nTurn 2 of 5. Left: 9 calls."
    assert played.reply("Final = 5") == RunCell(2, 1, "Final = 5")
    assert played.take(CellDone("", final=ANSWER)) == Finish(ANSWER, True, "answered")
    assert played.state.done


def test_cells_of_one_reply_run_in_order() -> None:
    played = Played()
    assert played.reply("a = 1", "print(a)", "print(b)") == RunCell(1, 1, "a = 1")
    assert played.take(CellDone("")) == RunCell(1, 2, "print(a)")
    assert played.take(CellDone("1\n")) == RunCell(1, 3, "print(b)")
    played.take(CellDone("", error="NameError: b"))
    assert played.told.startswith(
        "Cell 1 printed nothing.\n\nCell 2 printed:\n1\n\nCell 3 printed nothing.\nIt raised:\nNameError: b"
    )


def test_a_turn_that_repeats_the_one_before_is_told_so_as_the_last_turn_is() -> None:
    played = Played()
    for _ in range(3):
        played.reply("print(1)")
        played.take(CellDone("1\n"))
    repeated = [message["content"] for message in played.asked.messages if "the same as in the turn before" in message["content"]]
    assert len(repeated) == 2
    assert "Set Final now, from what the variables hold, or write other code.\n\nTurn 4 of 5." in played.told
    played.reply("print(2)")
    played.take(CellDone("1\n"))
    assert "the same as" not in played.told
    assert "This is your last turn: set Final now" in played.told
    other = Played()
    for printed in ("1\n", "2\n"):  # the same code gives something else: it gets on
        other.reply("print(next(numbers))")
        other.take(CellDone(printed))
    assert "the same as" not in other.told


def test_the_same_words_without_a_cell_are_told_so() -> None:
    played = Played()
    played.take(Replied("I will look."), Replied("I will look."))
    assert "There was no code in that reply." in played.told
    assert "the same as in the turn before" in played.told


def test_an_error_skips_the_cells_behind_it() -> None:
    played = Played()
    played.reply("x", "Final = 1", "Final = 2")
    played.take(CellDone("before\n", error="NameError: name 'x' is not defined"))
    assert "It raised:\nNameError: name 'x' is not defined\nVariables assigned before that line are kept." in played.told
    assert "The 2 cells after it did not run." in played.told
    assert played.state.cells == ()


def test_an_answer_that_is_none_skips_the_cells_behind_it() -> None:
    played = Played()
    played.reply("Final = open", "print(1)")
    played.take(CellDone("", problem="Final is a function, which is not plain data."))
    assert "Final was not taken: Final is a function" in played.told
    assert "The 1 cell after it did not run." in played.told


def test_an_answer_ends_the_run_also_when_the_cell_then_raises_and_more_cells_stand() -> None:
    played = Played()
    played.reply("Final = 5; 1/0", "print(1)")
    assert played.take(CellDone("", error="ZeroDivisionError", final=ANSWER)) == Finish(ANSWER, True, "answered")


def test_a_history_longer_than_the_context_window_is_folded_and_asked_again() -> None:
    played = Played()
    for number in range(3):
        played.reply(f"print({number})")
        played.take(CellDone("x" * 4_000, requests=1))
    before = played.state.history.tokens()
    sizes = []
    while isinstance(done := played.take(TooLong("The context has 1,000 tokens.")), AskRoot):
        sizes.append(sum(len(message["content"]) for message in done.messages))
        assert len(sizes) < 20
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] / 4 < before * 0.7
    assert isinstance(done, Finish)
    assert (done.complete, done.stop_reason) == (False, "model")
    assert "history_tokens" in done.message


def test_an_unread_answer_is_questioned_once_and_never_complete() -> None:
    played = Played(questions_unread=True)
    played.reply("Final = 5")
    played.take(CellDone("", final=ANSWER, requests=0))
    assert feedback.UNREAD in played.told
    played.reply("Final = 5")
    assert played.take(CellDone("", final=ANSWER, requests=0)) == Finish(ANSWER, False, "unread", feedback.NOTHING_READ)


def test_a_questioned_answer_that_then_looks_is_complete() -> None:
    played = Played(questions_unread=True)
    played.reply("Final = 5")
    played.take(CellDone("", final=ANSWER, requests=0))
    played.reply("Final = context.count()")
    assert played.take(CellDone("", final=ANSWER, requests=1)) == Finish(ANSWER, True, "answered")


def test_an_answer_after_a_look_is_not_questioned() -> None:
    played = Played(questions_unread=True)
    played.reply("context.head(1)")
    played.take(CellDone("…", requests=1))
    played.reply("Final = 5")
    assert played.take(CellDone("", final=ANSWER, requests=0)) == Finish(ANSWER, True, "answered")


def test_an_answer_of_a_cell_that_looked_is_not_questioned() -> None:
    played = Played(questions_unread=True)
    played.reply("Final = context.count()")
    assert played.take(CellDone("", final=ANSWER, requests=1)) == Finish(ANSWER, True, "answered")


def test_an_unread_answer_of_the_last_turn_is_taken_as_a_part() -> None:
    played = Played(max_turns=1, questions_unread=True)
    played.reply("Final = 5")
    assert played.take(CellDone("", final=ANSWER)) == Finish(ANSWER, False, "unread", feedback.NOTHING_READ)


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Replied("I think the answer is 5."), "There was no code in that reply."),
        (Replied(cell("{}", "json")), "The fence marked 'json' is not run."),
        (Replied(cell("print(1)", "")), "A fence without a mark is not run."),
        (Replied("```repl\nrows = [1,", cut=True), "The reply was cut at the completion limit"),
        (Replied(""), "There was no code in that reply."),
    ],
)
def test_a_reply_without_a_cell_is_told_what_to_do(reply: Replied, told: str) -> None:
    played = Played()
    played.take(reply)
    assert told in played.told
    assert "fence marked repl" in played.told or reply.cut
    assert played.state.turn == 2


def test_the_whole_cells_of_a_cut_reply_run_and_the_rest_is_said() -> None:
    played = Played()
    assert played.take(Replied(f"{cell('x = 1')}\n```repl\nFinal = 12", cut=True)) == RunCell(1, 1, "x = 1")
    played.take(CellDone(""))
    assert feedback.CUT in played.told
    played.reply("y = 1")
    played.take(CellDone(""))
    assert feedback.CUT not in played.told


def test_the_last_turn_is_announced() -> None:
    played = Played(max_turns=2)
    assert not played.asked.last
    played.reply("x = 1")
    played.take(CellDone(""))
    assert played.asked.last
    assert "This is your last turn: set Final now" in played.told
    assert feedback.NO_CALLS not in played.told


def test_turns_can_run_out() -> None:
    played = Played(max_turns=1)
    assert played.asked.last
    played.reply("print(1)")
    assert played.take(CellDone("1\n")) == Finish(None, False, "turns")


def test_prose_in_the_last_turn_is_a_partial_answer() -> None:
    assert Played(max_turns=1).take(Replied(" About five. ")) == Finish({"kind": "json", "value": "About five."}, False, "turns")
    assert Played(max_turns=1).take(Replied("  ")) == Finish(None, False, "turns")


def test_a_limit_makes_the_next_turn_the_last_and_the_answer_partial() -> None:
    played = Played()
    played.reply("verdicts = llm_each(…)")
    assert played.take(OUT_OF_TIME) is None
    played.take(CellDone("", error="RunTimeOver", requests=1))
    assert played.asked.last
    assert "The 60 seconds of the run are over." in played.told
    assert feedback.NO_CALLS in played.told
    played.reply("Final = 5")
    assert played.take(CellDone("", final=ANSWER)) == Finish(ANSWER, False, "time")


def test_a_limit_while_the_root_is_asked_leaves_it_one_turn_more() -> None:
    played = Played()
    played.take(OUT_OF_TIME, Replied("no code"))
    assert played.asked.last
    assert played.take(Replied("about 5")) == Finish({"kind": "json", "value": "about 5"}, False, "time")


def test_the_first_limit_is_the_reason() -> None:
    played = Played()
    played.take(OUT_OF_TIME, LimitReached("budget", "spent"), Replied("x"))
    assert played.take(Replied("")) == Finish(None, False, "time")


def test_a_turn_that_cannot_be_paid_is_asked_again_from_the_reserve() -> None:
    played = Played()
    before = played.asked.messages
    asked = played.take(Unaffordable("0 calls are left"))
    assert isinstance(asked, AskRoot)
    assert (asked.messages[:-1], asked.last) == (before, True)
    assert "0 calls are left" in asked.messages[-1]["content"]
    assert "This is your last turn" in asked.messages[-1]["content"]
    assert played.state.turn == 1
    played.reply("Final = 5")
    assert played.take(CellDone("", final=ANSWER)) == Finish(ANSWER, False, "budget")


def test_a_last_turn_that_cannot_be_paid_ends_the_run() -> None:
    played = Played()
    played.take(Unaffordable("0 calls are left"))
    assert played.take(Unaffordable("0 calls are left")) == Finish(None, False, "budget", "0 calls are left")


def test_a_root_that_cannot_be_asked_ends_the_run() -> None:
    assert Played().take(AskFailed("HTTP 500 five times")) == Finish(None, False, "model", "HTTP 500 five times")
    assert Played().take(OUT_OF_TIME, AskFailed("timeout")) == Finish(None, False, "time", "timeout")


@pytest.mark.parametrize("event", [Started(), Replied(cell("x")), CellDone(""), OUT_OF_TIME, AskFailed("x"), Unaffordable("x")])
def test_nothing_happens_after_the_end(event: Event) -> None:
    played = Played()
    played.take(AskFailed("gone"))
    state = played.state
    assert played.take(event) is None
    assert played.state == state


def test_messages_are_only_added_to_until_they_are_folded() -> None:
    played = Played(max_turns=40)
    before: tuple[dict[str, str], ...] = ()
    for number in range(20):
        assert played.asked.messages[: len(before)] == before
        before = played.asked.messages
        played.reply(f"print({number})")
        played.take(CellDone(f"{number}\n"))


def test_thirty_turns_of_large_outputs_stay_within_the_limit() -> None:
    played = Played(max_turns=31, limit_tokens=8_000)
    sizes = []
    for number in range(30):
        sizes.append(sum(len(message["content"].encode()) for message in played.asked.messages))
        played.reply(f"print(big)  # {number}\n" + "# é\n" * 200)
        played.take(CellDone(f"turn {number} " + "x" * 8_000))
    assert max(sizes) <= 4 * 8_000
    assert f"turn {number} xxxx" in played.told  # what was printed last is always whole
    assert "[output of turn 1, folded" in played.asked.messages[3]["content"]
    whole = played.state.history.full_text()
    assert all(f"turn {number} xxxx" in whole for number in range(30))


_events = st.one_of(
    st.sampled_from(
        [Replied(cell("x = 1")), Replied(cell("a") + "\n" + cell("b")), Replied("prose"), Replied(cell("x"), True), OUT_OF_TIME]
    ),
    st.sampled_from([AskFailed("gone"), Unaffordable("nothing left"), LimitReached("budget", "spent")]),
    st.builds(
        CellDone,
        st.sampled_from(["", "out"]),
        st.sampled_from([None, "an error"]),
        st.sampled_from([None, None, ANSWER]),
        st.sampled_from([None, None, "a problem"]),
        st.integers(0, 2),
    ),
)


@given(st.lists(_events, max_size=60), st.integers(1, 4), st.booleans())
def test_whatever_happens_there_is_one_thing_to_do_and_an_end(events: list[Event], max_turns: int, unread: bool) -> None:
    """The driver sends only what fits the last command; with that, every run ends within its turns."""
    played = Played(max_turns=max_turns, questions_unread=unread)
    doing: Command | None = played.asked
    asked = 1
    for event in events:
        fits: tuple[type, ...] = (Replied, AskFailed, Unaffordable) if isinstance(doing, AskRoot) else (CellDone,)
        if not isinstance(event, (*fits, LimitReached)):
            continue
        done = played.take(event)
        assert (done is None) == isinstance(event, LimitReached)
        doing = done or doing
        asked += isinstance(done, AskRoot)
        if isinstance(doing, Finish):
            assert played.state.done
            assert not (doing.complete and doing.final is None)
            assert doing.complete == (doing.stop_reason == "answered")
            break
        assert not played.state.done
    assert played.state.turn <= max_turns
    assert asked <= max_turns + 1  # once more from the reserve


def test_states_are_values() -> None:
    state = State(History("system", "task"), 3)
    assert step(state, Started()) == step(replace(state), Started())
    assert state.turn == 0
