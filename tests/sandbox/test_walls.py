"""The walls as they are seen from outside, at every level: /proc says what the kernel enforces on each thread."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rlm_ray.sandbox.outside import isolation
from rlm_ray.sandbox.outside.events import Limits
from rlm_ray.sandbox.outside.process import launch
from rlm_ray.sandbox.outside.queries import QuerySandbox

THREADS = """
import threading
stay = threading.Event()
for _ in range(3):
    threading.Thread(target=stay.wait, daemon=True).start()
try:
    import pyarrow
    pyarrow.compute  # starts threads of its own where it can
except Exception as error:
    print(type(error).__name__)
ping()
"""


OPEN_DESCRIPTORS = """
import os
def there(number):
    try:
        os.fstat(number)
        return True
    except OSError:
        return False
[number for number in range(4096) if there(number)]
"""


def status(pid: int) -> list[dict[str, str]]:
    """What /proc says of each thread of a process."""
    found = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        lines = (thread / "status").read_text("ascii", errors="replace").splitlines()
        found.append({key: value.strip() for key, _, value in (line.partition(":") for line in lines)})
    return found


def inside(threads: list[dict[str, str]]) -> None:
    """Every thread has the filter, may gain nothing, and has no capability."""
    for thread in threads:
        assert thread["Seccomp"] == "2"
        assert thread["NoNewPrivs"] == "1"
        sets = ("CapEff", "CapPrm", "CapInh", "CapAmb", *(("CapBnd",) if os.geteuid() == 0 else ()))
        assert {int(thread[name], 16) for name in sets} == {0}


LIBRARIES = """
import importlib
for name in ("pyarrow.compute", "pyarrow.dataset", "polars", "numpy", "pandas", "duckdb", "concurrent.futures", "asyncio"):
    try:
        importlib.import_module(name)
    except Exception:
        pass
try:
    import pyarrow.compute
    pyarrow.set_cpu_count(4)
    table = pyarrow.table({"n": list(range(100_000))})
    table.group_by("n", use_threads=True).aggregate([("n", "sum")])
    import polars
    polars.DataFrame({"n": list(range(1000))}).lazy().group_by("n").len().collect()
except Exception:
    pass
