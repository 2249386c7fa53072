"""A scan of much more text than memory, every process of ours held below a limit by the kernel.

    python tests/benchmarks/lake_long.py [--gigabytes 20] [--limit 600] [--cpus 2] [--ray]

The text is made while it is read, by a small S3 server in a process of its own: objects of 256 MB, in ranges. The scan
runs in so many processes that do what a task does, or (`--ray`) through the public API and Ray. The driver and each worker get
RLIMIT_DATA (all memory that is not a file's) of so many MB; one that asks for more fails, and with it the scan. Prints the
time, the answer, and the peak of each process.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

BLOCK = 16 << 20
OBJECT = 256 << 20
NEEDLE, PATTERN = "connection refused by peer 77 ", r"refused by peer 7\d "


def block() -> bytes:
    """Lines of exactly one block; one in 4,096 has the needle."""
    lines = []
    for number in range(BLOCK // 128):
        what = NEEDLE if number % 4096 == 0 else f"served in {number} ms, nothing to say of it "
        lines.append(f"2026-01-01T00:00:00Z node-{number % 200} {what}".ljust(127, "x"))
    return ("\n".join(lines) + "\n").encode()


def serve(objects: int) -> None:
    """Serve `objects` objects; prints the port."""
    data = memoryview(block())

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(200, b"", OBJECT)

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = parse_qs(parts.query)
            if "list-type" in query:
                prefix = query.get("prefix", [""])[0]
                names = [name for name in (f"text/{number:05d}.log" for number in range(objects)) if name.startswith(prefix)]
                items = "".join(
                    f"<Contents><Key>{name}</Key><Size>{OBJECT}</Size><ETag>&quot;{name[5:10]}&quot;</ETag></Contents>"
                    for name in names
                )
                self.answer(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{items}</ListBucketResult>".encode(), None)
                return
            first, _, last = (self.headers["Range"] or f"bytes=0-{OBJECT - 1}").partition("=")[2].partition("-")
            at, stop = int(first), min(int(last or OBJECT - 1), OBJECT - 1) + 1
            self.answer(206, b"", stop - at, **{"Content-Range": f"bytes {at}-{stop - 1}/{OBJECT}"})
            with contextlib.suppress(ConnectionError):
                while at < stop:
                    part = data[at % BLOCK : at % BLOCK + stop - at]
                    self.wfile.write(part)
                    at += len(part)

        def answer(self, status: int, body: bytes, length: int | None, **headers: str) -> None:
            path = unquote(urlsplit(self.path).path)
            if self.command == "HEAD" and not path.endswith(".log"):
                status, length = 404, 0
            self.send_response_only(status)
            for name, value in {"ETag": f'"{path[-9:-4]}"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            with contextlib.suppress(ConnectionError):
                self.end_headers()
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()


class Held:
    """Puts the limit on this process and on each worker as it appears, and keeps the peaks."""

    def __init__(self, limit: int) -> None:
        self._limit = limit << 20
        self._over = threading.Event()
        self.peaks: dict[str, int] = {}
        self.limited: set[int] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Held:
        self.look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.look()
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.1):
            self.look()

    def look(self) -> None:
        """Look once."""
        for pid, name in _ours():
            with contextlib.suppress(OSError):
                if pid not in self.limited:
                    resource.prlimit(pid, resource.RLIMIT_DATA, (self._limit, self._limit))
                    self.limited.add(pid)
                status = Path(f"/proc/{pid}/status").read_text()
                self.peaks[f"{name} {pid}"] = int(status.partition("VmHWM:")[2].split()[0]) >> 10


def _ours() -> list[tuple[int, str]]:
    """This process and the workers of its Ray."""
    found: dict[int, tuple[int, str]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            found[int(path.name)] = (parent, (path / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
    mine, left = [(os.getpid(), "driver")], [os.getpid()]
    while left:
        one = left.pop()
        for pid, (parent, command) in found.items():
            if parent == one:
                left.append(pid)
                if "ray::" in command or "default_worker.py" in command or "spawn_main" in command:
                    mine.append((pid, "worker"))
    return mine


def main() -> None:
    """Serve, scan, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=20)
    parser.add_argument("--limit", type=int, default=600, help="MB of each process")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--ray", action="store_true", help="through the public API and Ray, not in bare processes")
    parser.add_argument("--serve", type=int)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return
    objects = max(1, round(arguments.gigabytes * 1e9 / OBJECT))
    server = subprocess.Popen([sys.executable, __file__, "--serve", str(objects)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        keys = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
        os.environ.update(keys | {"POLARS_MAX_THREADS": "1", "AWS_REGION": "us-east-1", "PYTHONPATH": str(ROOT)})
        print(scan(objects, arguments.limit, arguments.cpus, arguments.ray))
    finally:
        server.kill()
        server.wait()


def limited(limit: int) -> None:
    """Hold a worker to the limit; begins before its first import of ours."""
    resource.setrlimit(resource.RLIMIT_DATA, (limit << 20, limit << 20))


def scan(objects: int, limit: int, cpus: int, ray: bool) -> str:
    """Count the lines with the needle; return what is to be said."""
    import rlm_ray
    from rlm_ray.corpus.opening import open_manifest
    from rlm_ray.corpus.planning.bind import bind
    from rlm_ray.handle.plan import Grep

    settings = rlm_ray.Settings(num_cpus=cpus)
    if ray:
        from rlm_ray.cluster import connect

        connect.connect(settings)  # what is Ray's own inherits no limit
    with tempfile.TemporaryDirectory() as runs, Held(limit) as held:
        began = time.perf_counter()
        if ray:
            corpus: Any = rlm_ray.open("s3://lake/text", settings=settings.with_(run_dir=runs))
            found = corpus.grep(PATTERN).count()
        else:
            manifest = open_manifest("s3://lake/text")
            plan = bind((Grep(PATTERN),), manifest.schema)
            works = [(shard, plan) for shard in manifest.shards]
            pool = ProcessPoolExecutor(cpus, multiprocessing.get_context("spawn"), limited, (limit,))
            with pool:
                found = sum(pool.map(count, works))
                held.look()
        seconds = time.perf_counter() - began
    wanted = objects * (OBJECT // BLOCK) * -(-BLOCK // 128 // 4096)
    assert found == wanted, f"{found:,} lines were found of {wanted:,}"
    peaks = ", ".join(f"{name.split()[0]} {peak}" for name, peak in held.peaks.items())
    speed = objects * OBJECT / 1e6 / seconds
    return (
        f"{objects * OBJECT / 1e9:.1f} GB in {seconds:.1f} s ({speed:,.0f} MB/s): {found:,} lines found, as there are.\n"
        f"Peak MB of each process, all {len(held.limited)} held to {limit} MB: {peaks}"
    )


def count(work: tuple[Any, ...]) -> int:
    """What a task does with a shard."""
    from rlm_ray.corpus.operations import operations
    from rlm_ray.corpus.reading.work import Work

    return int(operations.run("count", Work(*work), {}))


if __name__ == "__main__":
    main()
