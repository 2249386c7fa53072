"""The lake's verbs on one core, beside bare engines and the limits of the machine: times as ratios in one run, and memory.

    python tests/benchmarks/lake.py [--megabytes 256] [--files 8] [--objects 20000] [--rounds 3] [--stores local,s3]
                                    [--only WORD] [--folder FOLDER] [--daft PYTHON] [--ray CPUS] [--json]

Makes the same logs as Parquet, text, gzip, JSON lines and CSV from a seed, in a folder and on a SeaweedFS of its own. Each
line is one process, on one thread; what it prints is the best of the rounds after one that warms up: MB/s of uncompressed
data, our time over theirs (and our CPU's, which other work on the machine changes less), and the peak of resident memory
above that of the same process with its libraries loaded. `cold` is the first round after the files have left the page cache.
Peers that are not installed (duckdb, ripgrep, daft) are left out, with the reason on stderr; daft does not go together with our
pyarrow, so it may be another interpreter's. Without `--ray` this is what one task does, and `sql` and `aggregate`, which need a
sandbox, are left out; with it, our verbs go through the public API on so many CPUs, Ray's start apart, and the peers have so many
threads. `lake_ray.py` has the growth with shards and nodes, `lake_open.py` that with objects.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks.lake_peers import FORMATS, LITERAL, LOCAL, REGEX, REMOTE, Case  # noqa: E402

# -- the data


def rows(seed: int, count: int) -> Any:
    """Return log rows as a polars frame: time, level, host, milliseconds, message. No two messages are alike."""
    import numpy
    import polars

    draw = numpy.random.default_rng(seed)
    text, number = polars.String, polars.col
    frame = polars.DataFrame(
        {
            "second": numpy.arange(count) + seed * count,
            "level": draw.choice(["INFO", "WARN", "ERROR"], count, p=[0.9, 0.08, 0.02]),
            "host": draw.integers(0, 200, count),
            "took": draw.integers(0, 2_000, count),
            "kind": draw.integers(0, 3, count),
            "path": draw.integers(0, 1 << 62, count),
            "session": draw.integers(0, 1 << 62, count),
        }
    )
    took = number("took").cast(text)
    what = (
        polars.when(number("kind") == 0)
        .then(polars.format("timeout after {} ms waiting for lock on", took))
        .when(number("kind") == 1)
        .then(polars.format("connection refused by peer {} while it asked", took))
        .otherwise(polars.format("served in {} ms, nothing to say of it", took))
    )
    return frame.select(
        ts=(polars.lit(1_767_225_600) + number("second")).mul(1_000).cast(polars.Datetime("ms")).dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        level="level",
        host=polars.format("node-{}", number("host")),
        took="took",
        message=polars.format("{} /data/{}/part session={} ok", what, number("path"), number("session")),
    )


def write(folder: Path, megabytes: int, files: int, formats: list[str]) -> None:
    """Write the same rows in some formats."""
    import polars

    line = polars.concat_str(polars.all().cast(polars.String), separator=" ").alias("line")
    for seed in range(files):
        frame = rows(seed, megabytes * 1_000_000 // files // 135)
        data = ("\n".join(frame.select(line)["line"]) + "\n").encode()
        for kind in formats:
            extension = FORMATS[kind]
            path = folder / kind / f"part-{seed:03d}.{extension}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "parquet":
                frame.write_parquet(path, compression="zstd", row_group_size=100_000)
            elif kind == "jsonl":
                frame.write_ndjson(path)
            elif kind == "csv":
                frame.write_csv(path)
            else:
                path.write_bytes(data if kind == "text" else gzip.compress(data, 1))


# -- ours


def ours(case: Case) -> Callable[[], Any]:
    """Return a function that computes a verb over all shards, one after the other."""
    from rlm_ray.corpus.opening import open_manifest
    from rlm_ray.corpus.operations import operations
    from rlm_ray.corpus.planning import chunk_ranges, drawing, shard_choice
    from rlm_ray.corpus.planning.bind import bind
    from rlm_ray.corpus.reading import work
    from rlm_ray.handle.plan import Grep, Step, Where

    uri = case["uri"]
    verb = case["verb"]
    if verb == "open":
        return lambda: len(open_manifest(uri).shards)
    manifest = open_manifest(uri)
    column = "message" if "message" in manifest.schema else None
    if verb == "chunks":
        return lambda: len(chunk_ranges.plain_chunk_ranges(bind((), manifest.schema), manifest, 32_000) or [])
    steps: dict[str, tuple[Step, ...]] = {
        "where": (Where((("level", "==", "ERROR"),)),),
        "literal": (Grep(LITERAL, column),),
        "regex": (Grep(REGEX, column),),
    }
    plan = steps.get(verb, ())

    def works() -> list[work.Work]:
        bound = bind(plan, manifest.schema)
        return [work.Work(shard, bound) for shard in shard_choice.shards_for(bound, manifest)]

    def every(name: str, **args: Any) -> Any:
        return operations.merge(name, operations.run_all(name, works(), args), args)

    def hits() -> int:
        return sum(batch.num_rows for work in works() for batch in work.scan())

    def sample() -> int:
        counts = [count if count is not None else operations.run("count", work, {}) for work, count in counted()]
        found = works()
        return sum(
            len(operations.run("at", found[number], {"ordinals": chosen}))
            for number, chosen in drawing.draw(counts, 100, 1).items()
        )

    def counted() -> list[tuple[Any, int | None]]:
        found = works()
        return list(zip(found, shard_choice.known_counts(bind(plan, manifest.schema), [work.shard for work in found]), strict=True))

    ways: dict[str, Callable[[], Any]] = {
        "count": lambda: every("count"),
        "where": lambda: every("count"),
        "literal": hits,
        "regex": hits,
        "count_by": lambda: every("count_by", column="host", limit=10)["distinct"],
        "sample": sample,
        "cut": lambda: len(every("chunk_ranges", target_bytes=32_000, by=None, overlap_bytes=0)),
        "lookup": lambda: every("head", n=5)[:1] and 1,
    }
    return ways[verb]


# -- one line in a process of its own


def child(case: Case) -> None:
    """Measure one way and print it as JSON."""
    peers = REMOTE if case["uri"].startswith("s3://") else LOCAL
    mine: Callable[[Case], Callable[[], Any]] = ours
    if case["ray"]:
        from tests.benchmarks.lake_ray import ray_way as mine
    way = mine if case["who"] == "ours" else peers[case["kind"], case["verb"]][case["who"]]
    try:
        run = way(case)
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        return
    before = peak()
    value = run()
    forget(case["uri"])
    began = time.perf_counter()
    run()
    cold = time.perf_counter() - began
    times, works = [], []
    for _ in range(case["rounds"]):
        began, worked = time.perf_counter(), sum(os.times()[:4])
        run()
        times.append(time.perf_counter() - began)
        works.append(sum(os.times()[:4]) - worked)
    print(
        json.dumps(
            {"seconds": min(times), "cpu": min(works), "cold": cold, "value": value, "memory": peak() - before, "total": peak()}
        )
    )


def forget(uri: str) -> None:
    """Let the kernel drop the files of a folder from its cache, where it will."""
    for path in [] if uri.startswith("s3://") or uri.endswith("/many") else Path(uri).iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def peak() -> float:
    """The peak of this process' resident memory, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def measure(case: Case) -> dict[str, Any]:
    """Run one line."""
    # a task of ours is on one thread
    threads = 1 if case["who"] == "ours" else case["threads"]
    one = os.environ | {"POLARS_MAX_THREADS": str(threads), "DO_NOT_TRACK": "1", "PYTHONPATH": str(ROOT)}
    python = case["daft"] if case["who"] == "daft" and case["daft"] else sys.executable
    done = subprocess.run([python, __file__, "--child", json.dumps(case)], capture_output=True, text=True, env=one, check=False)
    if done.returncode:
        return {"failed": done.stderr[-300:]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if "missing" in found:
        print(f"{case['who']} is left out: {found['missing']}", file=sys.stderr)
    return found


def table(store: str, base: str, sizes: dict[str, int], arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the lines of one store."""
    for (kind, verb), peers in (REMOTE if store == "s3" else LOCAL).items():
        with_ray = kind in ("parquet", "text") and verb not in ("open", "chunks", "cut", "lookup")
        if arguments.only not in f"{store} {kind} {verb}" or not (with_ray if arguments.ray else verb not in ("sql", "aggregate")):
            continue
        if kind != "many" and kind not in arguments.formats.split(","):
            continue
        line: dict[str, Any] = {"store": store, "kind": kind, "verb": verb, "megabytes": sizes[kind] / 1e6, "ray": arguments.ray}
        for who in ("ours", *peers):
            case: Case = {"who": who, "kind": kind, "verb": verb, "uri": f"{base}/{kind}", "rounds": arguments.rounds}
            line[who] = measure(case | {"ray": arguments.ray, "threads": arguments.ray or 1, "daft": arguments.daft})
        yield line


def shown(line: dict[str, Any]) -> str:
    """One line for people."""
    mine = line["ours"]
    if "seconds" not in mine:
        return f"{line['store']:6}{line['kind']:8}{line['verb']:9} failed: {mine}"
    speed = (
        "" if line["kind"] == "many" or line["verb"] in ("open", "chunks") else f"{line['megabytes'] / mine['seconds']:7,.0f} MB/s"
    )
    text = f"{line['store']:6}{line['kind']:8}{line['verb']:9}{mine['seconds'] * 1e3:9,.1f} ms"
    text += f" (cold {mine['cold'] * 1e3:7,.0f}) {speed:12} +{mine['memory']:4.0f} MB"
    for who, other in line.items():
        if isinstance(other, dict) and who != "ours" and "seconds" in other:
            text += f" | {who} {mine['seconds'] / other['seconds']:.2f}x"
            with_cpu = not line["ray"] and min(mine["cpu"], other["cpu"]) >= 0.05
            text += f" cpu {mine['cpu'] / other['cpu']:.2f}x" if with_cpu else ""
            text += f" (+{other['memory']:.0f} MB)" if other["memory"] >= 1 else ""
            counted = isinstance(other["value"], int) and isinstance(mine["value"], int)
            if counted and who in ("polars", "duckdb", "daft", "python", "pyarrow", "pyarrow footers") and line["verb"] != "open":
                text += "" if other["value"] == mine["value"] else f" DIFFERS {mine['value']} {other['value']}"
    return text


# -- all of it


def many(folder: Path, count: int) -> None:
    """Write small objects, in a hundred folders."""
    for number in range(count):
        path = folder / "many" / f"day={number % 100:02d}" / f"{number:06d}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"one line of it\n")


@contextlib.contextmanager
def on_s3(folder: Path, scratch: Path) -> Iterator[str]:
    """Copy a folder to a SeaweedFS of its own and name it in the environment."""
    from concurrent.futures import ThreadPoolExecutor

    from rlm_ray import storage
    from tests.servers import SeaweedServer

    server = SeaweedServer()
    os.environ.update(server.environment)
    try:
        server.start(scratch)
        with server.filesystem() as filesystem:
            filesystem.mkdir("lake")
        paths = [path for path in folder.rglob("*") if path.is_file()]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda path: storage.write_bytes(f"s3://lake/{path.relative_to(folder)}", path.read_bytes()), paths))
        os.environ["LAKE_OPTIONS"] = json.dumps(storage.polars_source("s3://lake/x")[1])
        yield "s3://lake"
    finally:
        storage.forget_connections()
        server.close()


def main() -> None:
    """Make the data, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stores", default="local,s3")
    parser.add_argument("--formats", default=",".join(FORMATS), help="text, which says how much there is, must be among them")
    parser.add_argument("--only", default="")
    parser.add_argument("--folder", type=Path, help="where the data is kept for the next time")
    parser.add_argument("--daft", help="an interpreter that has daft")
    parser.add_argument("--ray", type=int, default=0, help="CPUs of a Ray that our verbs go through")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child")
    arguments = parser.parse_args()
    if arguments.child:
        child(json.loads(arguments.child))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch) / "lake"
        if not (folder / "many").is_dir():
            write(folder, arguments.megabytes, arguments.files, arguments.formats.split(","))
            many(folder, arguments.objects)
        sizes = {
            kind: sum(path.stat().st_size for path in (folder / kind).rglob("*") if path.is_file()) for kind in ("many", *FORMATS)
        }
        sizes |= {"parquet": sizes["text"], "gzip": sizes["text"]}  # uncompressed
        for store in arguments.stores.split(","):
            with on_s3(folder, Path(scratch)) if store == "s3" else contextlib.nullcontext(str(folder)) as base:
                for line in table(store, base, sizes, arguments):
                    print(json.dumps(line) if arguments.json else shown(line), flush=True)


if __name__ == "__main__":
    main()
