from __future__ import annotations

import pytest

from rlm_ray.recursion.loop import feedback


def turn(**changes: object) -> str:
    given = {
        "outputs": ["Cell 1 printed nothing."],
        "remark": "",
        "turn": 3,
        "max_turns": 9,
        "left": "Left: 4 calls.",
        "last": False,
    }
    return feedback.turn(**(given | {"limit": ""} | changes))  # type: ignore[arg-type]


def test_a_cell_that_printed() -> None:
    assert feedback.cell(1, "12\n\n", None, None, 0) == "Cell 1 printed:\n12"


@pytest.mark.parametrize("output", ["", "\n \n"])
def test_a_cell_that_printed_nothing(output: str) -> None:
    assert feedback.cell(2, output, None, None, 0) == "Cell 2 printed nothing."


def test_a_cell_that_raised() -> None:
    said = feedback.cell(1, "a\n", "line 2: 1/0\nZeroDivisionError: division by zero\n", None, 2)
    assert said == (
        "Cell 1 printed:\na\nIt raised:\nline 2: 1/0\nZeroDivisionError: division by zero\n"
        "Variables assigned before that line are kept.\nThe 2 cells after it did not run."
    )


def test_an_answer_that_was_not_taken() -> None:
    assert feedback.cell(1, "", None, "Final is a class.", 1) == (
        "Cell 1 printed nothing.\nFinal was not taken: Final is a class.\nThe 1 cell after it did not run."
    )


@pytest.mark.parametrize(
    ("marks", "cut", "said"),
    [
        ([], False, "There was no code in that reply."),
        (["json", "sql"], False, "The fence marked 'json' is not run."),
        ([""], False, "A fence without a mark is not run."),
        ([], True, "The reply was cut at the completion limit"),
        (["json"], True, "The reply was cut at the completion limit"),
    ],
)
def test_no_code(marks: list[str], cut: bool, said: str) -> None:
    assert feedback.no_code(marks, cut).startswith(said)


def test_between_two_turns() -> None:
    assert turn() == "Cell 1 printed nothing.\n\nTurn 3 of 9. Left: 4 calls."
    assert turn(outputs=[], remark="Do this.", left="") == "Do this.\n\nTurn 3 of 9."


def test_the_last_turn_says_so_and_whether_calls_are_possible() -> None:
    assert turn(last=True).endswith("This is your last turn: set Final now, from what the variables hold.")
    assert turn(last=True, limit="The budget is spent.").endswith(
        "The budget is spent.\n\nTurn 3 of 9. Left: 4 calls.\n\n"
        "This is your last turn: set Final now, from what the variables hold. Sub-calls are no longer possible in it."
    )


def test_old_turns_in_one_line() -> None:
    reply = "```repl\nprint(1)\n```\nThe rest is prose."
    assert feedback.fold_reply(4, reply) == "[turn 4, folded: 39 characters, beginning 'print(1)']"
    output = "Cell 1 printed:\n12 errors\nmore"
    assert feedback.fold_output(4, output) == (
        "[output of turn 4, folded: 30 characters, beginning '12 errors'; print(history) shows all]"
    )


@pytest.mark.parametrize("text", ["", "\n", "x" * 100_000, "```repl\n```", "a\nb\n" * 1_000])
def test_a_fold_is_one_short_line(text: str) -> None:
    for fold in (feedback.fold_reply(1, text), feedback.fold_output(1, text)):
        assert "\n" not in fold
        assert len(fold) < 300
