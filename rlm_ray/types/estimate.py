"""What reading all of a corpus once would take (`rlm-ray ask --dry-run`), and what one batch will take (`--plan`, `dry=True`)."""

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


class BatchPlan(TypedDict):
    """What a batch of sub-calls will take, before it is asked.

    Attributes
    ----------
    verb, model : str
    records, distinct, answered : int
        Records, different contents among them as the model is shown them, and those whose answer is known already.
    calls, prompt_tokens, completion_tokens : int
        Of the contents that are still to be asked about.
    usd, usd_batch : float or None
        Dollars of asking now, and through the provider's batches; None where the price is unknown.
    rests_on : str
        The sample that the tokens rest on.
    """

    verb: str
    model: str
    records: int
    distinct: int
    answered: int
    calls: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    usd_batch: float | None
    rests_on: str
