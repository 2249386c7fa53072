"""Finished sub-calls: what was asked and paid once is answered from here, and never asked again.

Every process that makes leaf calls has a log of its own in the run's `finished/`; rows are found by their key in all of
them. Only validated answers are reused; errors are there for the account of what was spent.

A group of calls also writes down, before it goes out, how much more than its finished rows it may have spent at most (its
mark): what a process that was killed had in flight is then known from above.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from rlm_ray import storage
from rlm_ray.ledger import journal
from rlm_ray.ledger.journal import Cut, Journal
from rlm_ray.models.contract import Usage
from rlm_ray.types.json import JsonObject
from rlm_ray.types.usage import UsageRecord

FOLDER = "finished"


class FinishedRow(TypedDict, total=False):
    """A line of a log of finished sub-calls: an answer or an error by its key, or the mark of a group."""

    k: str  # key
    a: JsonObject  # answer
    e: str  # error
    u: UsageRecord  # usage
    t: list[list[float]]  # beginning and seconds of each call
    g: str  # group
    c: list[str]  # names of the calls that answered, where others share them
    m: list[int]  # mark: calls, tokens, nanodollars


class Finished:
    """The finished sub-calls of one run, and of those it may reuse.

    Parameters
    ----------
    run_dir : str
        Where new ones are written.
    others : tuple of str
        Run directories that are only looked in.
    """

    def __init__(self, run_dir: str, others: tuple[str, ...] = ()) -> None:
        self._folders = [storage.join(uri, FOLDER) for uri in (run_dir, *others)]
        self.local = storage.is_local(run_dir)
        self._journal: Journal | None = None
        self._answers: dict[str, bytes] = {}
        self._calls: dict[str, tuple[str, ...]] = {}
        self._seen: dict[str, int] = {}
        self._lock = threading.Lock()
        self._log_lock = threading.Lock()

    def refresh(self) -> None:
        """Take note of what other processes have finished since. Lists the folders and reads what is new."""
        with self._lock:
            for folder in self._folders:
                for uri, data in self._news(folder):
                    whole = data.rfind(b"\n") + 1
                    self._seen[uri] = self._seen.get(uri, 0) + whole
                    for row in journal.values(data[:whole]):
                        if row.get("a") is not None:
                            self._answers[row["k"]] = _packed(row["a"])
                            if "c" in row:
                                self._calls[row["k"]] = tuple(row["c"])

    def get(self, key: str) -> JsonObject | None:
        """Return the validated answer of a key, or None."""
        packed = self._answers.get(key)
        if packed is None:
            return None
        answer: JsonObject = json.loads(packed)
        return answer

    def has(self, key: str) -> bool:
        """Whether the validated answer of a key is there."""
        return key in self._answers

    def calls(self, key: str) -> tuple[str, ...]:
        """Return the names of the calls that gave the answer of a key; without any where it was a call of its own."""
        return self._calls.get(key, ())

    def add(
        self,
        key: str,
        answer: JsonObject | None,
        error: str | None,
        usage: Usage,
        group: str | None = None,
        times: Sequence[tuple[float, float]] = (),
        calls: Sequence[str] = (),
    ) -> None:
        """Write down one finished sub-call, and which group paid it; `times` are the beginning of each call of `usage`, and its
        seconds; `calls` are the names of those that answered, where it shared them with others.

        Raises
        ------
        StorageError
            It cannot be written.
        """
        row: FinishedRow = {"k": key}
        if answer is not None:
            row["a"] = answer
            self._answers[key] = _packed(answer)
            if calls and tuple(calls) != (key,):
                row["c"] = [name[:15] for name in calls]
                self._calls[key] = tuple(row["c"])
        if error is not None:
            row["e"] = error
        if usage.calls or usage.tokens:
            row["u"] = usage.to_json()
            if times:
                row["t"] = [[round(at, 3), round(seconds, 3)] for at, seconds in times]
            if group is not None:
                row["g"] = group
        self._append(row)

    def expose(self, group: str, most: Sequence[int]) -> None:
        """Write down how much a group may have spent beside its rows: calls, tokens, nanodollars. Returns when it is durable.

        Raises
        ------
        StorageError
            It cannot be written.
        """
        self._append({"g": group, "m": list(most)})
        self.flush()

    def end(self, group: str) -> None:
        """Write down that a group has ended: its rows are all that it spent."""
        self._append({"g": group, "m": [0, 0, 0]})

    def _append(self, row: FinishedRow) -> None:
        with self._log_lock:
            if self._journal is None:  # a name of its own each time: a log in object storage cannot be continued by its name
                name = f"{socket.gethostname().replace('.', '-')[:40]}-{os.getpid()}-{secrets.token_hex(3)}"
                self._journal = Journal(storage.join(self._folders[0], name))
            self._journal.append(row)

    def flush(self) -> None:
        """Make what was added durable."""
        with self._log_lock:
            if self._journal is not None:
                self._journal.flush()

    def close(self) -> None:
        """Write what is gathered, and let go of the log's file or thread. A row that is added later begins another log."""
        with self._log_lock:
            journal, self._journal = self._journal, None
            if journal is not None:
                journal.close()

    def _news(self, folder: str) -> Iterator[tuple[str, bytes]]:
        if not storage.exists(folder):
            return
        for item in storage.listing(folder):
            if item.size > self._seen.get(item.uri, 0):
                yield item.uri, storage.read_range(item.uri, self._seen.get(item.uri, 0), item.size)


