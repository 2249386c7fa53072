"""The time of a log line: its text as written, a key that orders times of all formats, and its hour.

Imports the standard library only, since programs use it inside the sandbox.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from typing import NamedTuple

#: Times of some lines: by month of those without a year, and under "" of all others, the first and the last as (key, text).
Spans = dict[str, list[list[str]]]

#: A time stands near the beginning of a line.
LOOKED_AT = 400

_MONTHS = {
    name: number
    for number, name in enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1)
}
_MON = r"(?P<mon>Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_CLOCK = r"(?P<h>[01]?\d|2[0-3]):(?P<mi>[0-5]\d):(?P<s>[0-5]\d|60)"
_FRACTION = r"(?:[.,](?P<f>\d{1,9}))?"
_ZONE = r"(?: ?(?P<z>Z\b|UTC\b|GMT\b|[+-](?:[01]\d|2[0-3]):?[0-5]\d\b))?"
_YMD = r"(?P<y>[12]\d{3})-(?P<m>0[1-9]|1[0-2])-(?P<d>0[1-9]|[12]\d|3[01])"

#: Formats: what is given back as the time as written is the group `t`, its hour `o` where the text has one.
_FORMATS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?<![\w./-])(?P<t>(?P<o>{_YMD}[T ](?P<h>[01]\d|2[0-4]))[:.]?(?P<mi>[0-5]\d)(?:[:.]?(?P<s>[0-5]\d|60))?){_FRACTION}{_ZONE}",
        rf"(?<![\w./-])(?P<t>(?P<o>{_YMD}-(?P<h>[01]\d|2[0-3]))\.(?P<mi>\d\d)\.(?P<s>\d\d)){_FRACTION}",  # BGL
        rf"(?<!\w)(?P<t>(?P<o>(?P<y>[12]\d{{3}})(?P<m>0[1-9]|1[0-2])(?P<d>[0-3]\d)[T -]?(?P<h>[01]\d|2[0-3]))"
        rf":?(?P<mi>[0-5]\d):?(?P<s>[0-5]\d))(?:[.,:](?P<f>\d{{1,9}}))?{_ZONE}(?!\d)",  # 20171223-22:15:29:606, 20240105T100000Z
        rf"(?<![\w/])(?P<t>(?P<y>[12]\d{{3}})/(?P<m>\d\d)/(?P<d>\d\d) {_CLOCK}){_FRACTION}",  # nginx, Go
        rf"(?<![\w/])(?P<t>(?P<d>\d\d?)/{_MON}/(?P<y>\d{{4}})[: ]{_CLOCK}){_FRACTION}{_ZONE}",  # CLF, HAProxy
        rf"(?<![\w/])(?P<t>(?P<y2>\d\d)/(?P<m>0[1-9]|1[0-2])/(?P<d>0[1-9]|[12]\d|3[01]) {_CLOCK}){_FRACTION}",  # Spark
        rf"(?<![\w/])(?P<t>(?P<a>\d\d?)/(?P<b>\d\d?)/(?P<y>\d{{4}}),? {_CLOCK}{_FRACTION}(?: ?(?P<p>[AaPp][Mm])\b)?)",  # Windows
        rf"(?<!\w)(?P<t>(?P<d>\d\d)\.(?P<m>\d\d)\.(?P<y>\d{{4}}) {_CLOCK}){_FRACTION}",
        rf"(?<!\w)(?P<t>(?P<d>\d\d?)[ -]{_MON}[ -](?P<y>\d{{4}}) {_CLOCK}){_FRACTION}{_ZONE}",  # Redis, RFC 2822
        rf"\b(?P<t>{_MON} +(?P<d>\d\d?),? (?P<y>\d{{4}}),? {_CLOCK}(?: ?(?P<p>[AaPp][Mm])\b)?){_FRACTION}{_ZONE}",  # java.util.logging
        rf"\b(?P<t>(?P<o>{_MON} (?P<d>[ \d]?\d) (?P<h>[01]\d|2[0-3])):(?P<mi>\d\d):(?P<s>\d\d))(?:\.(?P<f>\d{{1,9}}))?(?: (?P<y>[12]\d{{3}})\b)?",
        rf"^\W?[IWEFD](?P<t>(?P<m>0[1-9]|1[0-2])(?P<d>0[1-9]|[12]\d|3[01]) {_CLOCK}){_FRACTION}",  # klog
        rf"^(?P<t>(?P<m>0[1-9]|1[0-2])-(?P<d>[0-3]\d) {_CLOCK}){_FRACTION}",  # Android
        rf"^\[?(?P<t>(?P<m>0[1-9]|1[0-2])\.(?P<d>[0-3]\d) {_CLOCK}){_FRACTION}",  # Proxifier
        r"^(?P<t>(?P<o>(?P<y2>\d\d)(?P<m>0[1-9]|1[0-2])(?P<d>[0-3]\d) (?P<h>[01]\d|2[0-3]))(?P<mi>[0-5]\d)(?P<s>[0-5]\d))\b",  # HDFS
    )
)
_EPOCH = re.compile(r"(?<![\w./-])(?P<t>(?:1\d{9}|1\d{12}|1\d{15}|1\d{18})(?:\.\d{1,9})?)(?![\w.])")
_LIKELY = re.compile(r"\d\d:?\d\d|\d\.\d\d\.\d|1\d{9}")


class Time(NamedTuple):
    """A time of a line.

    Attributes
    ----------
    text : str
        As written, without fraction and zone.
    key : str
        Orders times of one zone or of stated zones; a time without a year comes before all that have one.
    hour : str
    """

    text: str
    key: str
    hour: str


def find(line: str) -> Time | None:
    """Return the time of a line: the first that one of the known formats has; None where there is none.

    Examples
    --------
    >>> find('10.0.0.1 - - [05/Jan/2024:10:00:00 +0100] "GET / HTTP/1.1" 200 5')
    Time(text='05/Jan/2024:10:00:00', key='2024-01-05T09:00:00.000000000', hour='2024-01-05T10')
    >>> find("I0105 10:00:00.123456 1 main.go:12] ready").text
    '0105 10:00:00'
    """
    head = line[:LOOKED_AT]
    if _LIKELY.search(head) is None:
        return None
    best: tuple[int, int, Time] | None = None
    for rank, pattern in enumerate(_FORMATS):
        for match in pattern.finditer(head):
            if (time := _time(match)) is not None:
                if best is None or (match.start("t"), rank) < best[:2]:
                    best = match.start("t"), rank, time
                break
    if best is not None:
        time = best[2]
        if time.key.startswith("0000") and (epoch := _EPOCH.search(head[: best[0]])) is not None:  # Thunderbird: its year
            time = time._replace(key=(of_value(epoch["t"]) or time).key)
        return time
    for match in _EPOCH.finditer(head):
        if (time := of_value(match["t"])) is not None:
            return time
    return None


def add(spans: Spans, time: Time) -> None:
    """Add a time to those of some lines."""
    seen = [time.key, time.text]
    month = time.key[5:7] if time.key.startswith("0000") else ""
    known = spans.setdefault(month, [seen, seen])
    spans[month] = [min(known[0], seen), max(known[1], seen)]


def joined(one: Spans, other: Spans) -> Spans:
    """Return the times of two lots of lines together."""
    months = {**one, **other}
    both = {month: [*one.get(month, []), *other.get(month, [])] for month in months}
    return {month: [min(seen), max(seen)] for month, seen in both.items()}


def first_month(months: Iterable[str]) -> int:
    """Return the month that times without a year begin with, given all months of a log.

    Where December and January are both there, and some month is not, the log goes over a new year: it begins behind the months
    that are not there.

    Examples
    --------
    >>> first_month(["11", "12", "01"]), first_month(["01", "02"]), first_month(["01", "12", "05"])
    (11, 1, 12)
    """
    found = {int(month) for month in months if month}
    if not {1, 12} <= found:
        return 1
    gaps = {}
    for month in found:
        gap = next((count for count in range(12) if (month - 2 - count) % 12 + 1 in found), 0)
        gaps[month] = gap
    month, gap = max(gaps.items(), key=lambda item: (item[1], item[0]))
    return month if gap else 1


def order(key: str, start: int) -> tuple[bool, int, str]:
    """Return what orders times of a log whose times without a year begin with a month; those that have a year come last."""
    if not key.startswith("0000"):
        return True, 0, key
    return False, (int(key[5:7]) - start) % 12, key


def ends(spans: Spans, start: int) -> tuple[str | None, str | None]:
    """Return the texts of the first and the last of some times, given the month that a log's times without a year begin with."""
    seen = sorted((item for both in spans.values() for item in both), key=lambda item: order(item[0], start))
    return (seen[0][1], seen[-1][1]) if seen else (None, None)