ping()
"""


@pytest.mark.parametrize("level", ["strict", "noopen"])
def test_threads_that_libraries_start_stand_inside_every_wall(start, level):
    driven = start(level=level)
    seen = []

    def look(box, request):
        seen.extend(status(box.pid))
        box.reply(request.id, None)

    driven.answers = look
    driven.run(LIBRARIES)
    assert len(seen) >= (2 if level == "strict" else 1)
    inside(seen)


def test_threads_of_the_engine_for_sql_stand_inside_every_wall():
    import pyarrow

    table = pyarrow.table({"n": list(range(1000))})
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    with QuerySandbox(level="strict", limits=Limits()) as box:
        assert box.sql("select sum(n) as total from context", bytes(sink.getvalue()), 30.0) == [{"total": 499_500}]
        inside(status(box.pid))


def test_at_level_none_there_are_no_walls_and_the_report_says_so(start):
    driven = start(level="none")
    assert driven.box.wait_ready() == {"namespaces": False, "landlock": 0, "seccomp": False}
    assert {thread["Seccomp"] for thread in status(driven.box.pid)} == {status(os.getpid())[0]["Seccomp"]}


@pytest.mark.parametrize("level", ["strict", "noopen"])
def test_every_thread_stands_inside_every_wall(start, level):
    driven = start(level=level)
    seen = []

    def look(box, request):
        seen.extend(status(box.pid))
        limits = Path(f"/proc/{box.pid}/limits").read_text("ascii")
        seen.append({line[:25].strip(): line[26:].split()[0] for line in limits.splitlines()[1:]})
        box.reply(request.id, None)

    driven.answers = look
    driven.run(THREADS)
    *threads, limits = seen
    assert len(threads) >= 4
    inside(threads)
    assert limits["Max open files"] == "64"
    assert limits["Max file size"] == limits["Max core file size"] == limits["Max locked memory"] == "0"
    assert Path(f"/proc/{driven.box.pid}/oom_score_adj").read_text("ascii").strip() == "1000"


@pytest.mark.parametrize("level", ["strict", "noopen"])
def test_a_child_starts_with_one_thread_one_socket_and_a_literal_environment(start, level):
    os.environ["RLM_RAY_TEST_CANARY"] = "never-inside"
    try:
        driven = start(level=level)
        output = driven.output("import os\nprint(sorted(os.environ.items()))")
        assert output.strip() == str(sorted(launch.ENVIRONMENT.items()))
    finally:
        del os.environ["RLM_RAY_TEST_CANARY"]
    numbers = eval(driven.output(OPEN_DESCRIPTORS))
    assert numbers[:3] == [0, 1, 2]
    assert len(numbers) == 4
    assert len(status(driven.box.pid)) == 1
    assert os.getsid(driven.box.pid) == driven.box.pid


def test_namespaces_are_its_own_where_the_kernel_gives_them(start):
    driven = start()
    if not driven.box.wait_ready()["namespaces"]:
        pytest.skip("this kernel gives an ordinary user no namespaces")
    try:
        inside = {name: os.readlink(f"/proc/{driven.box.pid}/ns/{name}") for name in ("user", "net", "ipc", "uts")}
    except PermissionError:
        pytest.skip("only root may look at the namespaces of a process that is not dumpable")
    for name, link in inside.items():
        assert link != os.readlink(f"/proc/self/ns/{name}")


def test_the_death_signal_follows_the_parent(tmp_path):
    import subprocess
    import sys

    code = (
        "import os, sys\nfrom rlm_ray.sandbox.outside.host import Sandbox\nfrom rlm_ray.sandbox.outside.events import Limits\n"
        "box = Sandbox({}, level='strict', limits=Limits())\nbox.wait_ready()\nprint(box.pid, flush=True)\nos._exit(0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    pid = int(ended.stdout)
    pidfd = None
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return  # gone already
    import select

    try:
        assert select.select([pidfd], [], [], 20)[0], "the child outlived its parent"
    finally:
        os.close(pidfd)


def test_levels_are_probed_and_chosen():
    assert isolation.probe("strict")["seccomp"] is True
    assert isolation.choose("strict") == isolation.Choice("strict", None)
    assert isolation.choose("noopen").level == "noopen"
    assert "ordinary process" in isolation.choose("none").warning


def test_a_machine_without_landlock_gets_noopen_with_a_warning(monkeypatch):
    from rlm_ray.errors import SandboxUnavailable

    def probe(level):
        if level == "strict":
            raise SandboxUnavailable("this kernel has no Landlock")
        return {"seccomp": True}

    monkeypatch.setattr(isolation, "probe", probe)
    with pytest.warns(RuntimeWarning, match="noopen instead of strict"):
        choice = isolation.choose("strict")
    assert choice.level == "noopen"
    assert "no Landlock" in choice.warning


def test_a_machine_without_walls_is_refused_with_the_way_out(monkeypatch):
    from rlm_ray.errors import SandboxUnavailable

    def probe(level):
        raise SandboxUnavailable("no seccomp")

    monkeypatch.setattr(isolation, "probe", probe)
    with pytest.raises(SandboxUnavailable, match=r"strict: no seccomp; noopen: no seccomp.*docker run"):
        isolation.choose("strict")


def test_readable_paths_hold_code_only():
    paths = launch.readable_paths()
    repository = os.path.dirname(launch.package_folder())
    assert launch.package_folder() in paths
    assert not {"/", "/etc", "/usr", "/home", "/root", "/tmp", os.path.expanduser("~"), repository} & set(paths)
    import sys

    assert sys.prefix not in paths
    assert sys.base_prefix not in paths
