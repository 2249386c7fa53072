"""What reading all of a corpus once would take: the JSON of `rlm-ray ask --dry-run`."""

from __future__ import annotations

from typing import TypedDict


class CorpusEstimate(TypedDict):
    """What is known or estimated of one corpus."""

    objects: int
    shards: int
    bytes: int
    records: int
    records_exact: bool
    sampled: int
    bytes_of_a_record: float
    tokens: int


class Cost(TypedDict):
    """Calls, their tokens, and dollars (None where the price is unknown)."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None


class Limits(TypedDict):
    """The limits of the settings; None is no limit."""

    usd: float | None
    calls: int | None
    tokens: int | None
    seconds: float | None


class Estimate(TypedDict):
    """What reading all of the corpora once would take."""

    corpora: dict[str, CorpusEstimate]
    tokens: int
    ways: dict[str, Cost]
    root: Cost
    limits: Limits
    enough: list[str]
