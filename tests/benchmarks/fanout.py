"""Wide batches: how fast they are beside the bare client and other engines, and what they cost in processes and memory.

    python tests/benchmarks/fanout.py [--sizes 16,64,256,1024] [--latency 0.05] [--peers PYTHON] [--engines rlms,minrlm,…]
        [--same] [--recursive 16,64] [--depth 5] [--growth 1000,5000,20000] [--rough 256] [--rows 100000] [--json]

The model server runs in a process of its own with a fixed latency, every engine in a process of its own, one after the other.
`--peers` is an interpreter in which other engines are installed; those that are not are left out, and that is said. Engines run
at their defaults, and with `--same` also at this project's number of calls in flight where they can be told one.

- `--sizes`: flat batches of leaf calls. `bare` is a loop over AsyncOpenAI with as many calls in flight as this project has.
- `--recursive`: batches of recursive calls that make three leaf calls each.
- `--depth`: a tree with fan-out 3 of that depth, on one CPU and on two, with the most processes and memory it had.
- `--growth`: seconds a call and the driver's memory as the batch grows.
- `--rough`: a batch with 5 % slow calls (30 times the latency), and one with 20 % failing.
- `--rows`: so many records through `llm_each`, with the largest process.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[2]))

from rlm_ray.settings import Settings  # noqa: E402
from rlm_ray.testing import Faults, ModelServer  # noqa: E402

PATIENCE = 900
#: Without bytecode each worker and each sandbox would compile what it loads; packages that were installed have theirs.
NOT_HANDED_ON = ("RAY_ADDRESS", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
PEERS = ("rlms", "minrlm", "recursive-flow", "dspy")
#: Those with recursive calls that run beside each other, and what they can be told.
RECURSIVE = ("rlms",)
TOLD = {"flat": ("recursive-flow",), "recursive": ("rlms",)}


# -- what the models say. A function that travels to the server's process holds everything that it needs


def script() -> Any:
    """The leaf of the server: it answers items, and writes the code of every engine's root."""
    import re

    timed = (
        "import json, time\nstarted = time.perf_counter()\nanswers = {batch}\n"
        "right = sum(str(answer).strip() == f'answer {{number}}' for number, answer in enumerate(answers))\n"
        "result = {{'seconds': time.perf_counter() - started, 'right': right}}\n{end}"
    )
    prompts = "[f'item {{number}}' for number in range({count})]"
    flat = {
        "rlm_ray": ("llm_query_batched(" + prompts + ")", "Final = result"),
        "rlms": ("llm_query_batched(" + prompts + ")", "answer['content'] = json.dumps(result)\nanswer['ready'] = True"),
        "minrlm": ("sub_llm_batch([(f'item {{number}}', '') for number in range({count})])", "FINAL(json.dumps(result))"),
        "recursive-flow": ("llm_query_batched(" + prompts + ")", "done(json.dumps(result))"),
        "dspy": ("llm_query_batched(" + prompts + ")", "SUBMIT(json.dumps(result))"),
    }
    children = "[f'CHILD {engine} {{number}}.' for number in range({count})]"
    recursive = {
        "rlm_ray": ("rlm_query_batched(" + children.replace("{engine}", "rlm_ray") + ")", flat["rlm_ray"][1]),
        "rlms": ("rlm_query_batched(" + children.replace("{engine}", "rlms") + ")", flat["rlms"][1]),
    }
    three = "answers = llm_query_batched([f'item {n}' for n in (NUMBER, 1000 + 2 * NUMBER, 1001 + 2 * NUMBER)])\n"
    child = {
        "rlm_ray": three + "Final = answers[0]",
        "rlms": three + "answer['content'] = answers[0]\nanswer['ready'] = True",
    }

    def fenced(engine: str, code: str) -> str:
        if engine == "dspy":
            return f"[[ ## reasoning ## ]]\nOne batch.\n\n[[ ## code ## ]]\n```python\n{code}\n```\n\n[[ ## completed ## ]]"
        return f"```{'python' if engine == 'minrlm' else 'repl'}\n{code}\n```"

    def leaf(prompt: str, schema: Any) -> str:
        if found := re.search(r"CHILD (\S+) (\d+)\.", prompt):
            return fenced(found[1], child[found[1]].replace("NUMBER", found[2]))
        if found := re.search(r"BENCH (\S+) (\w+) (\d+)", prompt):
            batch, end = {"flat": flat, "recursive": recursive}[found[2]][found[1]]
            return fenced(found[1], timed.format(batch=batch.format(count=found[3]), end=end))
        if "```repl" in prompt:  # a child of rlms sees its question only in its context
            return fenced("rlms", "number = int(context.split()[-1].strip('.'))\n" + child["rlms"].replace("NUMBER", "number"))
        items = re.findall(r"item (\d+)", prompt)
        return f"answer {items[-1]}" if items else "nothing was asked"

    return leaf


