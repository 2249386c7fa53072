from __future__ import annotations

import ast
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.recursion.loop.cells import cells, other_fences


def fenced(code: str, mark: str = "repl", fence: str = "```") -> str:
    return f"{fence}{mark}\n{code}\n{fence}"


def test_several_cells_in_order_and_prose_between() -> None:
    reply = f"First:\n{fenced('a = 1')}\nthen\n{fenced('print(a)', 'python')}\nand done."
    assert cells(reply) == ["a = 1", "print(a)"]


@pytest.mark.parametrize("mark", ["repl", "python", "py", "python3", "Python", "REPL"])
def test_marks_that_are_run(mark: str) -> None:
    assert cells(fenced("x = 1", mark)) == ["x = 1"]
    assert other_fences(fenced("x = 1", mark)) == []


@pytest.mark.parametrize("mark", ["", "json", "bash", "text", "sql", "c++"])
def test_marks_that_are_not_run(mark: str) -> None:
    assert cells(fenced("x = 1", mark)) == []
    assert other_fences(fenced("x = 1", mark)) == [mark]


def test_words_behind_the_mark_are_no_part_of_the_cell() -> None:
    assert cells("```python title=count.py\nx = 1\n```") == ["x = 1"]


@pytest.mark.parametrize("fence", ["~~~", "````", "~~~~~"])
def test_other_fences_of_markdown(fence: str) -> None:
    assert cells(fenced("x = 1", fence=fence)) == ["x = 1"]
    assert cells(fenced('p = """\n```\n"""', fence=fence)) == ['p = """\n```\n"""']


def test_a_tilde_does_not_end_a_backtick_fence() -> None:
    assert cells("```repl\nx = 1\n~~~\n```") == ["x = 1\n~~~"]


@pytest.mark.parametrize(
    "code",
    [
        'p = """Reply so:\n```json\n{}\n```\n"""\nprint(p)',
        'p = """\n```\nplain\n```\n"""',
        'p = """\n```python\nx\n```\nand\n```python\ny\n```\n"""\nprint(llm_query(p))',
        'p = f"""\n```repl\n{1}\n```"""',
        "p = '''\n```\n'''",
    ],
)
def test_fences_inside_strings(code: str) -> None:
    assert cells(f"So:\n{fenced(code)}\nand\n{fenced('print(2)')}") == [code, "print(2)"]


def test_a_cell_with_a_syntax_error_ends_at_its_own_fence() -> None:
    assert cells(f"{fenced('print(1')}\ntext\n{fenced('print(2)')}\n{fenced('{}', 'json')}") == ["print(1", "print(2)"]


def test_a_block_of_another_language_never_swallows_the_cell_behind_it() -> None:
    assert cells(f"{fenced('it is not Python', 'text')}\n{fenced('print(1)')}") == ["print(1)"]
    assert cells(f"{fenced(chr(34) * 3, 'text')}\n{fenced('print(1)')}") == ["print(1)"]


def test_a_cell_shown_inside_another_block_is_not_run() -> None:
    assert cells(f"{fenced(fenced('import os'), 'markdown', '````')}\n{fenced('x = 1')}") == ["x = 1"]


def test_an_indented_block_is_moved_left_and_strings_stay_as_they_are() -> None:
    assert cells("1. Look:\n\n   ```repl\n   for i in x:\n       print(i)\n   ```") == ["for i in x:\n    print(i)"]
    code = 'text = """\n   \n\tx\n"""'
    assert cells(fenced(code)) == [code]


def test_a_fence_that_does_not_end() -> None:
    assert cells("```repl\nprint(1)\nprint(2") == ["print(1)\nprint(2"]  # a stop sequence took the fence: the error will tell
    assert cells("```repl\nFinal = 12", cut=True) == []  # 12 of 1200, maybe
    assert cells("```repl\nx = 1\n```\nand\n```repl\nFinal = 12", cut=True) == ["x = 1"]
    assert cells("```repl") == cells("```repl\n") == cells("```repl\n   \n```") == []


def test_windows_line_ends() -> None:
    assert [ast.unparse(ast.parse(cell)) for cell in cells("```repl\r\nx = 1\r\nprint(x)\r\n```\r\n")] == ["x = 1\nprint(x)"]


@pytest.mark.parametrize(
    ("reply", "cell"),
    [
        ("FINAL(42)", "FINAL(42)"),
        ("  FINAL('yes')", "FINAL('yes')"),
        ("The answer:\nFINAL(The answer is (see above) 5.)", "FINAL('The answer is (see above) 5.')"),
        ("FINAL([1,\n 2])\nThat is all (I think)", "FINAL([1,\n 2])"),
        ("FINAL(it's so)", 'FINAL("it\'s so")'),
        ("FINAL(yes, no)", "FINAL('yes, no')"),
        ("FINAL(count)", "FINAL(globals().get('count', 'count'))"),
        ("FINAL(len(hits))", "FINAL(len(hits))"),
        ("FINAL_VAR(result)", 'FINAL_VAR("result")'),
        ('FINAL_VAR("result")', 'FINAL_VAR("result")'),
        ("FINAL_VAR( 'result' )", 'FINAL_VAR("result")'),
    ],
)
def test_a_bare_final_is_a_cell(reply: str, cell: str) -> None:
    assert cells(reply) == [cell]
    ast.parse(cell)


def test_a_bare_final_beside_cells_is_the_last_cell() -> None:
    assert cells(f"FINAL_VAR(n)\n{fenced('n = 1')}\n") == ["n = 1", 'FINAL_VAR("n")']
    assert cells(f"{fenced('n = 1')}\nFINAL_VAR(n)") == ["n = 1", 'FINAL_VAR("n")']


@pytest.mark.parametrize("reply", ["I will call FINAL(x) later.", "FINAL(", "FINAL_VAR()", "", "No code at all.", "FINALLY(1)"])
def test_prose_is_no_cell(reply: str) -> None:
    assert cells(reply) == []


def test_many_fences_are_not_much_work() -> None:
    assert cells("```repl\nx = (\n" + "```\n" * 20_000)[0] == "x = ("


@given(st.text(alphabet="`~ \nreplpython()='\"#1x{}", max_size=300), st.booleans())
def test_anything_gives_cells_that_are_of_the_reply(reply: str, cut: bool) -> None:
    for cell in cells(reply, cut):
        assert cell.strip()
        lines = reply.splitlines()
        assert cell.startswith("FINAL") or all(line.strip() in "\n".join(lines) for line in cell.splitlines())
    other_fences(reply)


_statements = st.lists(
    st.sampled_from(
        ["x = 1", "print(x)", "for i in range(3):\n    print(i)", 's = """\n```repl\nFinal = 0\n```\n"""', "# ```", "pass"]
    ),
    min_size=1,
    max_size=4,
).map("\n".join)
_prose = st.sampled_from(["", "Look.", "1. a list\n2. of things", "`inline`", "```json\n{}\n```", "```text\nnot ' python\n```"])


@given(st.lists(st.tuples(_prose, _statements, st.sampled_from(["```", "~~~", "````"])), min_size=1, max_size=4), st.booleans())
def test_what_was_written_as_cells_comes_back(parts: list[tuple[str, str, str]], indent: bool) -> None:
    written = [textwrap.indent(fenced(code, fence=fence), "  " if indent and "'" not in code else "") for _, code, fence in parts]
    reply = "\n".join(f"{prose}\n{block}" for (prose, _, _), block in zip(parts, written, strict=True))
    assert cells(reply) == [code for _, code, _ in parts]
