"""Progress, from the one value that a run tells: a line that moves on a terminal, one line a step elsewhere, JSON lines, a
notebook's display. Of commands always on stderr.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from html import escape
from types import TracebackType
from typing import Any, Literal, TextIO, TypedDict

from rich.console import Console
from rich.status import Status
from rich.text import Text

from rlm_ray.models.contract import Usage
from rlm_ray.recursion.jobs.progress import BatchTally, Progress, ShardTally
from rlm_ray.text import counted

SECONDS = 0.1
#: Where nothing moves, a line is repeated at most this often within a turn.
QUIET_SECONDS = 30.0
#: Least seconds between two JSON lines of one step, and between two updates of a notebook's display.
JSON_SECONDS = 1.0
NOTEBOOK_SECONDS = 0.2

Mode = Literal["auto", "json", "none"]


class SpentRecord(TypedDict):
    """Calls, tokens and dollars."""

    calls: int
    tokens: int
    cached_tokens: int
    usd: float | None


class BatchRecord(TypedDict):
    """A batch of sub-calls under way."""

    recursive: bool
    expected: int
    done: int
    failed: int
    under_way: int


class ProgressRecord(TypedDict):
    """A line of `--progress json`."""

    call: str
    depth: int
    turn: int
    max_turns: int
    doing: str
    seconds: float
    spent: SpentRecord
    projected: SpentRecord | None
    batches: list[BatchRecord]
    shards: dict[str, int]
    scans: list[dict[str, int]]


class ProgressLine:
    """Shows a run while it goes on. A context manager, and the observer to give to `ask`.

    Parameters
    ----------
    console : rich.console.Console, optional
        stderr where not given.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._status: Status | None = None
        self._shown = 0.0
        self._step: tuple[int, str] = (-1, "")

    def __enter__(self) -> ProgressLine:
        if self._console.is_terminal:
            self._status = self._console.status("", spinner="dots", refresh_per_second=8)  # shown once a run tells of itself
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._status is not None:
            self._status.stop()

    def __call__(self, progress: Progress) -> None:
        """Show where the run is."""
        now = time.monotonic()
        if self._status is not None:
            if now - self._shown >= SECONDS:
                self._shown = now
                self._status.start()
                self._status.update(line(progress, self._console.width - 4))
            return
        step = (progress.turn, progress.doing)
        if step != self._step or now - self._shown >= QUIET_SECONDS:
            self._step, self._shown = step, now
            self._console.print(line(progress, 200), soft_wrap=True)


class ProgressJson:
    """Writes a JSON object a line: at each step, and about once a second in between. A context manager, as `ProgressLine`."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._shown = 0.0
        self._step: tuple[int, str] = (-1, "")

    def __enter__(self) -> ProgressJson:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stream.flush()

    def __call__(self, progress: Progress) -> None:
        """Write where the run is."""
        now, step = time.monotonic(), (progress.turn, progress.doing)
        if step != self._step or now - self._shown >= JSON_SECONDS:
            self._step, self._shown = step, now
            self._stream.write(json.dumps(to_json(progress), ensure_ascii=False) + "\n")
            self._stream.flush()


class Silent:
    """Shows nothing. A context manager, as `ProgressLine`."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __call__(self, progress: Progress) -> None:
        """Do nothing."""


def shown(mode: Mode) -> ProgressLine | ProgressJson | Silent:
    """Return what shows a run's progress: `auto`, `json` or `none`."""
    return {"auto": ProgressLine, "json": ProgressJson, "none": Silent}[mode]()


def in_notebook() -> Callable[[Progress], None] | None:
    """Return an observer that shows a run in the notebook that this process serves; None where it serves none.

    It is one line of HTML that is updated: no widgets, and nothing to install.
    """
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    display, html = ipython.display.display, ipython.display.HTML
    state: dict[str, Any] = {"handle": None, "shown": 0.0}

    def show(progress: Progress) -> None:
        now = time.monotonic()
        if now - state["shown"] < NOTEBOOK_SECONDS:
            return
        state["shown"] = now
        told = html(f"<code>{escape(line(progress, 160).plain)}</code>")
        if state["handle"] is None:
            state["handle"] = display(told, display_id=True)
        else:
            state["handle"].update(told)

    return show


