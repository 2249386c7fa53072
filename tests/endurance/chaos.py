"""Random trees under random faults: `python -m tests.endurance.chaos --trees 200 [--seed N]`. A tree is replayed by its seed.

Each tree is a process of its own on a Ray that all share. While it runs, its model endpoint fails, its workers, its sandbox and
the process itself are killed, and its disk is full; it is begun again under the same run id until it ends.

What must hold of each: the same answer as undisturbed, or a stated partial; no valid reply paid for twice beyond what was in
flight when something was killed; no limit passed; what the run says that it spent is what the endpoint answered, at least; no
process and no unfinished file left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlm_ray.testing import Faults, ModelServer, each

LINES, MOST_CALLS, CONCURRENCY = 60, 600, 8
#: Times that a tree is begun again before it counts as one that does not end.
MOST_STARTS = 8

RUN = """
import json, resource, signal, sys
import rlm_ray
lake, runs, url, address, concurrency, calls, most_bytes = sys.argv[1:]
if int(most_bytes):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(most_bytes), resource.RLIM_INFINITY))
settings = rlm_ray.Settings(
    root_model="root", sub_model="leaf", base_url=url, run_dir=runs, run_id="tree", address=address, records_per_call=1,
    calls_per_group=20, concurrency=int(concurrency), max_calls=int(calls), max_depth=2, call_attempts=8,
)
answer = rlm_ray.ask(rlm_ray.open(lake), "What is the sum?", settings)
told = {"value": answer.value, "complete": answer.complete, "reason": answer.stop_reason, "calls": answer.usage["calls"]}
print(json.dumps(told | {"said": answer.message, "failures": len(answer.failures)}))
"""


@dataclass
class Told:
    """What became of one tree."""

    seed: int
    outcome: str = ""  # "same", "partial", or what is wrong
    starts: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    asked: int = 0
    twice: int = 0
    allowed: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


def cells(draw: random.Random, depth: int) -> list[str]:
    """Some turns, in all the ways there are to ask."""
    found = []
    for turn in range(2):
        ways = [
            f"rows = llm_each('Which? {depth} {turn}', context, schema={{'n': 'integer'}})\n"
            "total += sum(row['n'] for row in rows.ok)",
            f"total += len(llm_query_batched([f'{depth} {turn} {{i}}' for i in range({draw.randint(1, 12)})]))",
            f"total += len(llm_query('again {depth} {turn}'))",
        ]
        if depth == 0:
            ways += [
                "half = context.count() // 2\n"
                f"below = rlm_map('one of turn {turn}', [context[:half], context[half:]], schema={{'sum': 'integer'}})\n"
                "total += sum(row['sum'] for row in below.ok)"
            ] * 2
        code = draw.choice(ways)
        found.append(f"```repl\ntry:\n    total\nexcept NameError:\n    total = 0\n{code}\nprint(total)\n```")
    final = "Final = {'sum': total}" if depth else "Final = total"
    return [*found, f"```repl\n{final}\n```"]


class Tree:
    """One tree: its model endpoint, its faults, and the processes that work on it."""

    def __init__(self, seed: int, folder: Path, address: str, disturbed: bool = True) -> None:
        self.seed, self.folder, self.address = seed, folder, address
        self.draw = random.Random(seed)
        self.told = Told(seed)
        self.disturbed = disturbed

    def root(self, messages: list[Any]) -> str:
        opening = "".join(str(message["content"]) for message in messages[:2])
        depth = int("one of turn" in opening)
        turn = sum(message["role"] == "assistant" for message in messages)
        return cells(random.Random(f"{self.seed} {depth}"), depth)[min(turn, 2)]

    def run(self) -> Any:
        """Run it to its end; return what its process printed, or None where it did not end."""
        lake = self.folder / "lake"
        if not lake.exists():
            lake.mkdir()
            (lake / "a.log").write_text("".join(f"number {number} here\n" for number in range(LINES)))
        runs = self.folder / ("runs" if self.disturbed else "undisturbed")
        draw = self.draw
        shares = {name: draw.choice([0.0, 0.05]) for name in ("error", "cut", "throttle", "malformed")} if self.disturbed else {}
        self.told.faults.update({f"model: {name}": 1 for name, share in shares.items() if share})
        faults = Faults(latency=(0.0, 0.1), retry_after=0.01, attempts=2, seed=self.seed, **shares)
        with ModelServer(root=self.root, leaf=each(lambda text: {"n": int(text.split()[1])}), faults=faults) as server:
            for start in range(MOST_STARTS):
                self.told.starts = start + 1
                ended = self._start(lake, runs, server, calm=not self.disturbed or start > 3)
                if ended is not None:
                    break
            if self.disturbed:
                self._paid(server, runs)
        return ended

    def _start(self, lake: Path, runs: Path, server: ModelServer, calm: bool) -> Any:
        draw = self.draw
        kind = "none" if calm else draw.choice(["none", "driver", "driver", "sandbox", "worker", "disk", "interrupt"])
        most_bytes = draw.randint(2_000, 40_000) if kind == "disk" else 0
        words = [str(lake), str(runs), server.base_url, self.address, *map(str, (CONCURRENCY, MOST_CALLS, most_bytes))]
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            process = subprocess.Popen([sys.executable, "-c", RUN, *words], stdout=out, stderr=err, start_new_session=True)
            after = server.count + draw.randint(1, 40)
            family: set[int] = set()
            strikes = threading.Thread(target=self._strike, args=(kind, process, server, after, family))
            strikes.start()
            try:
                process.wait(timeout=240)
            except subprocess.TimeoutExpired:
                process.kill()
                self.told.wrong.append("did not end within 240 s")
            strikes.join()
            left = _wait_for_no(family)
            if left:
                self.told.wrong.append(f"{len(left)} processes were left: {left}")
            out.seek(0)
            err.seek(0)
            said, errors = out.read().strip(), err.read()
        if process.returncode == 0 and said:
            return json.loads(said.splitlines()[-1])
        if process.returncode not in (-signal.SIGKILL, 130, -signal.SIGINT) and kind != "disk" and "Error" not in errors:
            self.told.wrong.append(f"ended with {process.returncode} and no word")
        if process.returncode == 1 and "rlm_ray.errors." not in errors and "KeyboardInterrupt" not in errors:
            self.told.wrong.append(f"an error that is none of ours: {errors.strip()[-300:]}")
        return None

    def _strike(self, kind: str, process: subprocess.Popen[bytes], server: ModelServer, after: int, family: set[int]) -> None:
        """Wait until so many requests have come, then kill what is meant."""
        struck = kind in ("none", "disk")
        if kind == "disk":
            self.told.faults["disk: full"] += 1
            self.told.allowed += CONCURRENCY * 4
        while process.poll() is None:
            family |= set(_below(process.pid))
            if not struck and server.count >= after:
                struck = True
                pids = {"sandbox": _below(process.pid), "worker": _workers(), "driver": [process.pid]}.get(kind, [process.pid])
                if pids:
                    self.told.faults[f"{kind}: killed" if kind != "interrupt" else "driver: interrupted"] += 1
                    self.told.allowed += CONCURRENCY * (1 if kind == "worker" else 6)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(self.draw.choice(sorted(pids)), signal.SIGINT if kind == "interrupt" else signal.SIGKILL)
            time.sleep(0.05)

    def _paid(self, server: ModelServer, runs: Path) -> None:
        """What the endpoint answered well, and how often it answered the same."""
        told = self.told
        well = [record for record in server.requests if record.get("status") == 200 and record.get("fault") == "none"]
        leaves = Counter(record["prompt"] for record in well if record["model"] == "leaf")
        told.asked, told.twice = len(well), sum(times - 1 for times in leaves.values())
        if told.twice > told.allowed:
            told.wrong.append(f"{told.twice} valid replies were paid for again; {told.allowed} may have been in flight")
        if len(well) > MOST_CALLS:
            told.wrong.append(f"{len(well)} calls were answered; the limit is {MOST_CALLS}")
        if unfinished := [
            str(path) for path in runs.rglob("*") if path.suffix in (".tmp", ".part") or path.name.startswith(".tmp")
        ]:
            told.wrong.append(f"unfinished files: {unfinished[:3]}")


def _below(pid: int) -> list[int]:
    """Processes that a process started, and those below them."""
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *_below(int(child))]
    return found


def _workers() -> list[int]:
    """Ray workers of this process's Ray that work on something of rlm_ray."""
    found = []
    for pid in _below(os.getpid()):
        with contextlib.suppress(OSError):
            name = Path(f"/proc/{pid}/cmdline").read_text()
            found += [pid] if name.startswith("ray::") and ("leaves" in name or "rlm " in name or "scan" in name) else []
    return found


