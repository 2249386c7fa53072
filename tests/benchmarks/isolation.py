"""What the walls cost: start, cells, calls, data in, restore, memory; beside no walls, and beside the ways of two peers.

    python tests/benchmarks/isolation.py [--peers PYTHON] [--pyodide FOLDER] [--rounds N]

`PYTHON` is an interpreter of another virtual environment with `pip install deno ipykernel jupyter_client`; `FOLDER` is where
`npm install pyodide` was run. Prints a table: the best of each measure, its median, and how many times the best of
level strict it is; what is left out is said with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlm_ray.sandbox.outside.events import CellDone, Limits, Request
from rlm_ray.sandbox.outside.host import Sandbox
from rlm_ray.sandbox.outside.process import pool as pools

SCAFFOLD = """
def namespace(backend, setup):
    return {"ask": lambda value: backend.call("ask", {"value": value})[0], "fetch": lambda n: backend.call("fetch", {"n": n})[1]}
"""
LIMITS = Limits(memory=2 << 30)
CALLS = 2_000
#: Deno runs Pyodide and takes cells as lines of JSON, as dspy's interpreter does; a call goes out and comes back as a line.
DENO = """
import * as pyodide from "PYODIDE/pyodide.mjs";
const text = new TextEncoder(), bytes = new TextDecoder(), piece = new Uint8Array(65536);
let rest = "";
function line() {
  for (;;) {
    const end = rest.indexOf("\\n");
    if (end >= 0) { const found = rest.slice(0, end); rest = rest.slice(end + 1); return found; }
    const size = Deno.stdin.readSync(piece);
    if (size === null) Deno.exit(0);
    rest += bytes.decode(piece.subarray(0, size));
  }
}
function say(value) { Deno.stdout.writeSync(text.encode(JSON.stringify(value) + "\\n")); }
const python = await pyodide.loadPyodide({indexURL: "PYODIDE/"});
python.globals.set("ask", (value) => { say({ask: value}); return JSON.parse(line()); });
say({ready: true});
for (;;) { await python.runPythonAsync(JSON.parse(line())); say({done: true}); }
"""
#: Run by the peers' interpreter: prints one JSON object for each of three rounds.
JUPYTER = """
import json, os, time
from jupyter_client.manager import start_new_kernel
def once():
    began = time.perf_counter()
    manager, client = start_new_kernel(kernel_name="python3")
    client.execute_interactive("1", output_hook=lambda message: None)
    started = time.perf_counter()
    for _ in range(20): client.execute_interactive("pass", output_hook=lambda message: None)
    cells = time.perf_counter()
    pid = manager.provisioner.pid
    with open(f"/proc/{pid}/statm") as file: resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    return {"ready for a cell": (started - began) * 1e3, "empty cell": (cells - started) * 50, "resident MB": resident}
print(json.dumps([once() for _ in range(3)]))
"""


def run(box: Sandbox, code: str, data: bytes = b"") -> CellDone:
    """Run a cell to its end, answering its calls."""
    box.start_cell(code)
    while True:
        ends = box.deadline()
        select.select([box.fileno()], [], [], None if ends is None else max(0.0, ends - time.monotonic()))
        for event in box.receive():
            if isinstance(event, CellDone):
                assert event.error is None, event.error
                return event
            assert isinstance(event, Request), event
            box.reply(event.id, event.args.get("value"), blob=data)


def timed(work: Callable[[], Any]) -> float:
    """Return the milliseconds that `work` takes."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3


