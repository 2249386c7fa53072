"""Lines, events and fields of one log beside each other, in one run on one core: MB a second, and the ratio to lines.

POLARS_MAX_THREADS=1 python -m tests.benchmarks.log_events [MEGABYTES]
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("POLARS_MAX_THREADS", "1")

from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.operations import operations
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.logs.layout import LogOptions
from rlm_ray.corpus.reading.work import Work
from rlm_ray.handle.plan import Grep, Step, Where

_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36"


def _java(count: int) -> str:
    rng = random.Random(1)
    parts = []
    for number in range(count):
        level = rng.choices(("INFO", "WARN", "ERROR"), (90, 8, 2))[0]
        moment = f"2024-01-05 {number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d},{number % 1000:03d}"
        parts.append(
            f"{moment} {level} [worker-{number % 16}] org.example.Service: request {rng.randrange(10**6)} took {number % 977} ms\n"
        )
        if level == "ERROR":
            parts.append("java.lang.IllegalStateException: it broke\n" + "\tat org.example.Service.call(Service.java:117)\n" * 12)
    return "".join(parts)


def _access(count: int) -> str:
    rng = random.Random(1)
    return "".join(
        f"10.0.{number % 256}.{rng.randrange(256)} - - [05/Jan/2024:10:{number // 60 % 60:02d}:{number % 60:02d} +0000] "
        f'"GET /a/{rng.randrange(10**6)}.html HTTP/1.1" {rng.choice((200, 404, 500))} {rng.randrange(10**5)} '
        f'"https://example.com/" "{_AGENT}"\n'
        for number in range(count)
    )


def _works(manifest: Manifest, *steps: Step) -> list[Work]:
    plan = bind(steps, manifest.schema)
    return [Work(shard, plan) for shard in manifest.shards]


def _count(manifest: Manifest, *steps: Step) -> int:
    return sum(operations.run("count", work, {}) for work in _works(manifest, *steps))


def _scan(manifest: Manifest, *columns: str) -> int:
    return sum(batch.num_rows for work in _works(manifest) for batch in work.scan(columns=columns or None))


def _best(work: Callable[[], int]) -> tuple[float, int]:
    best, count = 1e9, 0
    for _ in range(3):
        began = time.process_time()
        count = work()
        best = min(best, time.process_time() - began)
    return best, count


def main() -> None:
    """Print the table."""
    size = int(sys.argv[1]) << 20 if len(sys.argv) > 1 else 64 << 20
    with tempfile.TemporaryDirectory() as folder:
        files = {"java": Path(folder, "java.log"), "access": Path(folder, "access.log")}
        for name, make in {"java": _java, "access": _access}.items():
            block = make(20_000)
            files[name].write_text(block * max(1, size // len(block)))
        java, access = (str(files[name]) for name in ("java", "access"))
        lines, events = open_manifest(java), open_manifest(java, unit="event")
        auto = LogOptions(parse="auto")
        fields, event_fields = open_manifest(java, logs=auto), open_manifest(java, unit="event", logs=auto)
        web = open_manifest(access, logs=auto)
        rows: list[tuple[str, str, Callable[[], int], str | None]] = [
            ("lines: text", java, lambda: _scan(lines), None),
            ("events: text", java, lambda: _scan(events), "lines: text"),
            ("lines: grep, one in 4,000", java, lambda: _count(lines, Grep("request 77777 ")), None),
            ("events: grep, one in 4,000", java, lambda: _count(events, Grep("request 77777 ")), "lines: grep, one in 4,000"),
            ("lines: grep, one in 50", java, lambda: _count(lines, Grep("ERROR")), None),
            ("events: grep, one in 50", java, lambda: _count(events, Grep("ERROR")), "lines: grep, one in 50"),
            ("lines: count", java, lambda: _count(lines), None),
            ("events: count", java, lambda: _count(events), "lines: count"),
            ("fields of log4j, all", java, lambda: _scan(fields), None),
            ("fields of log4j, time and level", java, lambda: _scan(fields, "time", "level"), None),
            ("fields of log4j, where level", java, lambda: _count(fields, Where((("level", "==", "ERROR"),))), None),
            ("events with fields of log4j, all", java, lambda: _scan(event_fields), None),
            ("fields of combined, all", access, lambda: _scan(web), None),
            ("fields of combined, time and status", access, lambda: _scan(web, "time", "status"), None),
            ("fields of combined, where time", access, lambda: _count(web, Where((("time", ">", "2024-01-05T10:30:00Z"),))), None),
        ]
        seconds: dict[str, float] = {}
        for name, path, work, beside in rows:
            seconds[name], count = _best(work)
            rate = Path(path).stat().st_size / 1e6 / seconds[name]
            ratio = "" if beside is None else f"{seconds[name] / seconds[beside]:6.2f} of lines"
            print(f"{name:38} {rate:8,.0f} MB/s {count:10,} records {ratio}")


if __name__ == "__main__":
    main()
