"""Sandboxes for tests, with a scaffold of their own and an answering parent."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rlm_ray.sandbox.outside.events import Event, Limits, Request, Restarted
from rlm_ray.sandbox.outside.host import Sandbox

SCAFFOLD = """
def namespace(backend, setup):
    def ping(value=None):
        return backend.call("ping", {"value": value})[0]
    def fetch(size):
        return backend.call("fetch", {"size": size})
    return {"ping": ping, "fetch": fetch, "context": setup.get("text", "the context")}
"""


class Driven:
    """A sandbox and the loop around it."""

    def __init__(self, **options: Any) -> None:
        limits = Limits(**{"soft_seconds": 10.0, "memory": 1 << 30, "grace_seconds": 2.0} | options.pop("limits", {}))
        setup = {"scaffold_source": SCAFFOLD} | options.pop("setup", {})
        self.box = Sandbox(setup, level=options.pop("level", "strict"), limits=limits, **options)
        self.answers: Callable[[Sandbox, Request], None] = self.echo
        self.requests: list[Request] = []

    @staticmethod
    def echo(box: Sandbox, request: Request) -> None:
        if request.verb == "fetch":
            box.reply(request.id, "size", blob=b"x" * request.args["size"])
        else:
            box.reply(request.id, request.args["value"])

    def run(self, code: str, history: str | None = None) -> Any:
        """Run a cell to its end: CellDone or Restarted."""
        self.box.start_cell(code, history)
        return self.wait()

    def wait(self) -> Any:
        """Answer requests until the cell has ended."""
        while True:
            for event in self.step():
                if isinstance(event, Request):
                    self.requests.append(event)
                    self.answers(self.box, event)
                elif not (isinstance(event, Restarted) and not event.in_cell and self.box.busy):
                    return event

    def step(self) -> list[Event]:
        ends = self.box.deadline()
        select.select([self.box.fileno()], [], [], None if ends is None else max(0.0, ends - time.monotonic()))
        return self.box.receive()

    def output(self, code: str) -> str:
        """What a cell prints, which must not fail."""
        done = self.run(code)
        assert done.error is None, done.error
        return done.output

    def error(self, code: str) -> str:
        """What a cell fails with."""
        done = self.run(code)
        assert done.error is not None
        return done.error


@pytest.fixture
def start() -> Iterator[Callable[..., Driven]]:
    """A function that starts a sandbox (options of Sandbox, `limits` as a dict) which ends with the test."""
    started: list[Driven] = []

    def begin(**options: Any) -> Driven:
        started.append(Driven(**options))
        return started[-1]

    yield begin
    for driven in started:
        driven.box.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[Driven]:
    """One sandbox for a module's tests that leave nothing behind that matters."""
    driven = Driven()
    yield driven
    driven.box.close()
