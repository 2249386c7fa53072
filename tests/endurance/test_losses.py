"""A worker node is killed, the limiter is killed, the object store is too small: the same answer, and nothing asked twice but
what was in flight. Each in a process of its own, with a Ray of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CONCURRENCY = 8

HEAD = """
import collections, concurrent.futures, contextlib, json, os, sys, threading, time
import ray, rlm_ray
from rlm_ray.testing import Faults, ModelServer, each

lake, runs, lines, concurrency = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
CELLS = [
    "```repl\\nfound = llm_each('Which?', context, schema={'n': 'integer'})\\nprint(found.count())\\n```",
    "```repl\\nFinal = [found.ok.count(), sum(row['n'] for row in found.ok.select('n'))]\\n```",
]

def reads(text):
    return {"n": int(text.split()[1])}

def run(server, **changes):
    settings = server.settings(run_dir=runs, records_per_call=1, calls_per_group=lines // 4, concurrency=concurrency, **changes)
    return rlm_ray.ask(rlm_ray.open(lake), "q", settings)

def when(server, counts, act):
    def wait():
        for count in counts:
            server.wait_for(count, timeout=240)
            act()
    thread = threading.Thread(target=wait)
    thread.start()
    return thread

def tell(server, answer, **more):
    prompts = collections.Counter(request["prompt"] for request in server.requests)
    repeated = sum(times - 1 for times in prompts.values())
    told = {"value": answer.value, "complete": answer.complete, "calls": answer.usage["calls"], "seen": server.count}
    told |= {"reason": answer.stop_reason, "said": answer.message}
    print(json.dumps(told | {"repeated": repeated, "most": server.stats()["most_in_flight"]} | more))
"""

NODE = (
    HEAD
    + """
from ray.cluster_utils import Cluster
os.environ["RLM_RAY_SHARED_PATHS"] = "1"  # all nodes are this machine
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
victim = cluster.add_node(num_cpus=2)
ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
cluster.wait_for_nodes()


# the processes that a node runs
def workers(raylet):
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if entry.isdigit() and int(open(f"/proc/{entry}/stat").read().rpartition(")")[2].split()[1]) == raylet:
                yield entry


# whether one of them has a connection to the model server
def asking(raylet, server):
    port = f":{int(server.base_url.rsplit(':', 1)[1].split('/')[0]):04X}"
    rows = [line.split() for line in open("/proc/net/tcp").readlines()[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows if row[2].endswith(port) and row[3] == "01"}
    for worker in workers(raylet):
        with contextlib.suppress(OSError):
            opened = os.listdir(f"/proc/{worker}/fd")
            for descriptor in opened:
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{worker}/fd/{descriptor}") in sockets:
                        return True
    return False


with ModelServer(root=CELLS, leaf=each(reads), faults=Faults(latency=0.1)) as server:

    def lose():
        raylet = victim.all_processes["raylet"][0].process.pid
        until = time.monotonic() + 120
        while not asking(raylet, server) and time.monotonic() < until:
            time.sleep(0.05)
        asked = asking(raylet, server)
        cluster.remove_node(victim, allow_graceful=False)
        return asked

    with concurrent.futures.ThreadPoolExecutor() as threads:
        losing = threads.submit(lose)
        answer = run(server)
        tell(server, answer, asked=losing.result())
ray.shutdown()
cluster.shutdown()
"""
)

LIMITER = (
    HEAD
    + """
from rlm_ray.cluster.limiter import NAME, NAMESPACE
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
killed = []
def kill():
    actor = ray.get_actor(NAME, NAMESPACE)
    killed.append(actor._actor_id.hex())
    ray.kill(actor)
with ModelServer(root=CELLS, leaf=each(reads), faults=Faults(latency=0.05)) as server:
    killer = when(server, [lines // 4, lines // 2], kill)
    answer = run(server, endpoint_concurrency=6)
    killer.join()
    tell(server, answer, killed=len(killed))
"""
)

STORE = (
    HEAD
    + """
spill = sys.argv[5]
SIZE = 1 << 20
ray.init(
    address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
    object_store_memory=80 << 20, object_spilling_directory=spill,
)
CELLS[0] = CELLS[0].replace("{'n': 'integer'}", "{'n': 'integer', 'long': 'string'}")
with ModelServer(root=CELLS, leaf=each(lambda text: reads(text) | {"long": "x" * SIZE})) as server:
    answer = run(server, completion_tokens=SIZE)
    spilled = sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(spill) for name in names)
    tell(server, answer, spilled=spilled)
"""
)


@pytest.fixture
def outcome(numbers: Callable[[int], Path], program: Callable[..., Any], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def run(code: str, lines: int, *more: Any) -> dict[str, Any]:
        ended = program(code, numbers(lines), tmp_path / "runs", lines, CONCURRENCY, *more)
        out, err = ended.communicate(timeout=400)
        assert ended.returncode == 0, err[-4000:]
        told: dict[str, Any] = json.loads(
            next(line for line in out.splitlines() if line.startswith("{"))
        )  # Ray has words of its own
        assert told["value"] == [lines, sum(range(lines))], told
        assert told["complete"]
        # what was in flight at a loss is charged in full
        assert told["calls"] >= told["seen"]
        return told

    return run


def test_a_node_that_is_lost(outcome: Callable[..., dict[str, Any]], sized: Callable[[int, int], int]) -> None:
    told = outcome(NODE, sized(160, 2_000))
    assert told["asked"], "no group was on the node when it was lost"
    # all four groups may have been there, or one that had just begun
    assert told["repeated"] <= 4 * CONCURRENCY


def test_a_limiter_that_is_lost(outcome: Callable[..., dict[str, Any]], sized: Callable[[int, int], int]) -> None:
    told = outcome(LIMITER, sized(160, 2_000))
    assert told["killed"] == 2
    assert told["repeated"] == 0
    assert told["most"] <= 2 * 6, "each worker keeps to its part while the actor starts again"


def test_an_object_store_that_is_full(
    outcome: Callable[..., dict[str, Any]], sized: Callable[[int, int], int], tmp_path: Path
) -> None:
    told = outcome(STORE, sized(104, 400), tmp_path / "spilled")
    assert told["spilled"] > 16 << 20
    assert told["repeated"] == 0
