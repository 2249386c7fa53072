"""Inside the sandbox: root code's functions applied to batches of records. Used by `repl.kernel`."""

from __future__ import annotations

import functools
import json
import pickle
import time
from collections.abc import Callable
from typing import Any, TypedDict

from rlm_ray.sandbox.inside import cells
from rlm_ray.sandbox.inside.finals import plain
from rlm_ray.sandbox.inside.link import Link
from rlm_ray.sandbox.inside.walls import denials
from rlm_ray.sandbox.wire.channel import Header, dumps

#: A result of one record may be this large, as JSON.
MAX_RESULT = 8 << 20
FLUSH_BYTES = 256 << 10
FLUSH_SECONDS = 0.25
#: Seconds for which records share a clock: to set it takes longer than most functions.
BURST_SECONDS = 0.05
_RESULT = "the result"

Run = Callable[..., Any]


class Outcome(TypedDict, total=False):
    """What became of one record: its value, or the reason why there is none."""

    value: Any
    error: str


class Functions:
    """Functions by key, and what is done with them.

    Parameters
    ----------
    link : Link
        To the parent.
    run : callable
        ``run(work, seconds, message)``: work under the clock; what it raises is raised.
    """

    def __init__(self, link: Link, run: Run) -> None:
        self._link = link
        self._run = run
        self._functions: dict[str, Callable[..., Any]] = {}
        self.commands: dict[str, Callable[[Header, bytes], None]] = {
            "load": self._load,
            "apply": self._apply,
            "combine": self._combine,
            "bind": self._bind,
            "sql": self._sql,
            "extract": self._extract,
            "parse": self._parse,
        }

    def _load(self, header: Header, blob: bytes) -> None:
        outcome = self._outcome(lambda: pickle.loads(blob), header["seconds"])
        function = outcome.get("value")
        if "error" not in outcome and not callable(function):
            outcome["error"] = f"a {type(function).__name__} is no function"
        if "error" not in outcome and function is not None:
            self._functions[header["key"]] = function
        self._link.send({"t": "loaded", "error": outcome.get("error")})

    def _apply(self, header: Header, blob: bytes) -> None:
        function = self._functions[header["key"]]
        kind, seconds, first = header["kind"], header["seconds"], header["first"]
        records = json.loads(blob)
        results = _Results(self._link, first, at_once=header["at_once"])
        if kind == "aggregate":
            results.add(self._outcome(lambda: plain(function(records), _RESULT), seconds))
        else:
            one = functools.partial(_truth if kind == "filter" else _value, function)
            burst = 0.0 if header["at_once"] else BURST_SECONDS
            while first < len(records):
                first += self._some(one, records, first, seconds, burst, results)
        results.send()
        self._link.send({"t": "applied", "denied": denials.take()})

    def _some(
        self, one: Callable[[Any], Any], records: list[Any], first: int, seconds: float, burst: float, results: _Results
    ) -> int:
        """Do records from `first` on under one clock, for as long as `burst`, up to one that fails; return how many."""
        values: list[Any] = []
        begun = 0
        ends = time.monotonic() + burst

        def work() -> None:
            nonlocal begun
            while first + begun < len(records) and (not begun or time.monotonic() < ends):
                begun += 1
                values.append(one(records[first + begun - 1]))

        # a record that the clock ends has begun within the burst: it has had its seconds
        outcome = self._outcome(work, seconds + burst, seconds)
        results.extend(values)
        if begun > len(values):
            results.add(outcome)
        return begun

    def _combine(self, header: Header, blob: bytes) -> None:
        function = self._functions[header["key"]]
        values = json.loads(blob)
        results = _Results(self._link, 0, at_once=True)
        results.add(self._outcome(lambda: plain(functools.reduce(function, values), _RESULT), header["seconds"]))
        self._link.send({"t": "applied", "denied": denials.take()})

    def _bind(self, header: Header, blob: bytes) -> None:
        from rlm_ray.sandbox.inside.tasks.tables import bind_query

        results = _Results(self._link, 0, at_once=True)
        results.add(self._queried(lambda: bind_query(header["query"], blob, header["memory"]), header["seconds"]))
        self._link.send({"t": "applied", "denied": denials.take()})

    def _sql(self, header: Header, blob: bytes) -> None:
        from rlm_ray.sandbox.inside.tasks.tables import run_sql

        results = _Results(self._link, 0, at_once=False)
        ends = time.monotonic() + header["seconds"]
        batches = run_sql(header["query"], blob, header["memory"])
        while True:
            outcome = self._queried(lambda: next(batches, []), max(0.001, ends - time.monotonic()), header["seconds"])
            if "error" in outcome:
                results.add(outcome)
                break
            if not outcome["value"]:
                break
            for row in outcome["value"]:
                results.add({"value": row})
        results.send()
        self._link.send({"t": "applied", "denied": denials.take()})

    def _extract(self, header: Header, blob: bytes) -> None:
        from rlm_ray.sandbox.inside.tasks.extracts import pages

        results = _Results(self._link, 0, at_once=False)
        ends = time.monotonic() + header["seconds"]
        found = pages(header["kind"], blob)
        while True:
            outcome = self._outcome(lambda: next(found, None), max(0.001, ends - time.monotonic()))
            if "error" not in outcome and outcome["value"] is None:
                break
            results.add(outcome)
            if "error" in outcome:
                break
        results.send()
        self._link.send({"t": "applied", "denied": denials.take()})

    def _parse(self, header: Header, blob: bytes) -> None:
        from rlm_ray.sandbox.inside.tasks.parsing import RemoteFile, parsed

        results = _Results(self._link, 0, at_once=False)
        found = parsed(header["kind"], RemoteFile(self._link, header["size"]), json.loads(blob))
        while True:
            outcome = self._outcome(lambda: next(found, None), header["seconds"])
            value = outcome.get("value")
            if isinstance(value, bytes):
                results.send()
                self._link.send({"t": "blob"}, value)
            elif isinstance(value, str):
                results.send()
                self._link.send({"t": "json"}, value.encode("utf-8", "replace"))
            elif value is not None or "error" in outcome:
                results.add(outcome)
            if value is None:
                break
        results.send()
        self._link.send({"t": "applied", "denied": denials.take()})

    def _queried(self, work: Callable[[], Any], seconds: float, allowed: float | None = None) -> Outcome:
        outcome = self._outcome(work, seconds)
        if "Query interrupted" in outcome.get("error", ""):
            outcome = {"error": f"it took more than {allowed or seconds:g} s"}
        return outcome

    def _outcome(self, work: Callable[[], Any], seconds: float, shown: float | None = None) -> Outcome:
        try:
            return {"value": self._run(work, seconds, f"took more than {shown or seconds:g} s")}
        except BaseException as error:  # noqa: BLE001 - root code's function may raise anything; it becomes an error row
            return {"error": cells.explain(error)}


