"""How a cell ends the run: every way to set an answer, and what is none."""

from __future__ import annotations

import pytest

from rlm_ray.sandbox.outside.events import Final


@pytest.mark.parametrize(
    ("code", "final"),
    [
        ("Final = 'forty-two'", Final("json", "forty-two")),
        ("Final = 0", Final("json", 0)),
        ("Final = [{'a': 1}]\nraise ValueError('after it')", Final("records", [{"a": 1}])),
        ("FINAL({'a': (1, 2)})", Final("json", {"a": [1, 2]})),
        ("FINAL(1)\nFinal = 2", Final("json", 2)),
        ("result = [1]\nFINAL_VAR('result')", Final("json", [1])),
        ("result = [1]\nFINAL_VAR('\"result\"')", Final("json", [1])),
        ("answer['content'] = 'a'\nanswer['ready'] = True", Final("json", "a")),
        ("answer.update(content=3, ready=True)", Final("json", 3)),
        ("answer = {'content': [2], 'ready': True}", Final("json", [2])),
        ("answer['ready'] = True\nanswer.setdefault('content', 'x')\nanswer['content'] = 'y'", Final("json", "y")),
        ("def finish():\n    global Final\n    Final = 7\nfinish()", Final("json", 7)),
        ("globals()['Final'] = 8", Final("json", 8)),
    ],
)
def test_ways_to_answer(shared, code, final):
    assert shared.run(code).final == final


@pytest.mark.parametrize(
    "code",
    [
        "print('the answer is 42')",
        "from typing import Final",
        "class Final: pass",
        "Final = None",
        "Final = int",
        "FINAL(None)",
        "answer['content'] = 'draft'",
        "answer = 'an ordinary variable'",
        "x: 'Final' = 3",
        "def later():\n    global Final\n    Final = 1",
    ],
)
def test_what_is_no_answer(shared, code):
    done = shared.run(code)
    assert (done.final, done.final_problem) == (None, None)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("Final = None", "[Final was not taken: it is None. When"),
        ("print('3 found')\nFinal = None", "3 found\n[Final was not taken: it is None. When"),
        ("print('3 found', end='')\nFinal = None", "3 found\n[Final was not taken: it is None. When"),
        ("from typing import Final", "[Final was not taken: it is typing.Final, a type hint. When"),
        ("class Final: pass", "[Final was not taken: it is the class Final. When"),
        ("Final = int", "[Final was not taken: it is the class int. When"),
        ("FINAL(None)", "[FINAL(…) was not taken: it is None. When"),
        ("answer = {'content': None, 'ready': True}", "[answer['content'] was not taken: it is None. When"),
    ],
)
def test_what_is_set_and_is_no_answer_is_told(shared, code, told):
    output = shared.run(code).output
    assert output.startswith(told)
    assert output.endswith(" the answer is ready, set Final = value: text, a number, a list, a dict or a Corpus.]\n")


@pytest.mark.parametrize("code", ["1 + 1", "answer = {'content': None}", "Final = None\nFINAL(3)", "x: 'Final' = 3"])
def test_nothing_is_told_where_nothing_was_set_or_an_answer_was(shared, code):
    assert "not taken" not in shared.run(code).output


def test_an_answer_of_a_foreign_kind_is_told_and_the_name_is_free_again(start):
    driven = start()
    done = driven.run("Final = object()")
    assert done.final is None
    assert "is not plain data" in done.final_problem
    assert (driven.run("1").final, driven.run("'Final' in dir()").output) == (None, "False\n")
    assert driven.run("Final = 'now'").final == Final("json", "now")


def test_an_answer_set_by_a_thread_after_the_end_does_not_count(start):
    driven = start()
    driven.run(
        "import threading\ngo = threading.Event()\n"
        "def late():\n    global Final\n    go.wait()\n    Final = 'forged'\n    answer['ready'] = True"
    )
    driven.run("thread = threading.Thread(target=late)\nthread.start()")
    driven.run("class Trigger:\n    def __reduce__(self):\n        go.set(); thread.join(); return int, ()\ntrigger = Trigger()")
    done = driven.run("del trigger")
    assert done.final is None


def test_a_missing_variable_is_told_with_those_there_are(shared):
    shared.run("rows = 1\ntotal = 2")
    error = shared.error("FINAL_VAR('totals')")
    assert "NameError: FINAL_VAR: there is no variable 'totals'. Variables: " in error
    assert "rows" in error
    assert "total" in error


def test_show_vars_lists_what_cells_made(start):
    driven = start()
    driven.run("import math\nrows = []\ndef f(): pass")
    assert driven.output("SHOW_VARS()") == "{'rows': 'list', 'f': 'function'}\n"


def test_a_large_answer_comes_whole(start):
    driven = start()
    done = driven.run("Final = ['record %07d' % n for n in range(1_000_000)]")
    assert len(done.final.value) == 1_000_000
    assert done.final.value[-1] == "record 0999999"


def test_an_answer_that_would_swell_in_the_parent_is_refused(start):
    driven = start(limits={"memory": 3 << 30, "soft_seconds": 60.0})
    forged = (
        "import json, struct, socket\n"
        "blob = b'[' + b'[],' * 50_000_000 + b'[]]'\n"
        "import rlm_ray.sandbox.inside.finals as finals\n"
        "finals.dumps = lambda value: blob\n"
        "Final = 1"
    )
    done = driven.run(forged)
    assert done.final is None
    assert "memory" in done.final_problem
