"""A model server for tests: OpenAI-compatible, scripted, on a free loopback port.

On a thread of this process (the default; functions of a test can be scripts), or in a process of its own
(`process=True`; for benchmarks, so that the server does not share the interpreter with what is measured).
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import urllib.request
from types import TracebackType
from typing import Any

import cloudpickle
from aiohttp import web

from rlm_ray.errors import InputError
from rlm_ray.settings import Settings
from rlm_ray.testing.endpoint import Endpoint, RequestRecord, Script, ServerStats
from rlm_ray.testing.faults import Faults
from rlm_ray.testing.scripts import Leaf, Roots, echo

_START_SECONDS = 60


class ModelServer:
    """A scripted, OpenAI-compatible model server on 127.0.0.1.

    Parameters
    ----------
    root : list of str, callable or mapping, optional
        What a model that writes code replies: one str per turn, or `f(messages) -> str`. A mapping gives each question
        its own script, by a text that occurs in it (`""` for all others): the roots of recursive calls, for example.
        A request is a root's when its first message teaches the REPL.
    leaf : callable
        `f(prompt, schema) -> str` answers every other request. May be `async`. `schema` is the JSON Schema of
        `response_format`, or None.
    faults : Faults, optional
        Latency and failures.
    models : tuple of str, optional
        Names that exist; None accepts any.
    keep_messages : bool
        Keep the messages and parameters of every request in `requests`.
    process : bool
        Serve from a process of its own. Scripts that are functions must then be importable there, or be defined in
        `__main__` or inside a function.
    port : int
        0 takes a free one.

    Attributes
    ----------
    base_url : str
        For `Settings(base_url=…)` or any OpenAI client.

    Examples
    --------
    >>> import json, urllib.request
    >>> with ModelServer(leaf=lambda prompt, schema: prompt.upper()) as server:
    ...     body = json.dumps({"model": "leaf", "messages": [{"role": "user", "content": "hello"}]}).encode()
    ...     with urllib.request.urlopen(server.base_url + "/chat/completions", body) as reply:
    ...         text = json.load(reply)["choices"][0]["message"]["content"]
    ...     print(text, server.count)
    HELLO 1
    """

    def __init__(
        self,
        root: Roots | None = None,
        leaf: Leaf = echo,
        *,
        faults: Faults | None = None,
        models: tuple[str, ...] | None = ("root", "leaf"),
        keep_messages: bool = False,
        process: bool = False,
        port: int = 0,
    ) -> None:
        script = Script(root=root, leaf=leaf, models=models, faults=faults or Faults(), keep_messages=keep_messages)
        self._runner: _Thread | _Process = _Process(script, port) if process else _Thread(script, port)
        self.port = 0

    def start(self) -> ModelServer:
        """Start serving; returns when requests are accepted."""
        self.port = self._runner.start()
        return self

    def close(self) -> None:
        """Stop serving and drop requests that are still held. Closing twice is fine."""
        self._runner.close()

    def __enter__(self) -> ModelServer:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def base_url(self) -> str:
        """Base URL of the API, ending in `/v1`."""
        if not self.port:
            raise InputError("This ModelServer does not run. Use it in a `with` statement, or call start() first.")
        return f"http://127.0.0.1:{self.port}/v1"

    def settings(self, **changes: Any) -> Settings:
        """Return Settings that use this server: models `root` and `leaf`, and `changes`.

        A key must still be in the environment variable that `api_key_env` names; any value does, unless a fault checks it.
        """
        return Settings(**({"root_model": "root", "sub_model": "leaf", "base_url": self.base_url} | changes))

    # -- what happened ---------------------------------------------------------------------------------------------

    def stats(self) -> ServerStats:
        """Return the counters: `count`, `in_flight`, `most_in_flight`, `statuses`, `tokens`, `script_errors`."""
        stats: ServerStats = self._call("GET", "/stats")
        return stats

    @property
    def count(self) -> int:
        """Chat completions that arrived so far."""
        return int(self.stats()["count"])

    @property
    def most_in_flight(self) -> int:
        """Most chat completions that were in flight at once."""
        return int(self.stats()["most_in_flight"])

    @property
    def requests(self) -> list[RequestRecord]:
        """The last 100,000 requests in order of arrival.

        Each has `number`, `prompt` (a hash of the request's bytes) and, once answered, `status`, `model`, `typed`, `fault`,
        `prompt_tokens`, `completion_tokens`, `cached_tokens`; with `keep_messages` also `messages` and `body`.
        """
        requests: list[RequestRecord] = self._call("GET", "/control/requests")
        return requests

    # -- steering it while it runs ---------------------------------------------------------------------------------

    def wait_for(self, count: int, timeout: float = 60.0) -> None:
        """Block until `count` requests have arrived since the start; TimeoutError after `timeout` seconds."""
        self._call("GET", f"/control/wait?count={count}", timeout=timeout)

    def wait_until_idle(self, timeout: float = 60.0) -> None:
        """Block until no request is in flight; TimeoutError after `timeout` seconds."""
        self._call("GET", "/control/idle", timeout=timeout)

    def hold(self, after: int = 0) -> None:
        """Keep every request from now on waiting, but the next `after` ones, until `release()`.

        With `wait_for` this stops a run at a known point, without a sleep.
        """
        self._call("POST", f"/control/hold?after={after}")

    def release(self) -> None:
        """Let held requests go on, and hold no more."""
        self._call("POST", "/control/release")

    def set_faults(self, faults: Faults) -> None:
        """Change the faults from now on."""
        self._call("POST", "/control/faults", json.dumps(faults.as_json()).encode())

    def _call(self, method: str, path: str, body: bytes | None = None, timeout: float = 60.0) -> Any:
        url = self.base_url.removesuffix("/v1") + path
        request = urllib.request.Request(url, data=body, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy: it is loopback
        with opener.open(request, timeout=timeout) as reply:
            return json.load(reply)


async def serve(script: Script, port: int, ready: Any, stop: Any) -> None:
    """Serve until `stop` (an awaitable) is done; `ready(port)` is called once requests are accepted."""
    endpoint = Endpoint(script)
    server = web.Server(endpoint.handle, handler_cancellation=True, access_log=None, keepalive_timeout=600)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port, backlog=4096)
        await site.start()
        ready(runner.addresses[0][1])
        await stop
    finally:
        await runner.cleanup()


class _Thread:
    def __init__(self, script: Script, port: int) -> None:
        self._script, self._port = script, port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Future[None] | None = None
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="model-server", daemon=True)

    def start(self) -> int:
        self._thread.start()
        self._started.wait(_START_SECONDS)
        if self._failure is not None:
            raise self._failure
        return self._port

    def _run(self) -> None:
        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            self._stop = self._loop.create_future()
            await serve(self._script, self._port, self._ready, self._stop)

        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 - a port that is taken, say: start() raises it to the caller
            self._failure = error
            self._started.set()

    def _ready(self, port: int) -> None:
        self._port = port
        self._started.set()

    def close(self) -> None:
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            stop = self._stop
            self._loop.call_soon_threadsafe(lambda: None if stop.done() else stop.set_result(None))
        if self._thread.ident is not None:
            self._thread.join()


class _Process:
    """`python -m rlm_ray.testing --script-on-stdin`; it ends when its standard input closes, so it never outlives us."""

    def __init__(self, script: Script, port: int) -> None:
        self._script, self._port = script, port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> int:
        pickled = cloudpickle.dumps(self._script)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-m", "rlm_ray.testing", "--port", str(self._port), "--script-on-stdin", str(len(pickled))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(pickled)
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self.close()
            raise InputError(
                f"The model server's process ended with code {code}. Its scripts must be importable from {sys.executable}."
            )
        return int(json.loads(line)["port"])

    def close(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
