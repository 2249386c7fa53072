from __future__ import annotations

import os
import re
import signal

import pytest

from rlm_ray.errors import SandboxError
from rlm_ray.sandbox.outside import counts
from rlm_ray.sandbox.outside.events import CellDone, Request, Restarted


def test_variables_survive_a_cell_and_a_call_goes_to_the_parent(start):
    driven = start()
    driven.run("x = 20")
    done = driven.run("print(ping({'a': x}))\nx + 1")
    assert isinstance(done, CellDone)
    assert done.output == "{'a': 20}\n21\n"
    assert (done.error, done.requests, done.names) == (None, 1, ["x"])


def test_a_reply_may_be_an_error_of_ours_or_a_builtin_one(start):
    driven = start()

    def refuse(box, request):
        if request.args["value"] == 1:
            attributes = {"answers": ["a", None], "errors": {"1": "timed out"}}
            box.reply(request.id, error=("SubcallsFailed", "one of two failed", attributes))
        elif request.args["value"] == 2:
            box.reply(request.id, error=("ValueError", "too many", {}))
        else:
            box.reply(request.id, error=("SystemExit", "not an Exception", {}))

    driven.answers = refuse
    caught = driven.output(
        "for n in (1, 2, 3):\n"
        "    try:\n        ping(n)\n"
        "    except Exception as e:\n        print(type(e).__name__, e, getattr(e, 'answers', ''), getattr(e, 'errors', ''))"
    )
    assert caught.splitlines() == [
        "SubcallsFailed one of two failed ['a', None] {1: 'timed out'}",
        "ValueError too many  ",
        "RuntimeError SystemExit: not an Exception  ",
    ]


@pytest.mark.parametrize("size", [0, 1, 40_000, 3_000_000])
def test_blobs_and_values_of_any_size_come_whole(start, size):
    driven = start()
    assert driven.output(f"value, blob = fetch({size})\nprint(value, len(blob), set(blob) <= {{120}})").split() == [
        "size",
        str(size),
        "True",
    ]
    assert driven.output(f"print(len(ping('é' * {size})))").strip() == str(size)


def test_threads_wait_for_replies_at_the_same_time(start):
    driven = start()
    held = []

    def in_reverse(box, request):
        held.append(request)
        if len(held) == 8:  # answered only when all eight wait, and the last one first
            for waiting in reversed(held):
                box.reply(waiting.id, waiting.args["value"] * 10)

    driven.answers = in_reverse
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(8) as threads:\n    print(list(threads.map(ping, range(8))))"
    )
    assert driven.output(code) == "[0, 10, 20, 30, 40, 50, 60, 70]\n"


def test_a_cell_over_its_time_is_interrupted_and_keeps_variables(start):
    driven = start(limits={"soft_seconds": 0.3})
    done = driven.run("n = 41\nwhile True:\n    pass")
    assert isinstance(done, CellDone)
    assert "line 3: pass" in done.error or "line 2: while True:" in done.error
    assert "TimeoutError: the cell has computed for 0.3 s" in done.error
    assert driven.output("n + 1") == "42\n"
    assert driven.box.events["restarts"] == 0


def test_a_cell_that_ignores_the_interrupt_is_replaced_and_variables_come_back(start):
    driven = start(limits={"soft_seconds": 0.2, "grace_seconds": 0.3})
    driven.run("keep = {'a': [1, 2]}\ndef double(x): return 2 * x * factor\nfactor = 3")
    ended = driven.run("import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True: pass")
    assert isinstance(ended, Restarted)
    assert ended.in_cell
    assert "could not be interrupted" in ended.reason
    assert sorted(ended.names) == ["double", "factor", "keep"]
    assert driven.output("factor = 5\nprint(keep, double(2))") == "{'a': [1, 2]} 20\n"
    assert driven.box.events["restarts"] == 1


def test_waiting_for_the_parent_does_not_count_as_computing(start):
    driven = start(limits={"soft_seconds": 0.3, "grace_seconds": 0.2})
    waiting = []
    driven.answers = lambda box, request: waiting.append(request)
    driven.box.start_cell("print(ping('late'))")
    while not waiting:
        waiting += [event for event in driven.step() if isinstance(event, Request)]
    signal.sigtimedwait([], 0.8)  # longer than the cell may compute, with its grace
    assert driven.box.receive() == []
    driven.box.reply(waiting[0].id, "late")
    done = driven.wait()
    assert (done.error, done.output) == (None, "late\n")