def arrow(size: int) -> bytes:
    """Return a table of about `size` bytes as an Arrow IPC stream."""
    import pyarrow

    table = pyarrow.table({"n": pyarrow.array(range(size // 8), pyarrow.int64())})
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


def resident(pid: int) -> float:
    """Return the resident megabytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def one(level: Any, large: bytes, small: bytes) -> dict[str, float]:
    """Measure one sandbox of a level, from nothing; the pool holds no idle child."""
    found: dict[str, float] = {}
    began = time.perf_counter()
    box = Sandbox({"scaffold_source": SCAFFOLD}, level=level, limits=LIMITS)
    while not box.walls:
        select.select([box.fileno()], [], [])
        box.receive()
    found["start, walls up"] = (time.perf_counter() - began) * 1e3
    box.wait_ready()
    found["ready for a cell"] = (time.perf_counter() - began) * 1e3
    found["resident MB"] = resident(box.pid)
    run(box, "keep = list(range(1000))")
    found["empty cell"] = min(timed(lambda: run(box, "pass")) for _ in range(50))
    found["call"] = timed(lambda: run(box, f"for n in range({CALLS}): ask(n)")) / CALLS
    for name, data in (("1 MB of Arrow in", small), ("100 MB of Arrow in", large)):
        found[name] = timed(lambda data=data: run(box, "data = fetch(0)\nassert len(data)", data))
        run(box, "del data")
    snapshot = box.snapshot
    box.close()
    began = time.perf_counter()
    with Sandbox({"scaffold_source": SCAFFOLD}, level=level, limits=LIMITS, snapshot=snapshot) as again:
        again.wait_ready()
        found["restore in a new one"] = (time.perf_counter() - began) * 1e3
        assert run(again, "print(len(keep))").output == "1000\n"
    return found


def in_process(large: bytes, small: bytes) -> dict[str, float]:
    """Measure `exec` in this process: what no isolation at all would cost. Data is copied, as it is into a child."""
    namespace: dict[str, Any] = {"ask": lambda value: value, "fetch": lambda data: bytearray(data)}
    code = f"for n in range({CALLS}): ask(n)"
    found = {
        "empty cell": min(timed(lambda: exec("pass", namespace)) for _ in range(50)),
        "call": timed(lambda: exec(code, namespace)) / CALLS,
    }
    for name, data in (("1 MB of Arrow in", small), ("100 MB of Arrow in", large)):
        namespace["given"] = data
        found[name] = timed(lambda: exec("data = fetch(given)", namespace))
    return found


def deno_once(binary: str, script: str, folder: str) -> dict[str, float]:
    """Measure Pyodide in Deno: its start, a cell, a call that comes back to the parent, its memory."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [binary, "run", "--no-prompt", "--no-remote", f"--allow-read={folder}", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"NO_COLOR": "1"},
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def cell(code: str) -> None:
        process.stdin.write(json.dumps(code).encode() + b"\n")
        process.stdin.flush()
        while "ask" in (said := heard()):
            process.stdin.write(json.dumps(said["ask"]).encode() + b"\n")
            process.stdin.flush()

    def heard() -> Any:
        line = process.stdout.readline()
        if not line:
            raise OSError((process.stderr.read().decode("utf-8", "replace").strip().splitlines() or ["it ended"])[0][:300])
        return json.loads(line)

    try:
        heard()
        found = {"ready for a cell": (time.perf_counter() - began) * 1e3, "resident MB": resident(process.pid)}
        found["empty cell"] = min(timed(lambda: cell("pass")) for _ in range(20))
        found["call"] = timed(lambda: cell("for n in range(200): ask(n)")) / 200
        return found
    finally:
        process.kill()
        process.communicate()


def deno(python: str | None, folder: str | None) -> Any:
    """Measure Deno with Pyodide, as dspy runs it; a text where it does not run here."""
    binary = shutil.which("deno", path=os.path.dirname(python or "") + os.pathsep + os.environ.get("PATH", ""))
    if binary is None or folder is None:
        return "left out: it needs a deno (pip install deno, beside --peers) and --pyodide FOLDER (npm install pyodide)"
    package = os.path.join(os.path.realpath(folder), "node_modules", "pyodide")
    with tempfile.TemporaryDirectory() as scratch:
        script = os.path.join(scratch, "peer.mjs")
        Path(script).write_text(DENO.replace("PYODIDE", package))
        try:
            return summary([deno_once(binary, script, package) for _ in range(3)])
        except OSError as error:
            return f"left out: it does not run here: {error}"


def jupyter(python: str | None) -> Any:
    """Measure a Jupyter kernel; a text where it does not run here."""
    if python is None:
        return "left out: it needs --peers PYTHON with ipykernel and jupyter_client"
    done = subprocess.run([python, "-c", JUPYTER], capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        return "left out: it does not run here: " + (done.stderr.strip().splitlines() or ["no message"])[-1][:300]
    return summary(json.loads(done.stdout.strip().splitlines()[-1]))


def summary(rounds: list[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Return the best and the median of each measure."""
    return {
        name: (min(values), statistics.median(values))
        for name in rounds[0]
        for values in [[one_round[name] for one_round in rounds]]
    }


def main() -> None:
    """Print the measures of every way, and the ratios to level strict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peers", help="interpreter of an environment with deno, ipykernel and jupyter_client")
    parser.add_argument("--pyodide", help="folder in which `npm install pyodide` was run")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    pools.IDLE = 0  # a start is to be a start
    large, small = arrow(100 << 20), arrow(1 << 20)
    found: dict[str, Any] = {}
    for level in ("strict", "noopen", "none"):
        name = "none: a plain child" if level == "none" else level
        found[name] = summary([one(level, large, small) for _ in range(given.rounds)])
    found["exec in the process"] = summary([in_process(large, small) for _ in range(given.rounds)])
    found["Deno and Pyodide"] = deno(given.peers, given.pyodide)
    found["Jupyter kernel"] = jupyter(given.peers)
    measures = list(found["strict"])
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors; milliseconds: best (median), times strict")
    for way, values in found.items():
        if isinstance(values, str):
            print(f"{way}: {values}")
            continue
        print(f"{way}:")
        for name in measures:
            if name in values:
                best, median = values[name]
                ratio = best / found["strict"][name][0]
                print(f"  {name:28} {best:12.4f} ({median:.4f})  x {ratio:.4g}")


if __name__ == "__main__":
    main()