@dataclass(slots=True)
class Account:
    """What a run's sub-calls came to.

    Attributes
    ----------
    usage : Usage
        Of the finished ones, errors included.
    open : dict of str to list of int
        Marks of groups that did not end: calls, tokens and nanodollars that they may have spent beside.
    cut : Cut
        Rows that a kill had cut: what they said counts as not done.
    failed : dict of str to str
        Why, by the key of each sub-call that failed and was not answered later.
    """

    usage: Usage = field(default_factory=Usage)
    open: dict[str, list[int]] = field(default_factory=dict)
    cut: Cut = field(default_factory=Cut)
    failed: dict[str, str] = field(default_factory=dict)


def account(run_dir: str, of: str | None = None) -> Account:
    """Return what the sub-calls of a run came to; or only those of a group, or of a call and the calls below it.

    Reads all of the run's logs. A group is named `CALL:TOKEN`, a call below `CALL` is named `CALL-…`.
    """
    found = Account()
    folder = storage.join(run_dir, FOLDER)
    # a call that is cancelled asks this for each of its groups, and may have little time: most lines are not its own
    having = b"" if of is None else b'"g":' + json.dumps(of).encode().removesuffix(b'"')
    for item in storage.listing(folder) if storage.exists(folder) else ():
        for row in journal.values(storage.read_bytes(item.uri), found.cut, having):
            group = row.get("g", "")
            if of is not None and group != of and not group.startswith((f"{of}:", f"{of}-")):
                continue
            if "u" in row:
                found.usage += Usage.from_json(row["u"])
            if "m" in row:
                found.open[group] = row["m"]
            if "e" in row:
                found.failed[row["k"]] = row["e"]
            elif "a" in row:
                found.failed.pop(row["k"], None)
    found.open = {group: mark for group, mark in found.open.items() if any(mark)}
    return found


def times(run_dir: str) -> Iterator[tuple[float, float]]:
    """Yield when each paid sub-call began, in seconds since 1970, and its seconds. Reads the run's logs, one after another.

    Runs of older versions have none.
    """
    folder = storage.join(run_dir, FOLDER)
    for item in storage.listing(folder) if storage.exists(folder) else ():
        for row in journal.values(storage.read_bytes(item.uri), having=b'"t":'):
            yield from ((at, seconds) for at, seconds in row.get("t", ()))


def _packed(answer: Any) -> bytes:
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