def test_a_cell_has_a_wall_cap_also_while_it_waits(start):
    driven = start(limits={"wall_seconds": 0.4})
    driven.answers = lambda box, request: None
    ended = driven.run("ping()")
    assert isinstance(ended, Restarted)
    assert "in all" in ended.reason


def test_requests_of_a_cell_are_capped(start):
    driven = start(limits={"requests": 20})
    done = driven.run("for n in range(100): ping(n)")
    assert "SandboxError: this cell has made 20 requests, its limit" in done.error
    assert len(driven.requests) == 20
    assert driven.output("ping('again')") == "'again'\n"


def test_an_interrupt_reaches_a_cell_that_computes_and_one_that_waits(start):
    driven = start()
    seen = []
    driven.answers = lambda box, request: (seen.append(request), box.interrupt())
    done = driven.run("kept = 1\ntry:\n    ping()\nfinally:\n    kept = 2")
    assert "KeyboardInterrupt" in done.error
    assert driven.output("kept") == "2\n"
    driven.box.start_cell("while True: pass")
    driven.box.interrupt()
    assert "KeyboardInterrupt" in driven.wait().error
    assert driven.box.events["restarts"] == 0


def test_an_interrupt_between_cells_harms_nothing(start):
    driven = start()
    driven.run("a = 1")
    driven.box.interrupt()
    os.kill(driven.box.pid, signal.SIGINT)
    assert driven.output("a") == "1\n"
    assert driven.box.events["restarts"] == 0


FIND_SOCKET = """
import os, stat
def is_socket(number):
    try:
        return stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:
        return False
(SOCKET,) = [number for number in range(3, 4096) if is_socket(number)]
"""


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("os._exit(7)", "exit code 7"),
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
        ("os.close(SOCKET)", "exit code 1|closed its channel"),
    ],
)
def test_a_process_that_ends_is_replaced(start, code, reason):
    driven = start()
    driven.run("keep = 'kept'")
    driven.run(FIND_SOCKET)
    ended = driven.run(code)
    assert isinstance(ended, Restarted)
    assert re.search(reason, ended.reason)
    assert driven.output("keep") == "'kept'\n"


def test_killed_from_outside_between_cells_it_is_replaced_before_the_next(start):
    driven = start()
    driven.run("x = 1")
    os.kill(driven.box.pid, signal.SIGKILL)
    restarted = driven.wait()
    assert isinstance(restarted, Restarted)
    assert not restarted.in_cell
    assert driven.output("x") == "1\n"


def test_a_snapshot_carries_over_to_another_sandbox(start):
    first = start()
    first.run(
        "import math, threading\nwords = ['a', 'b']\nlock = threading.Lock()\nask = ping\n"
        "class Box:\n    def __init__(self, n): self.n = n\nbox = Box(4)"
    )
    assert first.box.lost == ["lock"]
    second = start(snapshot=first.box.snapshot)
    assert second.output("print(words, box.n, isinstance(box, Box), math.pi > 3, ask('hi'))") == "['a', 'b'] 4 True True hi\n"
    assert "lock" in second.error("lock")


def test_a_poisoned_variable_does_not_take_the_others_with_it(start):
    driven = start(limits={"grace_seconds": 0.5})
    driven.run("class Bomb:\n    def __reduce__(self):\n        return (eval, ('__import__(\"os\")._exit(9)',))")
    driven.run("keep = 5\nbomb = Bomb()")
    ended = driven.run("import os; os._exit(1)")
    assert isinstance(ended, Restarted)
    assert ended.lost == ["bomb"]
    assert driven.output("keep") == "5\n"
    assert "NameError" in driven.error("bomb")


def test_a_pickling_that_hangs_costs_that_variable_only(start):
    driven = start()
    done = driven.run(
        "import time\nclass Slow:\n    def __reduce__(self):\n        while True: time.sleep(0.1)\nslow = Slow()\nkeep = 1"
    )
    assert done.lost == ["slow"]
    assert driven.output("keep") == "1\n"


def test_scaffold_names_are_put_back_with_one_note(start):
    driven = start()
    assert driven.output("context = 'mine'\nping = 3\nprint(context)") == "mine\n"
    note = driven.output("print(context, ping(1))")
    assert note.splitlines() == [
        "[ping belongs to the sandbox and was put back; keep results under another name]",
        "[context belongs to the sandbox and was put back; keep results under another name]",
        "the context 1",
    ]
    driven.run("context = 'again'")
    assert driven.output("context") == "'the context'\n"


