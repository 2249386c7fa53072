"""Dates and times as exact whole numbers: of any year, to the nanosecond. Pure."""

from __future__ import annotations

import datetime
import re

#: Nanoseconds of the units that files count in.
UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "D": 86_400_000_000_000}

_DAY = UNITS["D"]
_TIME = r"(\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?"
_MOMENT = re.compile(rf"([+-]?\d{{4,9}})-(\d\d)-(\d\d)(?:[T ]{_TIME}\s*(Z|z|UTC|[+-]\d\d(?::?\d\d(?::?\d\d)?)?)?)?")
_CLOCK = re.compile(_TIME)


def parse_moment(text: str) -> int | None:
    """Return the nanoseconds since 1970 of a date or time; one with a zone is taken to UTC. None where the text is neither.

    Examples
    --------
    >>> parse_moment("1970-01-02"), parse_moment("1970-01-01T01:00:00.5+01:00"), parse_moment("30000-02-30")
    (86400000000000, 500000000, None)
    """
    text = text.strip()
    match = _MOMENT.fullmatch(text)
    if match is None:
        try:  # other forms of ISO 8601
            value = datetime.datetime.fromisoformat(text)
        except ValueError:
            return None
        shift = value.utcoffset() or datetime.timedelta()
        since = value.replace(tzinfo=None) - datetime.datetime(1970, 1, 1) - shift
        return (since.days * 86_400 + since.seconds) * UNITS["s"] + since.microseconds * 1_000
    year, month, day = (int(part) for part in match.groups()[:3])
    days = _days(year, month, day)
    clock = 0 if match[4] is None else _clock(match[4], match[5], match[6], match[7])
    if days is None or clock is None:
        return None
    return days * _DAY + clock - _offset(match[8] or "")


def parse_clock(text: str) -> int | None:
    """Return the nanoseconds since midnight of a time of day; None where the text is none.

    Examples
    --------
    >>> parse_clock("00:00:01.000000001"), parse_clock("25:00")
    (1000000001, None)
    """
    match = _CLOCK.fullmatch(text.strip())
    return None if match is None else _clock(*match.groups())


def moment_text(ticks: int, unit: str, zone: str = "") -> str:
    """Return a count of units since 1970 as ISO text; `zone` is appended.

    Examples
    --------
    >>> moment_text(2**63 - 1, "us"), moment_text(3_000_000, "D"), moment_text(-1, "ms", "Z")
    ('294247-01-10T04:00:54.775807', '10183-09-21', '1969-12-31T23:59:59.999Z')
    """
    days, rest = divmod(ticks * UNITS[unit], _DAY)
    date = _date(days)
    if unit == "D":
        return date
    seconds, fraction = divmod(rest, UNITS["s"])
    digits = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{date}T{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{digits}{zone}"


def _clock(hours: str, minutes: str, seconds: str | None, fraction: str | None) -> int | None:
    parts = int(hours), int(minutes), int(seconds or 0)
    if parts[0] > 23 or parts[1] > 59 or parts[2] > 59:
        return None
    digits = (fraction or "")[:9].ljust(9, "0")
    return (parts[0] * 3_600 + parts[1] * 60 + parts[2]) * UNITS["s"] + int(digits)


def _offset(zone: str) -> int:
    digits = re.sub(r"\D", "", zone).ljust(6, "0")
    seconds = int(digits[:2]) * 3_600 + int(digits[2:4]) * 60 + int(digits[4:6])
    return (-seconds if zone.startswith("-") else seconds) * UNITS["s"]


def _days(year: int, month: int, day: int) -> int | None:
    """Days since 1970 in the proleptic Gregorian calendar, counted from March so that the leap day comes last."""
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    lengths = (31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    if not 1 <= month <= 12 or not 1 <= day <= lengths[month - 1]:
        return None
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def _date(days: int) -> str:
    era, of_era = divmod(days + 719_468, 146_097)
    year = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    day = of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    number = year + era * 400 + (month <= 2)
    return f"{'-' if number < 0 else ''}{abs(number):04d}-{month:02d}-{day:02d}"
