"""From labels in the order drawn to what they say of all records, with its words for a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy

from rlm_ray.errors import InputError
from rlm_ray.sure.shares import Limits, mean, share
from rlm_ray.types.sampled import GroupShares, Interval, Label, LabelShare

Ended = Literal["all read", "within", "calls", "budget"]

#: Labels whose shares are told; more than these are no closed set.
MAX_LABELS = 100


@dataclass(frozen=True, slots=True)
class Reading:
    """One record that was drawn: what the model said of it.

    Attributes
    ----------
    answer : label or number
    failed : bool
        There is no valid answer.
    group : object
        Its value of the column that groups it.
    """

    answer: Label
    failed: bool = False
    group: object = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is estimated, and how sure.

    Attributes
    ----------
    labels : sequence of label
        The closed set of answers; empty where the answer is a number.
    bounds : tuple of float, optional
        Least and largest number that one record can have.
    delta : float
        For all intervals together.
    planned : int
        Readings that were planned.
    """

    labels: Sequence[Label]
    bounds: tuple[float, float] | None
    delta: float
    planned: int


def estimated(readings: Sequence[Reading], total: int, wanted: Wanted, *, ended: bool, group: object = None) -> GroupShares:
    """Return shares of labels, or mean and sum, among `total` records.

    Parameters
    ----------
    readings : sequence of Reading
        In the order drawn, without replacement.
    total : int
        Records that they were drawn from.
    wanted : Wanted
    ended : bool
        Nothing stopped the sample for what it showed; see `shares.share`.

    Examples
    --------
    >>> seen = [Reading("yes" if number % 4 == 0 else "no") for number in range(400)]
    >>> found = estimated(seen, 10_000, Wanted(["yes", "no"], None, 0.05, 400), ended=True)
    >>> yes = found["shares"][0]
    >>> yes["share"]["value"], 1_900 < yes["count"]["low"] < 2_500 < yes["count"]["high"] < 3_100
    (0.25, True)
    """
    failed = numpy.array([reading.failed for reading in readings], bool)
    shares: list[LabelShare] = []
    average: Limits | None = None
    if wanted.labels:
        # two labels share an interval: one is what the other is not
        delta = wanted.delta / (len(wanted.labels) if len(wanted.labels) > 2 else 1)
        for label in wanted.labels:
            yes = numpy.array([_same(reading.answer, label) for reading in readings], bool)
            found = share(yes & ~failed, failed, total, delta, wanted.planned, ended=ended)
            shares.append({"label": label, "share": _interval(found), "count": _times(found, total)})
    else:
        assert wanted.bounds is not None
        numbers = numpy.array([0.0 if reading.failed else float(reading.answer or 0) for reading in readings], float)
        outside = ~failed & ((numbers < wanted.bounds[0]) | (numbers > wanted.bounds[1]))
        if outside.any():
            raise InputError(
                f"The model read {numbers[outside][0]:g}, which is outside {wanted.bounds[0]:g} to {wanted.bounds[1]:g}. Give the "
                "largest amount that one record can have as max= (and the least as min=); no limit holds without it."
            )
        average = mean(numbers, failed, total, wanted.bounds, wanted.delta, wanted.planned)
    return {
        "group": group,
        "records": total,
        "read": len(readings),
        "failed": int(failed.sum()),
        "shares": shares,
        "mean": None if average is None else _interval(average),
        "sum": None if average is None else _times(average, total),
    }


def narrow_enough(found: GroupShares, within: float) -> bool:
    """Whether each share (or the mean) lies within plus or minus `within`.

    Examples
    --------
    >>> some = estimated([Reading("yes"), Reading("no")], 9_000, Wanted(["yes", "no"], None, 0.05, 2), ended=False)
    >>> narrow_enough(some, 0.1)
    False
    """
    intervals = [item["share"] for item in found["shares"]] + ([found["mean"]] if found["mean"] is not None else [])
    return all((interval["high"] - interval["low"]) / 2 <= within for interval in intervals)


def sentence(found: GroupShares, delta: float, ended: Ended) -> str:
    """Return an estimate in words: numbers, how sure, from how many readings, and what it is about.

    Examples
    --------
    >>> seen = [Reading("no")] * 1_000
    >>> found = estimated(seen, 100_000, Wanted(["yes", "no"], None, 0.05, 1_000), ended=True)
    >>> print(sentence(found, 0.05, "calls").split(";")[0])
    yes: none in 1,000 readings, so at most 0.43 % (435 records)
    """
    sure, read, total = f"{100 * (1 - delta):g} % sure", found["read"], found["records"]
    parts = []
    for item in found["shares"]:
        part, count = item["share"], item["count"]
        if read < total and part["value"] == 0:
            most = f"{100 * part['high']:.2g} % ({round(count['high']):,} records)"
            parts.append(f"{item['label']}: none in {read:,} readings, so at most {most}")
        elif part["low"] == part["high"]:
            parts.append(f"{item['label']}: {round(count['value']):,} of {total:,}")
        else:
            limits = f"{round(count['low']):,} to {round(count['high']):,}"
            parts.append(f"{item['label']}: {round(count['value']):,} of {total:,} ({sure}: {limits})")
    if found["mean"] is not None and found["sum"] is not None:
        average, added = found["mean"], found["sum"]
        parts.append(
            f"sum {added['value']:,.6g} ({sure}: {added['low']:,.6g} to {added['high']:,.6g}), "
            f"mean {average['value']:,.4g} ({average['low']:,.4g} to {average['high']:,.4g})"
        )
    failed = f", of which {found['failed']:,} failed and count against both limits" if found["failed"] else ""
    how = f"all {total:,} records were read" if read >= total else f"from {read:,} readings at random"
    why = {"budget": "; the run's budget ended before the sample was whole", "within": "", "calls": "", "all read": ""}[ended]
    return "; ".join(parts) + f"; {how}{failed}{why}. It counts what the model would say."


def _same(answer: Label, label: Label) -> bool:
    return answer == label and isinstance(answer, bool) == isinstance(label, bool)


def _interval(found: Limits) -> Interval:
    return {"value": found.value, "low": found.low, "high": found.high}


def _times(found: Limits, total: int) -> Interval:
    return {"value": found.value * total, "low": found.low * total, "high": found.high * total}
