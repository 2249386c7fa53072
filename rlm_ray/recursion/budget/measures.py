"""What model calls came to, by depth and model: of one group, one call, or a whole run. Plain values that add up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rlm_ray.models.contract import Usage

#: Rows of JSON values, as they travel and are kept.
Rows = tuple[dict[str, Any], ...]
_ADDED = ("calls", "failed", "retries", "prompt_tokens", "completion_tokens", "cached_tokens", "seconds")


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
        self._rows: dict[tuple[int, str], dict[str, Any]] = {}

    def add(self, depth: int, model: str, usage: Usage, seconds: float, attempts: int, failed: bool = False) -> None:
        """Count one call: all its attempts, and the seconds from the first of them to its end, waiting included."""
        row = self._row(depth, model)
        row["calls"] += 1
        row["failed"] += failed
        row["retries"] += max(0, attempts - 1)
        row["seconds"] += seconds
        row["slowest"] = max(row["slowest"], seconds)
        for name in ("prompt_tokens", "completion_tokens", "cached_tokens"):
            row[name] += getattr(usage, name)
        row["usd"] = _sum(row["usd"], usage.usd)

    def merge(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add what another counted."""
        for other in rows:
            row = self._row(other["depth"], other["model"])
            for name in _ADDED:
                row[name] += other[name]
            row["slowest"] = max(row["slowest"], other["slowest"])
            row["usd"] = _sum(row["usd"], other["usd"])

    def rows(self) -> Rows:
        """Return a row for each depth and model, in order: JSON values."""
        rounded = {"seconds": 3, "slowest": 3}
        return tuple(
            {name: round(value, rounded[name]) if name in rounded else value for name, value in self._rows[key].items()}
            for key in sorted(self._rows)
        )

    def _row(self, depth: int, model: str) -> dict[str, Any]:
        key = (depth, model)
        if key not in self._rows:
            self._rows[key] = {"depth": depth, "model": model} | dict.fromkeys(_ADDED, 0) | {"slowest": 0.0, "usd": 0.0}
        return self._rows[key]


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other
