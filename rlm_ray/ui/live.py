"""Where a run without an answer is: its turns, its spending, the sub-calls of the cell under way. Reads its logs, asks nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rlm_ray.ledger import lease
from rlm_ray.ledger.calllog import stopped, turns
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.report.terminal import dollars_text
from rlm_ray.types.run import AskedVerb, TurnRecord

#: Newest turns that are shown, characters of a text, and sub-calls of the cell under way.
MAX_TURNS, MAX_TEXT, MAX_ASKED = 50, 8_000, 20


@dataclass(frozen=True, slots=True)
class LiveRun:
    """A run as it goes on.

    Attributes
    ----------
    where : str
        The turn that it is in, or stopped in.
    holder : str
        Who works on it: a host and a process.
    turns : list of TurnRecord
        The newest ones; `earlier` turns are left out.
    under_way : list of AskedVerb
        Sub-calls of a cell that has not ended.
    """

    state: Literal["answered", "running", "stopped"]
    where: str
    holder: str
    numbers: list[tuple[str, str]]
    turns: list[TurnRecord]
    earlier: int
    under_way: list[AskedVerb]


def live(run: RunDirectory) -> LiveRun:
    """Return where a run is. Reads its log and what its finished sub-calls cost."""
    log, held = run.log("0"), lease.holder(run.uri)
    entries, spent = log.events(), run.spent()
    ended = {entry["cell"] for entry in entries if entry["event"] == "CellDone"}
    under_way = [item for cell, verbs in log.begun().items() if cell not in ended for item in verbs.values()]
    went = turns(entries)
    usage = spent.usage
    numbers = [
        ("turns", f"{len(went):,}"),
        ("model calls", f"{usage.calls:,}"),
        ("tokens in", f"{usage.prompt_tokens:,}"),
        ("tokens out", f"{usage.completion_tokens:,}"),
        ("cost", dollars_text(usage.usd)),
        ("seconds", f"{spent.seconds:,.0f}"),
    ]
    is_answered = run.has_answer()
    return LiveRun(
        state="answered" if is_answered else "stopped" if held is None else "running",
        where=stopped(entries),
        holder="" if held is None else f"{held['host']}, process {held['pid']}",
        numbers=numbers,
        turns=[_short(turn) for turn in went[-MAX_TURNS:]],
        earlier=max(0, len(went) - MAX_TURNS),
        under_way=under_way[:MAX_ASKED],
    )


def _short(turn: TurnRecord) -> TurnRecord:
    cells = [
        {**cell, "code": _cut(cell["code"]), "output": _cut(cell["output"]), "error": _cut(cell["error"])} for cell in turn["cells"]
    ]
    return {**turn, "reply": _cut(turn["reply"]), "cells": cells}  # type: ignore[typeddict-item]


def _cut(text: str | None) -> str:
    return text or "" if len(text or "") <= MAX_TEXT else f"{(text or '')[:MAX_TEXT]} …"