class _Results:
    """Sends results to the parent now and then, so that little is lost when a later record ends the process."""

    def __init__(self, link: Link, first: int, *, at_once: bool) -> None:
        self._link = link
        self._first = first
        self._at_once = at_once
        self._bodies: list[bytes] = []
        self._count = self._size = 0
        self._since = time.monotonic()

    def add(self, outcome: Outcome) -> None:
        try:
            body = dumps(outcome)
        except (ValueError, RecursionError) as error:
            body = dumps({"error": f"the result cannot be written as JSON: {error}"})
        if len(body) > MAX_RESULT:
            body = dumps({"error": f"the result is {len(body):,} bytes as JSON; at most {MAX_RESULT:,} fit for one record"})
        self._take(body, 1)

    def extend(self, values: list[Any]) -> None:
        """Add values that are plain; together, where none of them is too large."""
        try:
            body = dumps([{"value": value} for value in values])[1:-1]
        except (ValueError, RecursionError):
            body = b""
        if values and 0 < len(body) <= MAX_RESULT:
            self._take(body, len(values))
            return
        for value in values:
            self.add({"value": value})

    def _take(self, body: bytes, count: int) -> None:
        self._bodies.append(body)
        self._count += count
        self._size += len(body)
        if self._at_once or self._size > FLUSH_BYTES or time.monotonic() - self._since > FLUSH_SECONDS:
            self.send()

    def send(self) -> None:
        if self._bodies:
            self._link.send({"t": "results", "first": self._first}, b"[" + b",".join(self._bodies) + b"]")
            self._first += self._count
            self._bodies, self._count, self._size = [], 0, 0
        self._since = time.monotonic()


def _value(function: Callable[..., Any], record: Any) -> Any:
    return plain(function(record), _RESULT)


def _truth(function: Callable[..., Any], record: Any) -> bool:
    return bool(function(record))