def of_value(value: object) -> Time | None:
    """Return the time that a column of times holds: a text of a known format, or seconds to nanoseconds since 1970.

    Examples
    --------
    >>> of_value(1704448800000).hour
    '2024-01-05T10'
    """
    if value is None or isinstance(value, bool) or value == "":
        return None
    text = str(value).strip()
    if re.fullmatch(r"\d{9,19}(?:\.\d+)?", text):
        whole, _, fraction = text.partition(".")
        scale = {13: 3, 16: 6, 19: 9}.get(len(whole), 0)
        seconds, rest = (int(whole[:-scale]), whole[-scale:]) if scale else (int(whole), fraction)
        try:
            moment = datetime(1970, 1, 1) + timedelta(seconds=seconds)
        except OverflowError:
            return None
        return Time(text, f"{moment:%Y-%m-%dT%H:%M:%S}.{rest[:9]:0<9}", f"{moment:%Y-%m-%dT%H}")
    time = find(text)
    if time is None:
        return Time(text, text, text[:13])
    return Time(text, time.key, text[:13] if re.match(r"\d{4}-\d\d-\d\d[T ]\d\d", text) else time.hour)


def _time(match: re.Match[str]) -> Time | None:
    part = match.groupdict()
    year = int(part.get("y") or 0) or (2000 + int(part["y2"]) if part.get("y2") else 0)
    if part.get("a"):
        first, second = int(part["a"]), int(part["b"])
        month, day = (second, first) if first > 12 else (first, second)
    else:
        month = _MONTHS[part["mon"].lower()] if part.get("mon") else int(part["m"])
        day = int(part["d"])
    hour, minute, second_ = int(part["h"]), int(part["mi"]), min(int(part.get("s") or 0), 59)
    if part.get("p"):
        hour = hour % 12 + (12 if part["p"].lower() == "pm" else 0)
    try:
        moment = datetime(year or 4, month, day, hour % 24, minute, second_) + timedelta(days=hour // 24)
    except (ValueError, OverflowError):
        return None
    written = f"{moment:%m-%dT%H}" if not year else f"{moment.year:04d}-{moment:%m-%dT%H}"
    zone = part.get("z")
    if zone and zone[0] in "+-":
        ahead = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:])) * (1 if zone[0] == "+" else -1)
        try:
            moment = moment.replace(tzinfo=timezone(ahead)).astimezone(UTC).replace(tzinfo=None)
        except (ValueError, OverflowError):
            return None
    key = f"{moment.year if year else 0:04d}-{moment:%m-%dT%H:%M:%S}.{part.get('f') or '':0<9}"
    return Time(part["t"], key, part.get("o") or written)
