"""The lake's verbs through the public API and a Ray that runs: the other way of `lake.py`, and its own growth and nodes.

    python tests/benchmarks/lake_ray.py FOLDER [--shards 1,2,4,8,16] [--nodes 1,2,3] [--objects 1000,100000] [--rounds 3]

FOLDER is one that `lake.py --folder` made. Prints seconds of a count behind a literal by the number of Parquet files, by the
number of simulated nodes of one CPU each (on this machine: what is shown is what nodes cost, not what they bring), and, of several
verbs, by the number of text objects of 5 KB, beside `grep -r` over them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks.lake_open import write_objects  # noqa: E402
from tests.benchmarks.lake_peers import LITERAL, REGEX, SQL, SQL_COMBINE, Case  # noqa: E402


def opened(uri: str, cpus: int) -> Any:
    """Open a corpus, with Ray there."""
    import rlm_ray
    from rlm_ray.cluster import connect

    settings = rlm_ray.Settings(num_cpus=cpus)
    connect.connect(settings)
    return rlm_ray.open(uri, settings=settings)


def ray_way(case: Case) -> Callable[[], Any]:
    """Return a function that computes a verb through the API: each time in a session of its own, since one remembers counts."""

    # here, so that they travel with their code: a sandbox knows nothing of this file
    def levels(records: list[dict[str, Any]]) -> dict[str, int]:
        found: dict[str, int] = {}
        for record in records:
            found[record["level"]] = found.get(record["level"], 0) + 1
        return found

    def both(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
        return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}

    sessions = [opened(case["uri"], case["threads"]) for _ in range(case["rounds"] + 2)]
    verb, column = case["verb"], "message" if case["kind"] == "parquet" else None
    ways: dict[str, Callable[[Any], Any]] = {
        "count": lambda corpus: corpus.count(),
        "where": lambda corpus: corpus.where([("level", "==", "ERROR")]).count(),
        "literal": lambda corpus: corpus.grep(LITERAL, column).count(),
        "regex": lambda corpus: corpus.grep(REGEX, column).count(),
        "count_by": lambda corpus: len(corpus.count_by("host")),
        "sample": lambda corpus: len(corpus.sample(100, seed=1)),
        "sql": lambda corpus: corpus.sql(SQL, combine=SQL_COMBINE).count(),
        "aggregate": lambda corpus: sum(corpus.aggregate(levels, both).values()),
    }
    return lambda: ways[verb](sessions.pop())


def timed(run: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """The best of the rounds after one, and the value."""
    value, times = run(), []
    for _ in range(rounds):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times), value


def growth(folder: Path, shards: list[int], rounds: int) -> None:
    """By the number of files."""
    files = sorted((folder / "parquet").iterdir())
    with tempfile.TemporaryDirectory() as scratch:
        for count in shards:
            base = Path(scratch) / str(count)
            base.mkdir()
            for number in range(count):
                (base / f"{number:03d}.parquet").symlink_to(files[number % len(files)])
            seconds, found = timed(
                ray_way({"uri": str(base), "kind": "parquet", "verb": "literal", "threads": 2, "rounds": rounds}), rounds
            )
            print(f"{count:3} files {seconds * 1e3:9,.0f} ms, {seconds / count * 1e3:8,.1f} ms each, {found:,} found", flush=True)


def objects(counts: list[int], rounds: int) -> None:
    """By the number of small objects."""
    ways = {
        "count": lambda corpus: corpus.count(),
        "literal": lambda corpus: corpus.grep(LITERAL).count(),
        "head": lambda corpus: len(corpus.grep(LITERAL).head(3)),
        "count_by": lambda corpus: len(corpus.count_by("day")),
    }
    for count in counts:
        with tempfile.TemporaryDirectory() as scratch:
            write_objects(Path(scratch), count, 5_000)
            grep, _ = timed(
                lambda: subprocess.run(["grep", "-rcF", LITERAL, scratch], stdout=subprocess.DEVNULL).returncode, rounds
            )
            for verb, way in ways.items():
                sessions = [opened(scratch, 2) for _ in range(rounds + 1)]
                seconds, found = timed(lambda: way(sessions.pop()), rounds)  # noqa: B023
                line = f"{count:7,} objects {verb:9}{seconds * 1e3:9,.0f} ms, {seconds / count * 1e6:8,.1f} us each, {found:,}"
                print(line, f"| grep -r {seconds / grep:5.1f}x" if verb == "literal" else "", flush=True)
    ended()


def ended() -> None:
    """End the Ray of this process, so that the next measure starts its own."""
    import ray

    ray.shutdown()


def nodes(folder: Path, counts: list[int], rounds: int) -> None:
    """By the number of nodes."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ["RLM_RAY_SHARED_PATHS"] = "1"
    for count in counts:
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            for _ in range(count - 1):
                cluster.add_node(num_cpus=1)
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
            for kind, verb in (("parquet", "literal"), ("parquet", "count_by"), ("text", "regex")):
                seconds, found = timed(
                    ray_way({"uri": str(folder / kind), "kind": kind, "verb": verb, "threads": 1, "rounds": rounds}), rounds
                )
                print(f"{count} nodes {kind:8}{verb:9}{seconds * 1e3:9,.0f} ms, {found:,}", flush=True)
        finally:
            ended()
            cluster.shutdown()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shards", default="1,2,4,8,16")
    parser.add_argument("--nodes", default="1,2,3")
    parser.add_argument("--objects", default="1000,100000")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    os.environ["POLARS_MAX_THREADS"] = "1"
    if arguments.objects:
        objects([int(item) for item in arguments.objects.split(",")], arguments.rounds)
    if arguments.nodes:
        nodes(arguments.folder, [int(item) for item in arguments.nodes.split(",")], arguments.rounds)
    if arguments.shards:
        growth(arguments.folder, [int(item) for item in arguments.shards.split(",")], arguments.rounds)


if __name__ == "__main__":
    main()