# -- flat and recursive


def run(python: str, engine: str, kind: str, counts: list[int], url: str, concurrency: int = 0) -> list[dict[str, Any]] | str:
    """Run an engine's batches in a process of its own; return what came of each, or why it is left out."""
    command = [python, str(HERE.with_name("fanout_engines.py")), engine, kind, ",".join(map(str, counts)), url, str(concurrency)]
    paths = {"PYTHONPATH": str(HERE.parents[2])} if engine == "rlm_ray" else {}
    environment = {name: value for name, value in os.environ.items() if name not in NOT_HANDED_ON} | paths
    try:
        done = subprocess.run(
            command, env=environment | {"OPENAI_API_KEY": "x"}, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return f"did not end in {PATIENCE} s"
    if done.returncode != 0:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()] or ["no word"]
        return "not installed" if "ModuleNotFoundError" in lines[-1] else f"failed: {lines[-1][:160]}"
    results: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return results


def side_by_side(options: argparse.Namespace, kind: str, counts: list[int]) -> list[dict[str, Any]]:
    """Run every engine on the same server."""
    ours = Settings().concurrency
    engines: list[tuple[str, str, int, str]] = [("rlm_ray", sys.executable, 0, "rlm_ray")]
    if kind == "flat":
        engines.insert(0, ("bare", sys.executable, 0, "bare"))
    if options.peers:
        chosen = [name for name in PEERS if name in options.engines.split(",") and (kind == "flat" or name in RECURSIVE)]
        engines += [(name, options.peers, 0, name) for name in chosen]
        if options.same:
            engines += [(f"{name}, {ours} at once", options.peers, ours, name) for name in chosen if name in TOLD[kind]]
    rows: list[dict[str, Any]] = []
    with ModelServer(leaf=script(), models=None, faults=Faults(latency=options.latency), process=True) as server:
        for label, python, concurrency, engine in engines:
            done = run(python, engine, kind, counts, server.base_url, concurrency or (at_once(counts) if engine == "bare" else 0))
            if isinstance(done, str):
                rows.append({"engine": label, "left out": done})
                show(rows[-1], options)
                continue
            for result in done:
                base = next(
                    (row for row in rows if row["engine"] in ("bare", "rlm_ray") and row.get("count") == result["count"]), None
                )
                rate = result["count"] / result["seconds"]
                row = {"engine": label, "kind": kind, "latency": options.latency} | result | {"a second": round(rate, 1)}
                if base is not None:
                    row[f"of {base['engine']}"] = round(rate / base["a second"], 2)
                row["seconds"] = round(row["seconds"], 3)
                rows.append(row)
                show(row, options)
    return rows


def at_once(counts: list[int]) -> int:
    """Calls that this project has in flight for the largest batch: those of the groups that run beside each other."""
    from rlm_ray.cluster.capacity import capacity
    from rlm_ray.recursion.verbs.groups import GROUPS_PER_CPU

    settings = Settings()
    groups = 1 if max(counts) <= settings.calls_per_group else GROUPS_PER_CPU * capacity(settings)
    return settings.concurrency * groups


# -- a deep tree, and many rows: in a process of their own, with a Ray of their own

TREE = """
import json, os, sys, threading, time
sys.path.insert(0, sys.argv[1])
import rlm_ray
from tests.benchmarks.fanout_watch import Watch
url, depth, cpus, runs = sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
settings = rlm_ray.Settings(root_model="root", sub_model="leaf", base_url=url, max_depth=depth, max_calls=10**6, num_cpus=cpus,
    run_dir=runs, address="local")
started = time.perf_counter()
with Watch() as watch:
    answer = rlm_ray.ask("nothing", f"TREE {depth}.", settings)
print(json.dumps({"value": answer.value, "seconds": round(time.perf_counter() - started, 1), "calls": answer.usage["calls"]}
    | watch.most))
"""

ROWS = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
import rlm_ray
from tests.benchmarks.fanout_watch import Watch
url, path, runs = sys.argv[2:5]
settings = rlm_ray.Settings(root_model="root", sub_model="leaf", base_url=url, max_calls=10**6, run_dir=runs, address="local",
    completion_tokens=4_096)
started = time.perf_counter()
with Watch() as watch:
    answer = rlm_ray.ask(rlm_ray.open(path), "ROWS", settings)
print(json.dumps({"value": answer.value, "seconds": round(time.perf_counter() - started, 1), "calls": answer.usage["calls"]}
    | watch.most))
