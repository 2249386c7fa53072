from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("1 + 1", "2\n"),
        ("x = 5\nx", "5\n"),
        ("print('a')\n'b'", "a\n'b'\n"),
        ("None", ""),
        ("x = 1;", ""),
        ("", ""),
        ("# only a comment", ""),
        ("if True:\n    3", ""),
        ("import sys\nsys.stderr.write('err\\n')\nsys.stdout.write('out\\n')\nNone", "err\nout\n"),
        ("import sys\n_ = sys.stdout.buffer.write('é'.encode())", "é"),
        ("import threading\nt = threading.Thread(target=print, args=('from a thread',))\nt.start(); t.join()", "from a thread\n"),
        ("import logging\nlogging.warning('careful')", "WARNING:root:careful\n"),
        ("async def f():\n    return 3\nawait f()", "3\n"),
        ("import asyncio\nprint(await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2)))", "[1, 2]\n"),
        ("print('\\x1b[31mred\\u202e')", "[31mred\n"),
        ("__name__", "'__main__'\n"),
        ("def f():\n    return 1\nimport inspect\nprint(inspect.getsource(f))", "def f():\n    return 1\n\n"),
        ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\nP(1)", "P(x=1)\n"),
    ],
)
def test_what_a_cell_shows(shared, code, shown):
    done = shared.run(code)
    assert (done.output, done.error) == (shown, None)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("x = 1\ny = 1 / 0", "line 2: y = 1 / 0\nZeroDivisionError: division by zero"),
        ("def f(n):\n    return 1 / n\nf(0)", "line 3: f(0)\nin f, line 2: return 1 / n\nZeroDivisionError: division by zero"),
        ("x = (", "line 1: x = (\nSyntaxError: '(' was never closed"),
        ("if True:\nx = 1", "line 2: x = 1\nIndentationError: expected an indented block after 'if' statement on line 1"),
        ("a\x00b", "SyntaxError: source code string cannot contain null bytes"),
        ("{}['k']", "line 1: {}['k']\nKeyError: 'k' is not a key"),
        ("raise KeyboardInterrupt", "line 1: raise KeyboardInterrupt\nKeyboardInterrupt"),
        (
            "exit_code = 1\nraise SystemExit(3)",
            "line 2: raise SystemExit(3)\nSystemExit: the cell ended itself here; variables are kept",
        ),
        ("import json\njson.loads('{')", "line 2: json.loads('{')\njson.decoder.JSONDecodeError: "),
        (
            "class E(Exception):\n    def __str__(self): raise ValueError\nraise E",
            "line 3: raise E\nE: (its message could not be made: ValueError)",
        ),
        (
            "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ValueError('bad') from e",
            "line 2: 1 / 0\nZeroDivisionError: division by zero\nwhich caused:\n"
            "line 4: raise ValueError('bad') from e\nValueError: bad",
        ),
        ("input('?')", "line 1: input('?')\nRuntimeError: input() has nobody to ask here"),
        (
            "import sklearn.nothing_like_it",
            "ModuleNotFoundError: No module named 'sklearn'. The standard library is there; of others: numpy",
        ),
        (
            "open('/etc/passwd')",
            "PermissionError: [Errno 13] Permission denied: '/etc/passwd'. Cells have no files, network or processes",
        ),
    ],
)
def test_what_a_cell_fails_with(shared, code, error):
    assert error in shared.error(code)


def test_a_deep_recursion_is_told_shortly(shared):
    error = shared.error("def down(n): return down(n + 1)\ndown(0)")
    assert "RecursionError" in error
    assert "more calls" in error
    assert len(error.splitlines()) < 15


def test_lines_of_an_earlier_cell_are_found_in_a_traceback(shared):
    shared.run("def broken():\n    return undefined_name")
    assert "in broken, line 2: return undefined_name" in shared.error("broken()")


def test_a_huge_value_is_cut_when_echoed(shared):
    output = shared.output("'x' * 100_000")
    assert len(output) < 21_000
    assert "characters cut" in output


def test_hints_of_the_corpus_are_added(start):
    driven = start(setup={"scaffold_source": "def namespace(backend, setup):\n    from rlm_ray.handle import verbs\n    return {}"})
    driven.run(
        "import rlm_ray.handle.corpus as handle, rlm_ray.handle.plan as plan\n"
        "c = handle.Corpus(plan.Plan((plan.Source('c'),)), {}, None)"
    )
    assert "Corpus is a handle, not text" in driven.error("import re\nre.findall('a', c)")


def test_functions_of_cells_are_pickled_by_value(shared):
    code = "import cloudpickle\nk = 3\ndef f(r): return r * k\nblob = cloudpickle.dumps(f)\nb'k' in blob and b'__main__' in blob"
    assert shared.output(code) == "True\n"
