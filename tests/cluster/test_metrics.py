"""Counts of model calls: as plain values in an answer, and read back from the page that Ray's agent serves for Prometheus."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rlm_ray
from rlm_ray.models.contract import Usage
from rlm_ray.recursion.budget.measures import Measures
from rlm_ray.testing import Faults, ModelServer

PATIENCE = 120
PRICES = {name: {"input": 1.0, "output": 2.0} for name in ("root", "leaf")}
CELL = "Final = [llm_query_batched(['a', 'b', 'c']), rlm_query('What is there?', 'a text')]"
ROOTS = {"How many": [f"```repl\n{CELL}\n```"], "What is there": ["```repl\nFinal = llm_query('d')\n```"]}

#: A process has one Ray; this one has an agent that exports metrics.
PROGRAM = """
import json, sys, time, urllib.request
import ray, rlm_ray
from rlm_ray.testing import Faults, ModelServer
cells, runs, patience = json.loads(sys.argv[1]), sys.argv[2], float(sys.argv[3])
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
    _metrics_export_port=int(sys.argv[4]), _system_config={"metrics_report_interval_ms": 500})
(node,) = ray.nodes()
url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
with ModelServer(root=cells, faults=Faults(error=1.0, attempts=1)) as server:
    settings = server.settings(run_dir=runs, calls_per_group=2)
    answer = rlm_ray.ask("nothing", "How many?", settings)
ends, told = time.monotonic() + patience, []
while time.monotonic() < ends:
    try:
        page = opener.open(url, timeout=10).read().decode()
    except OSError:
        page = ""  # the agent is not there yet
    told = [line for line in page.splitlines() if line.startswith("ray_rlm_ray_")]
    done = sum(float(line.rsplit(" ", 1)[1]) for line in told if line.startswith("ray_rlm_ray_calls_total"))
    if done >= sum(row["calls"] for row in answer.usage["by_model"]):
        break
    time.sleep(0.5)  # a page is all there is to look at
print(json.dumps({"lines": told, "usage": answer.usage}))
"""


def test_calls_add_up_by_depth_and_model() -> None:
    measures = Measures()
    measures.add(0, "root", Usage(1, 100, 10, 40, usd=0.25), seconds=1.0, attempts=1)
    measures.add(1, "leaf", Usage(2, 50, 5), seconds=0.5, attempts=2, failed=True)
    measures.add(1, "leaf", Usage(1, 50, 5, usd=None), seconds=2.0, attempts=1)
    whole = Measures()
    whole.merge(json.loads(json.dumps(measures.rows())))
    whole.merge(measures.rows())
    root, leaf = whole.rows()
    assert (root["depth"], root["model"], root["calls"], root["cached_tokens"], root["usd"]) == (0, "root", 2, 80, 0.5)
    assert (leaf["depth"], leaf["model"], leaf["calls"], leaf["failed"], leaf["retries"]) == (1, "leaf", 4, 2, 2)
    assert (leaf["seconds"], leaf["slowest"], leaf["usd"]) == (5.0, 2.0, None)


def test_an_answer_says_what_each_depth_and_model_took(
    ray_local: Any, model_server: Callable[..., ModelServer], run_dir: Path
) -> None:
    server = model_server(root=ROOTS, faults=Faults(error=1.0, attempts=1))
    settings = server.settings(run_dir=str(run_dir), calls_per_group=2, prices=PRICES)
    answer = rlm_ray.ask("nothing", "How many?", settings)
    rows = {(row["depth"], row["model"]): row for row in answer.usage["by_model"]}
    assert {key: row["calls"] for key, row in rows.items()} == {(0, "root"): 1, (0, "leaf"): 3, (1, "root"): 1, (1, "leaf"): 1}
    assert [row["retries"] for row in rows.values()] == [row["calls"] for row in rows.values()], "each was refused once"
    assert all(row["failed"] == 0 for row in rows.values())
    for name in ("prompt_tokens", "completion_tokens", "cached_tokens"):
        assert sum(row[name] for row in rows.values()) == answer.usage[name]
    assert sum(row["usd"] for row in rows.values()) == pytest.approx(answer.usage["usd"])
    assert all(0 < row["slowest"] <= row["seconds"] for row in rows.values())
    again = rlm_ray.resume(answer.run, settings)
    assert again.usage == answer.usage


def test_metrics_are_read_back_from_ray(tmp_path: Path, run_dir: Path) -> None:
    if importlib.util.find_spec("prometheus_client") is None:
        pytest.skip("no agent that exports metrics: pip install 'ray[default]'")
    from tests.servers import free_ports

    (port,) = free_ports(1)
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(ROOTS), str(run_dir), str(PATIENCE), str(port)],
        env=environment | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    told = json.loads(done.stdout.splitlines()[-1])

    def value(name: str, depth: int, model: str) -> float:
        mine = (line for line in told["lines"] if line.startswith(f"ray_rlm_ray_{name}{{"))
        return sum(float(line.rsplit(" ", 1)[1]) for line in mine if f'depth="{depth}"' in line and f'model="{model}"' in line)

    for depth, model, calls in ((0, "root", 1), (0, "leaf", 3), (1, "root", 1), (1, "leaf", 1)):
        assert value("calls_total", depth, model) == calls
        assert value("retries_total", depth, model) == calls
        assert value("call_seconds_count", depth, model) == calls
        assert value("in_flight", depth, model) == value("queued", depth, model) == 0
    places = [(0, "root"), (0, "leaf"), (1, "root"), (1, "leaf")]
    for name in ("prompt_tokens", "completion_tokens"):
        assert sum(value(f"{name}_total", *place) for place in places) == told["usage"][name]
