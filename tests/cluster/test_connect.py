"""Ray is started beside what needs it not yet."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlm_ray.cluster import connect, ports
from rlm_ray.cluster.calls import make_ports
from rlm_ray.settings import Settings

BESIDE = """
import os, threading
from rlm_ray.cluster import connect
from rlm_ray.settings import Settings
settings = Settings(num_cpus=1)
begun = threading.Thread(target=connect.begin, args=[settings])
begun.start()
begun.join()  # Ray outlives the thread that asked for it
connect.connect(settings)
import ray
assert connect.connected()
assert ray.get(ray.remote(lambda: os.getpid()).remote()) > 1
connect.connect(settings)
begun = threading.Thread(target=connect.begin, args=[settings])
begun.start()
begun.join()
print("there", ray.cluster_resources()["CPU"])
warned = {"lines": ["a node warns"], "pid": "raylet", "is_err": False, "ip": None, "job": None}
ray._private.worker.print_to_stdstream(warned, ignore_prefix=False)
"""


def alone(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that knows of no Ray."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_an_embedded_ray_is_started_in_the_background_and_once() -> None:
    done = alone(BESIDE)
    assert done.stdout.split() == ["there", "1.0"], done.stderr
    assert "a node warns" in done.stderr  # stdout is for results


def test_the_first_groups_of_calls_do_not_wait_for_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Settings] = []
    monkeypatch.setattr(connect, "connected", lambda: False)
    monkeypatch.setattr(connect, "begin", begun.append)
    made = make_ports("run", 0, Settings())
    assert [made._while_ray_starts() for _ in range(ports.HERE_GROUPS + 1)] == [True] * ports.HERE_GROUPS + [False]
    assert len(begun) == ports.HERE_GROUPS
    made.close()


def test_where_a_rate_is_limited_they_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "connected", lambda: False)
    monkeypatch.setattr(connect, "begin", lambda settings: pytest.fail("Ray was started"))
    made = make_ports("run", 0, Settings(requests_per_minute=10))
    assert not made._while_ray_starts()
    made.close()


def test_nothing_is_started_where_an_address_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "_start", lambda settings: pytest.fail("Ray was started"))
    connect.begin(Settings(address="auto"))
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    connect.begin(Settings())


SIGNALLED = """
import os, signal, sys, threading
from rlm_ray.cluster import connect
from rlm_ray.settings import Settings
ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
connect.begin(Settings(num_cpus=1))
connect.connect(Settings(num_cpus=1))
os.kill(os.getpid(), signal.SIGTERM)
print("told", ended.wait(60), connect.connected())
"""


def test_a_signal_means_what_it_meant_before_ray_was_started() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout) == (0, "told True True\n"), done.stderr
    assert "SIGTERM" not in done.stderr


NO_RAY = """
import sys
from pathlib import Path
import rlm_ray
from rlm_ray.cluster import connect, ports
from rlm_ray.testing import ModelServer, each

tries = []
def fails(settings):
    tries.append(1)
    raise RuntimeError("the node did not come up")
connect._init_embedded = fails
ports.INLINE_BYTES = 64
ports.HERE_GROUPS = 0
ports.THREADS_BYTES = int(sys.argv[1])
folder = Path(sys.argv[2])
for name in "abcd":
    (folder / f"{name}.log").write_text("".join(f"{name} number {n} here\\n" for n in range(200)))
cells = [
    "```repl\\nfound = [context.grep('7').count(), context.map(lambda record: {'n': 1}).count(),"
    " llm_each('Which?', context[:9], schema={'n': 'integer'}).count(), rlm_query('inner', context[:3])]\\n```",
    "```repl\\nFinal = found\\n```",
]
child = ["```repl\\nFinal = str(context.count())\\n```"]
with ModelServer(root={"": cells, "inner": child}, leaf=each(lambda text: {"n": 1})) as server:
    settings = server.settings(run_dir=str(folder / "runs"), records_per_call=1, calls_per_group=2)
    try:
        answer = rlm_ray.ask(rlm_ray.open(str(folder / "*.log")), "outer", settings)
    except rlm_ray.errors.ClusterError as error:
        print("error:", error)
    else:
        print(answer.value, answer.complete, answer.turns)
    print("tries", len(tries), "asked", server.count)
"""


def test_without_ray_little_data_is_worked_on_by_threads(tmp_path: Path) -> None:
    done = alone(NO_RAY, str(256 << 20), str(tmp_path))
    assert "800, 9, '3'] True 2" in done.stdout, done.stdout + done.stderr
    assert "tries 3" in done.stdout  # and no more: it failed lately
    assert "Its work is done by threads" in done.stderr


def test_without_ray_other_data_ends_with_one_clear_error_and_no_turn_is_paid_for_it(tmp_path: Path) -> None:
    done = alone(NO_RAY, "100", str(tmp_path))
    assert "error: Ray at 'local' cannot be started: the node did not come up" in done.stdout, done.stdout + done.stderr
    assert "tries 3 asked 0" in done.stdout
