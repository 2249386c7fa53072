"""Several nodes with different resources: a run works unchanged, uses all of them, and a node that joins meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PATIENCE = 900
LINES = 60

#: A process has one Ray, so this one has a process of its own.
PROGRAM = """
import contextlib, json, os, pathlib, sys, time
from concurrent.futures import ThreadPoolExecutor
import ray, rlm_ray
from ray.cluster_utils import Cluster
from rlm_ray.testing import ModelServer, each

path, runs, patience = sys.argv[1], sys.argv[2], float(sys.argv[3])
os.environ["RLM_RAY_SHARED_PATHS"] = "1"  # all nodes are this machine
cells = {
    "How many": [
        "```repl\\nfound = llm_each('Which?', context, schema={'n': 'integer'})\\nprint(found.count())\\n```",
        "```repl\\nhalf = context.count() // 2\\n"
        "below = rlm_query_batched(['What is there?'] * 2, [context[:half], context[half:]])\\n"
        "Final = [found.ok.count(), sum(row['n'] for row in found), sum(map(int, below))]\\n```",
    ],
    "What is there": ["```repl\\nFinal = context.map(lambda record: {'n': 1}).count()\\n```"],
}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
nodes = [cluster.head_node, cluster.add_node(num_cpus=1, resources={"large": 1}), cluster.add_node(num_cpus=1, memory=1 << 30)]
ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
cluster.wait_for_nodes()

def at_work():
    # numbers of the nodes whose workers make leaf calls now
    raylets = {node.all_processes["raylet"][0].process.pid: number for number, node in enumerate(nodes)}
    found = set()
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            parent = int(pathlib.Path(f"/proc/{int(entry)}/stat").read_text().rpartition(")")[2].split()[1])
            if parent in raylets and "depth 0 leaves" in pathlib.Path(f"/proc/{entry}/cmdline").read_text():
                found.add(raylets[parent])
    return sorted(found)

told = {}

def joined():
    server.wait_for(1 + 12, timeout=patience)  # two groups for each of three CPUs, two calls each
    told["before"] = at_work()
    nodes.append(cluster.add_node(num_cpus=1, object_store_memory=100 << 20))
    time.sleep(told_seconds)
    server.release()
    server.hold()
    server.wait_for(1 + 12 + 16, timeout=patience)  # and of four
    told["after"] = at_work()

from rlm_ray.cluster.capacity import CAPACITY_SECONDS as told_seconds
with ModelServer(root=cells, leaf=each(lambda text: {"n": int(text.split()[1])})) as server:
    settings = server.settings(run_dir=runs, records_per_call=1, calls_per_group=2, concurrency=2, address=cluster.address)
    server.hold(after=2)  # the root, and a usable reply, after which all groups begin
    with ThreadPoolExecutor(1) as thread:  # a node is added by the main thread
        asked = thread.submit(rlm_ray.ask, rlm_ray.open(path), "How many?", settings)
        try:
            joined()
        finally:
            server.release()
    answer = asked.result()
    told |= {"value": answer.value, "complete": answer.complete, "calls": answer.usage["calls"], "seen": server.count}
print(json.dumps(told))
ray.shutdown()
cluster.shutdown()
"""


def test_a_run_on_three_nodes_and_one_that_joins(tmp_path: Path, run_dir: Path) -> None:
    path = tmp_path / "numbers.log"
    path.write_text("".join(f"number {number} here\n" for number in range(LINES)))
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), str(run_dir), str(PATIENCE / 3)],
        env=environment | {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "POLARS_MAX_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    told = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))  # Ray has words of its own
    assert told["value"] == [LINES, sum(range(LINES)), LINES]
    assert told["complete"]
    assert len(told["before"]) >= 2
    assert 3 in told["after"], "the node that joined while the batch was under way"
    # two turns of the root, one call for each line, and two roots below
    assert told["calls"] == told["seen"] == 2 + LINES + 2
