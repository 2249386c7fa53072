"""What calls to models used: one value that adds up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Usage(NamedTuple):
    """What calls used. Adds up.

    Attributes
    ----------
    calls : int
    prompt_tokens, completion_tokens : int
    cached_tokens : int
        Of the prompt tokens, those that the endpoint had cached.
    usd : float or None
        Dollars; None when any call's price is not known.
    estimated : int
        Calls whose tokens are an upper estimate: the endpoint reported none, or the outcome is unknown.

    Examples
    --------
    >>> Usage(1, 100, 20, usd=0.01) + Usage(1, 50, 10, cached_tokens=40, usd=0.005)
    Usage(calls=2, prompt_tokens=150, completion_tokens=30, cached_tokens=40, usd=0.015, estimated=0)
    """

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    usd: float | None = 0.0
    estimated: int = 0

    def __add__(self, other: Usage) -> Usage:  # type: ignore[override]
        calls, prompt, completion, cached, usd, estimated = self
        calls_, prompt_, completion_, cached_, usd_, estimated_ = other
        total = None if usd is None or usd_ is None else usd + usd_
        return Usage(calls + calls_, prompt + prompt_, completion + completion_, cached + cached_, total, estimated + estimated_)

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens

    def to_json(self) -> dict[str, Any]:
        """As a dict of JSON values."""
        return self._asdict()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Usage:
        """Read back what `to_json` wrote."""
        return cls(**value)
