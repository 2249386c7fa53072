"""Children that lie: a test, or a fuzzer, holds the other end of the socket and says what it likes."""

from __future__ import annotations

import socket
from typing import Any

from rlm_ray.sandbox.outside.events import CellDone, Final, Request, Restarted
from rlm_ray.sandbox.wire.channel import PREFIX, dumps


class Liar:
    """Stands in for a child: the test holds the other end of its socket."""

    def __init__(self) -> None:
        self.socket, self.mouth = socket.socketpair()
        self.socket.setblocking(False)
        self.mouth.setblocking(False)
        self.pid, self.verdict, self.could_not_start, self.wall_ends = 0, None, False, None

    def kill(self, verdict: str) -> None:
        self.verdict = self.verdict or verdict
        self.mouth.close()

    def interrupt(self) -> None:
        return

    def wipe(self) -> None:
        return

    def printed(self) -> str:
        return "so far\x1b\ud800"

    def exit_text(self) -> str:
        return "it closed its mouth"

    def say(self, data: bytes) -> None:
        if self.mouth.fileno() >= 0:
            try:
                self.mouth.send(data)
            except OSError:
                return


class Liars:
    """Stands in for the pool."""

    now: Liar

    def take(self, kind: Any) -> Liar:
        self.now = Liar()
        return self.now

    def retire(self, child: Liar, verdict: str) -> None:
        child.kill(verdict)
        child.socket.close()

    def refill(self, kind: Any) -> None:
        return

    def watch(self, child: Liar, wall_ends: float | None) -> None:
        child.wall_ends = wall_ends

    def rest(self, child: Liar, seconds: float) -> None:
        child.wall_ends = None


def frame(header: Any, blob: bytes, flag: int = 0) -> bytes:
    head = dumps(header)
    return PREFIX.pack(len(head), len(blob), flag) + head + blob


GOOD = [frame({"t": "ready", "walls": {}}, b"") + frame({"t": "set"}, b"")]


def check(event: Any) -> None:
    """An event is of the types that it promises, and may be shown."""
    if isinstance(event, Request):
        assert isinstance(event.args, dict)
        assert isinstance(event.blob, bytes)
        shown = [event.verb]
    elif isinstance(event, CellDone):
        shown = [event.output, *event.lost, *event.names, *filter(None, [event.error, event.final_problem])]
        assert event.final is None or isinstance(event.final, Final)
        assert type(event.truncated) is int
    else:
        assert isinstance(event, Restarted)
        shown = [event.reason, event.output, *event.lost, *event.names]
    for text in shown:
        text.encode("utf-8")
        assert "\x1b" not in text
