"""What a sample says of all records: the JSON of `estimate`."""

from __future__ import annotations

from typing import Literal, TypedDict

#: A label as a model gives it.
Label = str | int | float | bool | None


class Interval(TypedDict):
    """A value with its limits."""

    value: float
    low: float
    high: float


class LabelShare(TypedDict):
    """How many records have a label, as a share and as a number."""

    label: Label
    share: Interval
    count: Interval


class GroupShares(TypedDict):
    """The same of the records with one value of a column; each group is a population of its own."""

    group: object
    records: int
    read: int
    failed: int
    shares: list[LabelShare]
    mean: Interval | None
    sum: Interval | None


class SampledEstimate(GroupShares):
    """An estimate.

    Attributes
    ----------
    column : str
        The answer's column.
    delta : float
        Probability that any of the intervals is wrong about what the model would say of all records.
    ended : str
        Why it stopped: all records were read, it was narrow enough, the calls that it was given were made, or the run's
        budget ended.
    """

    question: str
    column: str
    delta: float
    within: float | None
    seed: int
    ended: Literal["all read", "within", "calls", "budget"]
    groups: list[GroupShares]
    sentence: str