def test_history_is_a_variable(start):
    driven = start()
    assert driven.run("history", history="turn 1").output == "'turn 1'\n"
    assert driven.run("history").output == "'turn 1'\n"
    assert driven.run("history", history="turn 2").output == "'turn 2'\n"


def test_output_is_bounded_and_says_what_was_cut(start):
    driven = start(limits={"output_chars": 1_000})
    done = driven.run("print('a' * 600)\nprint('b' * 5_000)\nprint('the end')")
    assert len(done.output) < 1_100
    assert done.output.startswith("aaa")
    assert done.output.endswith("the end\n")
    assert done.truncated == 600 + 1 + 5_000 + 1 + 8 - 1_000


def test_only_one_cell_runs_at_a_time(start):
    driven = start()
    driven.box.start_cell("1")
    with pytest.raises(SandboxError, match="cannot start while"):
        driven.box.start_cell("2")
    driven.wait()
    driven.box.close()
    with pytest.raises(SandboxError, match="closed"):
        driven.box.start_cell("3")


def test_a_thread_that_outlives_its_cell_gets_no_answer_and_may_not_compute_for_ever(start):
    driven = start(limits={"soft_seconds": 0.5})
    code = (
        "import threading, time\nlog = []\nover = threading.Event()\n"
        "def later():\n    over.wait()\n    try:\n        log.append(ping())\n"
        "    except RuntimeError as e:\n        log.append(str(e))\n"
        "thread = threading.Thread(target=later)\nthread.start()"
    )
    driven.run(code)
    driven.run("class Late:\n    def __reduce__(self):\n        over.set(); thread.join(); return int, ()\nlate = Late()")
    assert "ended" in driven.output("log")
    assert driven.box.events["protocol_errors"] == 0
    driven.run("def burn():\n    while True: pass\nthreading.Thread(target=burn).start()")
    restarted = driven.wait()
    assert "threads that a cell left behind" in restarted.reason


def test_memory_is_bounded_and_an_exhausted_cell_keeps_variables(start):
    driven = start(limits={"memory": 256 << 20})
    driven.run("keep = 'here'")
    error = driven.error("hog = []\nwhile True: hog.append(bytearray(10_000_000))")
    assert "MemoryError" in error
    assert driven.output("del hog\nkeep") == "'here'\n"


def test_denials_are_counted_and_named(start):
    driven = start()
    driven.run(
        "import os\nfor f in (lambda: open('/etc/passwd'), lambda: os.kill(1, 0), lambda: os.remove('/tmp/x')):\n"
        "    try: f()\n    except OSError: pass"
    )
    totals, denied = counts.split(driven.box.events)
    assert totals["denials"] == 3
    assert denied == {"open /etc/passwd": 1, "os.kill": 1, "os.remove": 1}


def test_what_a_cell_printed_before_it_was_ended_is_told(start):
    driven = start(limits={"soft_seconds": 0.3, "grace_seconds": 0.3})
    driven.run("print('of another cell')")
    ended = driven.run("import os\nprint('begun \x1b[31m')\nfor n in range(3): print(n)\nos._exit(1)")
    assert (ended.in_cell, ended.output) == (True, "begun [31m\n0\n1\n2\n")
    ended = driven.run("import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nprint('in a loop')\nwhile True: pass")
    assert ended.output == "in a loop\n"
    ended = driven.run("import os\nos._exit(1)")
    assert ended.output == ""


def test_of_a_flood_before_the_end_the_beginning_and_the_end_are_told(start):
    driven = start()
    ended = driven.run(
        "import os\nprint('first')\nfor n in range(20_000): print(n, 'x' * 50)\nprint('y' * 1_000_000)\nprint('last')\nos._exit(1)"
    )
    assert ended.output.startswith("first\n0 xxx")
    assert ended.output.endswith("yyy\nlast\n")
    assert "bytes cut" in ended.output
    assert len(ended.output) < 40_000


def test_a_pad_says_nothing_that_was_not_cleaned_and_bounded(start):
    driven = start()
    code = (
        "import gc, os\nfrom rlm_ray.sandbox.wire.shared_output import SharedOutput\n"
        "(pad,) = [found for found in gc.get_objects() if type(found) is SharedOutput]\n"
        "pad._memory[:] = b'\\xff\\x1b' * (len(pad._memory) // 2)\nos._exit(1)"
    )
    ended = driven.run(code)
    assert isinstance(ended, Restarted)
    assert 0 < len(ended.output) < 40_000
    assert "\x1b" not in ended.output
    assert driven.output("1") == "1\n"
