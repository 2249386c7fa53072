from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import cloudpickle
import pytest

from rlm_ray.errors import InputError, SandboxError
from rlm_ray.sandbox.outside.events import Limits
from rlm_ray.sandbox.outside.functions import MAX_STOPPED, FunctionSandbox

HANG = """
def hang():
    import signal
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    while True:
        pass
"""


def made(source: str, name: str = "f") -> bytes:
    """A function as root code would define it, pickled by value."""
    room = {"__name__": "__main__"}
    exec(source, room)
    return cloudpickle.dumps(room[name])


def apply(box, kind, records, seconds):
    return box.apply("fn", kind, json.dumps(records).encode(), len(records), seconds)


@pytest.fixture
def box():
    with FunctionSandbox(level="strict", limits=Limits(memory=1 << 30, grace_seconds=0.5)) as found:
        yield found


RECORDS = [{"i": n} for n in range(50)]


def test_a_map_returns_values_and_errors_in_order(box):
    source = "k = 10\ndef f(r):\n    if r['i'] == 3: raise ValueError('not three')\n    return {'x': (r['i'] * k, {1})}"
    box.load("fn", made(source))
    entries = apply(box, "map", RECORDS, 5.0)
    assert len(entries) == 50
    assert entries[2] == {"value": {"x": [20, [1]]}}
    assert entries[3] == {"error": "in f, line 3\nValueError: not three"}


def test_a_filter_returns_truth(box):
    box.load("fn", made("def f(r): return r['i'] % 2 and [1]"))
    assert [entry["value"] for entry in apply(box, "filter", RECORDS[:4], 5.0)] == [False, True, False, True]


def test_an_aggregate_gets_the_batch_and_values_are_combined(box):
    box.load("fn", made("def f(rs): return {'n': len(rs)}"))
    box.load("combine", made("def f(a, b): return {'n': a['n'] + b['n']}"))
    values = [apply(box, "aggregate", RECORDS, 5.0)[0]["value"] for _ in range(3)]
    assert box.combine("combine", values, 5.0) == {"n": 150}
    assert box.combine("combine", [], 5.0) is None


def test_a_record_that_takes_too_long_is_an_error_and_the_others_are_done(box):
    box.load("fn", made("import time\ndef f(r):\n    while r['i'] == 7: pass\n    return 1"))
    entries = apply(box, "map", RECORDS, 0.3)
    assert "TimeoutError: took more than 0.3 s" in entries[7]["error"]
    assert sum("value" in entry for entry in entries) == 49
    assert box.events["restarts"] == 0


def test_a_record_that_ends_the_process_is_named_and_the_others_are_done(box):
    box.load("fn", made("def f(r):\n    if r['i'] in (4, 20): __import__('os')._exit(3)\n    return r['i']"))
    entries = apply(box, "map", RECORDS, 5.0)
    assert [n for n, entry in enumerate(entries) if "error" in entry] == [4, 20]
    assert "exit code 3" in entries[4]["error"]
    assert entries[21] == {"value": 21}
    assert box.events["restarts"] == 3


def test_a_function_that_ignores_its_clock_is_stopped(box):
    box.load("fn", made(HANG + "def f(r):\n    if r['i'] == 1: hang()\n    return r['i']"))
    entries = apply(box, "map", RECORDS[:3], 0.1)
    assert "stopped on this record" in entries[1]["error"]
    assert (entries[0], entries[2]) == ({"value": 0}, {"value": 2})


def test_a_batch_of_crashes_is_given_up(box):
    box.load("fn", made("def f(r): __import__('os')._exit(3)"))
    entries = apply(box, "map", RECORDS, 5.0)
    assert all("error" in entry for entry in entries)
    assert sum("stopped on this record" in entry["error"] for entry in entries) == MAX_STOPPED
    assert "not done" in entries[-1]["error"]


def test_a_function_that_cannot_be_loaded_is_told(box):
    with pytest.raises(InputError, match="could not be loaded"):
        box.load("fn", b"no pickle")
    with pytest.raises(InputError, match="str is no function"):
        box.load("fn", cloudpickle.dumps("text"))
    with pytest.raises(InputError, match="exit code 4"):
        box.load(
            "fn",
            made("class B:\n    def __reduce__(self): return eval, ('__import__(\"os\")._exit(4)',)\ndef f(r, b=B()): return 1"),
        )


def test_a_combine_that_fails_is_told(box):
    box.load("combine", made("def f(a, b): return a + b"))
    with pytest.raises(InputError, match="combines two results failed: in f, line 1\nTypeError"):
        box.combine("combine", [1, "a"], 5.0)


def test_functions_have_no_files_and_denials_are_counted(box, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("canary-text")
    box.load("fn", made(f"def f(r): return open({str(secret)!r}).read()"))
    (entry,) = apply(box, "map", RECORDS[:1], 5.0)
    assert "PermissionError" in entry["error"]
    assert box.events["denials"] == 1
    assert any(name.startswith("denied: ") for name in box.events)


def test_the_corpus_and_the_models_are_out_of_reach(box):
    box.load("fn", made("def f(r): return llm_query('hi')"))
    assert "NameError" in apply(box, "map", RECORDS[:1], 5.0)[0]["error"]


def test_a_result_that_is_too_large_or_no_plain_data_is_an_error(box):
    box.load("fn", made("def f(r): return 'x' * 9_000_000 if r['i'] else object()"))
    first, second = apply(box, "map", RECORDS[:2], 5.0)
    assert "object" in first["error"]
    assert "at most" in second["error"]


def test_each_thread_has_its_own_functions_under_a_key(box):
    def one(n):
        box.load("fn", made(f"def f(r): return {n}"))
        return {entry["value"] for _ in range(5) for entry in apply(box, "map", RECORDS, 5.0)}

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(one, range(4))) == [{0}, {1}, {2}, {3}]


def test_a_closed_sandbox_says_so(box):
    box.load("fn", made("def f(r): return 1"))
    box.close()
    with pytest.raises(SandboxError, match="closed"):
        apply(box, "map", RECORDS, 1.0)