def _wait_for_no(pids: set[int]) -> list[int]:
    """Processes that are still there after a while."""
    for _ in range(100):
        left = [pid for pid in pids if _runs(pid)]
        if not left:
            return []
        time.sleep(0.1)
    return left


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def tree(seed: int, address: str) -> Told:
    """Run a tree undisturbed and disturbed, and compare."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        calm = Tree(seed, Path(folder), address, disturbed=False).run()
        made = Tree(seed, Path(folder), address)
        ended, told = made.run(), made.told
    told.seconds = time.monotonic() - begun
    if calm is None or not calm["complete"]:
        told.wrong.append(f"undisturbed it was {calm}")
    elif ended is None:
        told.wrong.append(f"it did not end in {told.starts} starts")
    elif ended["calls"] < told.asked or ended["calls"] > MOST_CALLS:
        told.wrong.append(f"it says {ended['calls']} calls; {told.asked} were answered, the limit is {MOST_CALLS}")
    elif ended["complete"] and ended["value"] != calm["value"]:
        told.wrong.append(f"the answer is {ended['value']}, undisturbed {calm['value']}")
    told.outcome = "wrong" if told.wrong else "same" if ended["complete"] else "partial"
    return told


def trees(seeds: range) -> Iterator[Told]:
    """Run trees, one after another, on a Ray of their own."""
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "600")  # a busy machine needs longer than Ray waits
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        for seed in seeds:
            yield tree(seed, ray.get_runtime_context().gcs_address)
    finally:
        ray.shutdown()


def main() -> int:
    """Run the trees that the command line names, a line each; return 1 where one is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trees", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the first tree")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no tree after so many")
    options = parser.parse_args()
    ends, sums, faults = time.monotonic() + options.seconds, Counter[str](), Counter[str]()
    for told in trees(range(options.seed, options.seed + options.trees)):
        sums.update({told.outcome: 1, "starts": told.starts, "answered": told.asked, "twice": told.twice, "trees": 1})
        faults += told.faults
        print(
            f"tree {told.seed}: {told.outcome}, {told.starts} starts, {told.asked} answered, {told.twice} twice (at most "
            f"{told.allowed}), {dict(told.faults)}, {told.seconds:.0f} s {'; '.join(told.wrong)}",
            flush=True,
        )
        if time.monotonic() > ends:
            break
    print(json.dumps({"sums": sums, "faults": faults}))
    return int(sums["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main())
