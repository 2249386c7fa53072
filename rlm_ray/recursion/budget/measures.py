"""Sums of model calls by depth and model: of one group, one call, or a whole run. Plain values that add up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from rlm_ray.models.contract import Usage
from rlm_ray.types.usage import ModelUsage

#: Rows of JSON values, as they travel and are kept.
Rows = tuple[ModelUsage, ...]
_ADDED: tuple[Literal["calls", "failed", "retries", "prompt_tokens", "completion_tokens", "cached_tokens"], ...] = (
    "calls",
    "failed",
    "retries",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
)


class Measures:
    """Counts by depth and model.

    Examples
    --------
    >>> measures = Measures()
    >>> measures.add(1, "leaf", Usage(1, 100, 20, usd=0.5), seconds=2.0, attempts=1)
    >>> measures.merge(measures.rows())
    >>> measures.rows()[0]["calls"], measures.rows()[0]["seconds"], measures.rows()[0]["usd"]
    (2, 4.0, 1.0)
    """

    def __init__(self) -> None:
        self._rows: dict[tuple[int, str], ModelUsage] = {}

    def add(self, depth: int, model: str, usage: Usage, seconds: float, attempts: int, failed: bool = False) -> None:
        """Count one call: all its attempts, and the seconds from the first of them to its end, waiting included."""
        row = self._row(depth, model)
        row["calls"] += 1
        row["failed"] += failed
        row["retries"] += max(0, attempts - 1)
        row["seconds"] += seconds
        row["slowest"] = max(row["slowest"], seconds)
        row["prompt_tokens"] += usage.prompt_tokens
        row["completion_tokens"] += usage.completion_tokens
        row["cached_tokens"] += usage.cached_tokens
        row["usd"] = _sum(row["usd"], usage.usd)

    def merge(self, rows: Iterable[ModelUsage]) -> None:
        """Add what another counted."""
        for other in rows:
            row = self._row(other["depth"], other["model"])
            for name in _ADDED:
                row[name] += other[name]
            row["seconds"] += other["seconds"]
            row["slowest"] = max(row["slowest"], other["slowest"])
            row["usd"] = _sum(row["usd"], other["usd"])

    def rows(self) -> Rows:
        """Return a row for each depth and model, in order: JSON values."""
        rows = (self._rows[key] for key in sorted(self._rows))
        return tuple({**row, "seconds": round(row["seconds"], 3), "slowest": round(row["slowest"], 3)} for row in rows)

    def _row(self, depth: int, model: str) -> ModelUsage:
        key = (depth, model)
        if key not in self._rows:
            self._rows[key] = ModelUsage(
                depth=depth,
                model=model,
                calls=0,
                failed=0,
                retries=0,
                prompt_tokens=0,
                completion_tokens=0,
                cached_tokens=0,
                seconds=0,
                slowest=0.0,
                usd=0.0,
            )
        return self._rows[key]


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other
