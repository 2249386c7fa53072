"""What calls to models used: values that add up, and their JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, TypedDict, cast


class UsageRecord(TypedDict):
    """`Usage` as JSON."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    usd: float | None
    estimated: int


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

    def to_json(self) -> UsageRecord:
        """Return it as JSON values."""
        return UsageRecord(
            calls=self.calls,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cached_tokens=self.cached_tokens,
            usd=self.usd,
            estimated=self.estimated,
        )

    @classmethod
    def from_json(cls, value: UsageRecord) -> Usage:
        """Read back what `to_json` wrote."""
        return cls(**value)


class ModelUsage(TypedDict):
    """What the calls to one model at one depth came to. `seconds` are those of the calls, added up; `slowest` is the longest."""

    depth: int
    model: str
    calls: int
    failed: int
    retries: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    seconds: float
    slowest: float
    usd: float | None


class RunUsageRecord(TypedDict):
    """`RunUsage` as JSON."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    usd: float | None
    seconds: float
    by_model: list[ModelUsage]


class RunUsage(dict[str, Any]):
    """What a whole run used, recursive calls included: a dict, as its JSON is, whose keys are attributes too.

    Attributes
    ----------
    usd : float or None
        Dollars; None where a price is not known.
    seconds : float
        Of the run's sessions.
    by_model : list of ModelUsage
        By depth and model, of this session's calls that were reported.

    Examples
    --------
    >>> usage = RunUsage(calls=3, usd=0.5)
    >>> usage.calls, usage["usd"], usage.by_model
    (3, 0.5, [])
    """

    def __init__(
        self,
        calls: int = 0,
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
        cached_tokens: int = 0,
        usd: float | None = 0.0,
        seconds: float = 0.0,
        by_model: Iterable[ModelUsage] = (),
    ) -> None:
        record = RunUsageRecord(
            calls=calls,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cached_tokens=cached_tokens,
            usd=usd,
            seconds=seconds,
            by_model=list(by_model),
        )
        super().__init__(record)

    @classmethod
    def from_json(cls, value: RunUsageRecord) -> RunUsage:
        """Read back the JSON. Older versions wrote no `by_model`, and their answers have none."""
        return cls(**value)

    def to_json(self) -> RunUsageRecord:
        """Return it as JSON values."""
        return cast(RunUsageRecord, dict(self))

    @property
    def calls(self) -> int:
        """Calls to models."""
        return cast(int, self["calls"])

    @property
    def prompt_tokens(self) -> int:
        """Tokens that models read."""
        return cast(int, self["prompt_tokens"])

    @property
    def completion_tokens(self) -> int:
        """Tokens that models wrote."""
        return cast(int, self["completion_tokens"])

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that endpoints had cached."""
        return cast(int, self["cached_tokens"])

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def usd(self) -> float | None:
        """Dollars; None where a price is not known."""
        return cast("float | None", self["usd"])

    @property
    def seconds(self) -> float:
        """Seconds of the run's sessions."""
        return cast(float, self["seconds"])

    @property
    def by_model(self) -> list[ModelUsage]:
        """Usage by depth and model."""
        return cast(list[ModelUsage], self["by_model"])