"""


def tree_script() -> Any:
    """Roots that ask three below them, down to the depth, where one leaf call is made."""
    import re

    def leaf(prompt: str, schema: Any) -> str:
        found = re.search(r"TREE (\d+)\.", prompt)
        if found is None:
            return "1"
        left = int(found[1]) - 1
        if left >= 0:
            return f"```repl\nFinal = sum(int(said) for said in rlm_query_batched(['TREE {left}.'] * 3))\n```"
        return "```repl\nFinal = 1\n```" if "```repl" in prompt else "1"

    return leaf


def rows_script() -> Any:
    """A root that labels every record, and the leaf that does it."""
    from rlm_ray.testing import each

    labelled = each(lambda text: {"even": "yes" if int(text.split()[1]) % 2 == 0 else "no"})

    def leaf(prompt: str, schema: Any) -> str:
        if "ROWS" in prompt and "```repl" in prompt:
            return (
                "```repl\nrows = llm_each('Is it even?', context, schema={'even': ['yes', 'no']})\n"
                "Final = {'rows': rows.count(), 'failed': rows.failed.count(), 'even': rows.count_by('even').get('yes')}\n```"
            )
        return str(labelled(prompt, schema))

    return leaf


def alone(code: str, *arguments: Any) -> dict[str, Any]:
    """Run a program in a process of its own."""
    command = [sys.executable, "-c", code, str(HERE.parents[2]), *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name not in NOT_HANDED_ON}
    done = subprocess.run(
        command, env=environment | {"OPENAI_API_KEY": "x"}, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    if done.returncode != 0:
        return {"failed": done.stderr.strip()[-300:]}
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def trees(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A deep tree on one CPU and on two."""
    found = []
    with ModelServer(leaf=tree_script(), models=None, faults=Faults(latency=options.latency), process=True) as server:
        for cpus in (1, 2):
            with tempfile.TemporaryDirectory(prefix="rlm_ray-fanout-") as runs:
                told = alone(TREE, server.base_url, options.depth, cpus, runs)
            found.append({"tree": f"3 ^ {options.depth}", "cpus": cpus} | told)
            show(found[-1], options)
    return found


def many_rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    """So many records through llm_each."""
    with (
        tempfile.TemporaryDirectory(prefix="rlm_ray-fanout-") as folder,
        ModelServer(leaf=rows_script(), models=None, faults=Faults(latency=options.latency), process=True) as server,
    ):
        path = Path(folder, "lines.log")
        with path.open("w") as file:
            for number in range(options.rows):
                file.write(f"line {number} of a log with some words that take their room, as those of real logs do\n")
        told = {"rows": options.rows} | alone(ROWS, server.base_url, path, Path(folder, "runs"))
    show(told, options)
    return [told]


# -- how it grows, and when the endpoint is rough


def growth(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time a call and the driver's memory, as the batch grows."""
    found = []
    with ModelServer(leaf=script(), models=None, faults=Faults(latency=options.latency), process=True) as server:
        done = run(sys.executable, "rlm_ray", "flat", whole(options.growth), server.base_url)
    for result in done if isinstance(done, list) else [{"failed": done}]:
        row = result | ({"ms a call": round(1_000 * result["seconds"] / result["count"], 3)} if "count" in result else {})
        found.append({"growth": row.get("count")} | row)
        show(found[-1], options)
    return found


def rough(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Slow calls, and failing ones."""
    kinds = {
        "5 % slow": Faults(latency=options.latency, slow=0.05, slow_seconds=29 * options.latency),
        "20 % failing": Faults(latency=options.latency, error=0.2),
    }
    engines = [("rlm_ray", sys.executable)] + ([("rlms", options.peers)] if options.peers else [])
    found = []
    for name, faults in kinds.items():
        for engine, python in engines:
            # the roots of all engines must come through: only the batch is rough
            with ModelServer(leaf=script(), models=None, faults=faults, process=True) as server:
                done = run(python, engine, "flat", [options.rough], server.base_url)
            result = done[0] if isinstance(done, list) else {"left out": done}
            found.append({"rough": name, "engine": engine} | result)
            show(found[-1], options)
    return found


def whole(text: str) -> list[int]:
    """Numbers in a flag."""
    return [int(part) for part in re.findall(r"\d+", text)]


def show(row: dict[str, Any], options: argparse.Namespace) -> None:
    """Print a line at once; with --json all of them come at the end."""
    if not options.json:
        print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)


def main() -> None:
    """Run what the flags name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="", help="flat batches")
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--peers", help="interpreter that has other engines")
    parser.add_argument("--engines", default=",".join(PEERS))
    parser.add_argument("--same", action="store_true")
    parser.add_argument("--recursive", default="", help="batches of recursive calls")
    parser.add_argument("--depth", type=int, default=0)
    parser.add_argument("--growth", default="")
    parser.add_argument("--rough", type=int, default=0)
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("OPENAI_API_KEY", "x")
    found: list[dict[str, Any]] = []
    if options.sizes:
        found += side_by_side(options, "flat", whole(options.sizes))
    if options.recursive:
        found += side_by_side(options, "recursive", whole(options.recursive))
    if options.depth:
        found += trees(options)
    if options.growth:
        found += growth(options)
    if options.rough:
        found += rough(options)
    if options.rows:
        found += many_rows(options)
    if options.json:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
