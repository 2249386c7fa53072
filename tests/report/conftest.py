"""Runs as `gather` tells them, of any size, with hostile texts in every place that a corpus or a model can fill."""

from __future__ import annotations

from typing import Any

import pytest

from rlm_ray.report.pictures import Intervals, Span

HOSTILE = "</script><script>document.title='broken'</script><img src=x onerror=document.title='broken'>\u2028&amp;"


def told(calls: int, rows: int | None = None, jobs: bool = False) -> dict[str, Any]:
    """A finished run with that many leaf calls, and a tenth as many recursive ones."""
    rows = calls if rows is None else rows
    cell = {"label": "1.1", "code": f"print({HOSTILE!r})", "output": HOSTILE, "error": HOSTILE, "problem": HOSTILE, "requests": 2}
    asked = [{"verb": "llm_each", "prompt": HOSTILE, "schema": None, "model": None, "parts": None, "result": "0-a"}]
    usage = {"calls": calls, "prompt_tokens": 100 * calls, "completion_tokens": 9 * calls, "cached_tokens": 0, "usd": 0.01 * calls}
    by_model = [usage | {"depth": depth, "model": HOSTILE} for depth in range(3)]
    turn = {"turn": 1, "reply": HOSTILE, "usage": usage, "seconds": 1.0, "at": 2.0, "cells": [cell | {"asked": asked}]}
    outcome = {"complete": True, "stop_reason": "answered", "turns": 1, "message": "", "value": HOSTILE, "usage": usage}
    below = [
        {"id": f"0-{number}", "depth": 1, "question": f"{HOSTILE} {number}", "outcome": outcome, "turns": [turn]}
        for number in range(calls // 10)
    ]
    row = {"text": HOSTILE, "answer": "yes", "_address": "s3://lake/a@1#row=0", "_error": None}
    return {
        "run": "/runs/x",
        "about": {
            "id": "x",
            "made": "2026-01-01",
            "question": HOSTILE,
            "corpora": {"logs": {}},
            "settings": {"root_model": HOSTILE},
        },
        "answer": {
            "value": {"n": 3, "text": HOSTILE},
            "complete": True,
            "stop_reason": "answered",
            "usage": usage | {"seconds": 12.5, "by_model": by_model},
            "citations": [{"address": "s3://lake/a@1#row=0", "quote": HOSTILE}],
            "refused": [{"address": "s3://lake/a@1#row=1", "quote": HOSTILE, "reason": HOSTILE}],
            "failures": [{"object": HOSTILE, "reason": HOSTILE}],
            "coverage": {"replaced": [{"object": HOSTILE, "bytes": 1234}]},
            "isolation": "strict",
            "events": {"denials": 1},
            "denied": {HOSTILE: 3},
            "turns": 1,
            "message": HOSTILE,
        },
        "calls": [{"id": "0", "depth": 0, "question": HOSTILE, "outcome": None, "turns": [turn]}, *below],
        "results": {
            "0-a": {
                "asked": HOSTILE,
                "columns": ["n", "text", "answer", "_address", "_error"],
                "rows": [row | {"n": number} for number in range(rows)],
                "total": rows,
                "failed": 0,
                "finished": True,
            }
        },
        "shards": {
            "logs": {
                "names": [f"s3://lake/{HOSTILE}/{number}:0" for number in range(max(1, calls // 4))],
                "shares": [None if number % 50 == 7 else (number % 3, 2, 1, number % 2) for number in range(max(1, calls // 4))],
                "nbytes": 10**9,
                "unreadable": [],
            }
        },
        "spans": [Span("root", 0.0, 1.0, "turn 1"), Span("cell", 1.0, 12.0, HOSTILE)]
        + [Span("call", 1 + number % 7, 2 + number % 9, "0-1") for number in range(calls // 10)],
        "leaves": Intervals.of((1 + number % 97 / 10, 2 + number % 89 / 9) for number in range(calls)),
        "seconds": 12.5,
        "validated": None,
        "job": job() if jobs else None,
        "nights": [night(number) for number in range(5)] if jobs else [],
        "sources": [SOURCE, SOURCE | {"problem": HOSTILE}, SOURCE | {"label": HOSTILE, "quote": None}],
        "messages": [{"role": "system", "content": HOSTILE}, {"role": "user", "content": HOSTILE}],
        "prompts": [[0, 1]],
    }


SOURCE = {"label": "", "address": "s3://lake/a@1#row=0", "quote": HOSTILE, "record": f"a {HOSTILE} b", "problem": ""}
SOURCE |= {"before": HOSTILE, "behind": HOSTILE}


def job() -> dict[str, Any]:
    """What a job came to: three findings, of which one makes it fail."""
    finding = {"severity": "high", "title": HOSTILE, "address": "s3://lake/a@1#row=0", "quote": HOSTILE, "since": "x"}
    statuses = {"a": "new", "b": "carried", "c": "gone"}
    return {
        "name": "night",
        "columns": {"severity": {"enum": ["low", "high"]}, "title": {"type": "string"}},
        "fail_on": "severity >= high",
        "findings": [finding | {"id": name, "status": status} for name, status in statuses.items()],
        "rejected": [finding | {"reason": HOSTILE}],
        "failing": ["a"],
        "broken": "",
        "written": {},
    }


def night(number: int) -> dict[str, Any]:
    counts = {"high": number % 3, "low": 1}
    return {"run": f"night-{number}", "made": f"2026-01-0{number + 1}", "counts": counts, "total": 1 + number % 3, "failing": 0}


@pytest.fixture
def run_of() -> Any:
    return told