def to_json(progress: Progress) -> ProgressRecord:
    """Return a progress value as `--progress json` writes it.

    Examples
    --------
    >>> record = to_json(Progress(turn=2, max_turns=30, doing="asking the root model"))
    >>> record["turn"], record["doing"], record["spent"]
    (2, 'asking the root model', {'calls': 0, 'tokens': 0, 'cached_tokens': 0, 'usd': 0.0})
    """
    projected = progress.projected if progress.tally.batches else None
    return {
        "call": progress.call,
        "depth": progress.depth,
        "turn": progress.turn,
        "max_turns": progress.max_turns,
        "doing": " ".join(progress.doing.split())[:200],
        "seconds": round(time.monotonic() - progress.started, 1),
        "spent": _usage(progress.spent),
        "projected": None if projected is None else _usage(projected),
        "batches": [
            {
                "recursive": batch.recursive,
                "expected": batch.expected,
                "done": batch.done,
                "failed": batch.failed,
                "under_way": len(batch.live),
            }
            for batch in progress.tally.batches
        ],
        "shards": {"scanned": progress.shards.scanned, "of": progress.shards.total},
        "scans": [{"expected": scan.expected, "done": scan.done} for scan in progress.shards.under_way()],
    }


def _usage(usage: Usage) -> SpentRecord:
    return {"calls": usage.calls, "tokens": usage.tokens, "cached_tokens": usage.cached_tokens, "usd": usage.usd}


def line(progress: Progress, width: int) -> Text:
    """Return the line: turn, shards scanned, what the batches under way have done of what they are to do, calls, spent and
    projected, time.
    """
    parts = [f"turn {progress.turn}/{progress.max_turns}", *_scanned(progress.shards), *map(_batch, progress.tally.batches[:3])]
    if progress.budget is not None:
        spent, projected = progress.spent, progress.projected
        parts.append(counted(spent.calls, "call"))
        if spent.cached_tokens:
            parts.append(f"{spent.cached_tokens / spent.prompt_tokens:.0%} of the prompts cached")
        parts += _spending(spent, projected if progress.tally.batches else None)
    parts.append(f"{time.monotonic() - progress.started:.0f} s")
    text = " · ".join(parts)
    doing = " ".join(progress.doing.split())
    room = max(10, width - len(text) - 3)
    return Text(f"{text} · {doing if len(doing) <= room else doing[: room - 1] + '…'}", no_wrap=True, overflow="ellipsis")


def _scanned(shards: ShardTally) -> list[str]:
    """How far the scans under way are; where there is none, what all of them came to so far."""
    if scans := shards.under_way():
        return [f"scanning {sum(scan.done for scan in scans):,} of {counted(sum(scan.expected for scan in scans), 'shard')}"]
    return [f"{shards.scanned:,} of {counted(shards.total, 'shard')} scanned"] if shards.scanned else []


def _batch(batch: BatchTally) -> str:
    failed = f", {batch.failed:,} failed" if batch.failed else ""
    if batch.recursive:
        return f"{batch.done:,} of {counted(batch.expected, 'recursive call')} ({len(batch.live):,} live{failed})"
    return f"{batch.done:,} of {counted(batch.expected, 'answer')}{failed and f' ({failed[2:]})'}"


def _spending(spent: Usage, projected: Usage | None) -> list[str]:
    """Dollars where the prices are known, tokens always; what is projected once that can be said."""
    told = [counted(spent.tokens, "token"), *([f"${spent.usd:.4f}"] if spent.usd else [])]
    coming = "" if projected is None else f"${projected.usd:.4f}" if projected.usd else counted(projected.tokens, "token")
    told[-1] += f" spent, about {coming} projected" if coming else " spent"
    return told
