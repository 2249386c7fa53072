"""Real logs whose alerts are known, and the lines that stand behind a form of the log audit."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from tests.jobs.jobs import JOBS

#: Words of each kind of alert that the machine's operators tagged, and how many lines of BGL have that tag.
ALERTS = {
    "data TLB error interrupt": 60,
    "data storage interrupt": 30,
    "Link has been severed": 17,
    "Lustre mount FAILED": 11,
    "rts: kernel terminated for reason": 7,
    "Error receiving packet on tree network": 5,
    "Connection reset by peer": 4,
    "failed to read message prefix on control stream": 3,
    "rts panic! - stopping execution": 2,
    "Connection timed out": 2,
    "No child processes": 1,
    "Input/output error": 1,
}


def is_alert(line: str) -> bool:
    """Whether operators tagged it."""
    return any(words in line for words in ALERTS)


def bgl(data: Path) -> list[str]:
    """Return the lines of BGL."""
    return (data / "logs" / "text" / "BGL.log").read_text("utf-8").splitlines()


class Reader:
    """Says of a line whether it is an alert; errs in this share of the lines. Counts the texts that it reads."""

    def __init__(self, errs: float = 0, seed: int = 0) -> None:
        self._errs = errs
        self._seed = seed
        self.read = 0

    def __call__(self, line: str) -> dict[str, str]:
        """Answer about a line."""
        self.read += 1
        alert = is_alert(line) != (random.Random(f"{self._seed} {line}").random() < self._errs)
        return {"severity": "high" if alert else "none", "kind": "failing hardware" if alert else "other"}


def lines_by_form(lines: list[str], monkeypatch: Any) -> dict[str, set[int]]:
    """Return the numbers of the lines of each form and variant: the job's own cell, with a miner that notes each line's form."""
    import drain3

    went: list[tuple[Any, int, str]] = []

    class Telling(drain3.TemplateMiner):  # type: ignore[misc]
        def add_log_message(self, message: str) -> Any:
            told = super().add_log_message(message)
            went.append((self, told["cluster_id"], message))
            return told

    class Logs:
        def __init__(self) -> None:
            self.schema = {"text": "string"}

        def aggregate(self, fn: Any, combine: Any) -> Any:
            return fn([{"text": line, "_address": str(number)} for number, line in enumerate(lines)])

    monkeypatch.setattr(drain3, "TemplateMiner", Telling)
    exec((JOBS / "log_audit" / "program" / "cells" / "01.py").read_text("utf-8"), {"logs": Logs()})
    monkeypatch.undo()
    forms: dict[str, set[int]] = {}
    for number, (miner, cluster, message) in enumerate(went):
        template = next(item.get_template() for item in miner.drain.clusters if item.cluster_id == cluster)
        for form in {template, message}:  # a variant of a form is named by its own words
            forms.setdefault(form, set()).add(number)
    return forms
