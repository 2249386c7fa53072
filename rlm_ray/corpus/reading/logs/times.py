"""Times of log lines, many at once: the form that a sample shows, and the moments that texts of it mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars

#: Kinds of columns of times: in UTC where texts have a zone, else as written.
UTC, LOCAL, TEXT = "timestamp[us, tz=UTC]", "timestamp[us]", "string"

_EPOCH = "epoch"


@dataclass(frozen=True, slots=True)
class _Form:
    """A form of times in polars' words."""

    form: str
    kind: str


_FORMS = (
    _Form("%Y-%m-%dT%H:%M:%S%.f%#z", UTC),
    _Form("%Y-%m-%d %H:%M:%S%.f%#z", UTC),
    _Form("%Y-%m-%d %H:%M:%S%.f %#z", UTC),
    _Form("%d/%b/%Y:%H:%M:%S %#z", UTC),
    _Form(_EPOCH, UTC),
    _Form("%y%m%d %H%M%S", LOCAL),
    _Form("%y/%m/%d %H:%M:%S%.f", LOCAL),
    _Form("%Y-%m-%dT%H:%M:%S%.f", LOCAL),
    _Form("%Y-%m-%d %H:%M:%S%.f", LOCAL),
    _Form("%Y-%m-%d-%H.%M.%S%.f", LOCAL),
    _Form("%Y/%m/%d %H:%M:%S%.f", LOCAL),
    _Form("%Y.%m.%d %H:%M:%S%.f", LOCAL),
    _Form("%d/%b/%Y:%H:%M:%S%.f", LOCAL),
    _Form("%d/%b/%Y %H:%M:%S%.f", LOCAL),
    _Form("%d-%b-%Y %H:%M:%S%.f", LOCAL),
    _Form("%a %b %e %H:%M:%S%.f %Y", LOCAL),
    _Form("%b %e %Y %H:%M:%S%.f", LOCAL),
    _Form("%b %e, %Y %I:%M:%S %p", LOCAL),
    _Form("%d.%m.%Y %H:%M:%S%.f", LOCAL),
    _Form("%Y%m%d-%H:%M:%S:%3f", LOCAL),
)

#: Part of a sample's times that have the form.
_MOST = 0.95


def form_of(texts: Sequence[str]) -> tuple[str, str]:
    """Return the form of some times and the type of their column; an empty form and text where none fits.

    Examples
    --------
    >>> form_of(["2024-01-05 10:00:00,123"]), form_of(["05/Jan/2024:10:00:00 +0100"])[1], form_of(["Jan  5 10:00:00"])
    (('%Y-%m-%d %H:%M:%S%.f', 'timestamp[us]'), 'timestamp[us, tz=UTC]', ('', 'string'))
    """
    series = polars.Series(list(texts), dtype=polars.String)
    for item in _FORMS if len(series) else ():
        found = moments(series, item.form, item.kind)
        if found.is_not_null().sum() >= _MOST * len(series):
            return item.form, item.kind
    return "", TEXT


def moments(texts: polars.Series, form: str, kind: str, in_utc: bool = False) -> polars.Series:
    """Return what texts of a form mean; null where one is not of it."""
    if not form:
        return texts
    if form == _EPOCH:
        return _of_epoch(texts)
    if "%.f" in form:
        texts = texts.str.replace(",", ".", literal=True)
    if kind == UTC and "z" in form:
        texts = texts.str.replace(r" ?(?:UTC|GMT|Z)$", "+00:00" if " %#z" not in form else " +00:00")
    parsed = texts.str.to_datetime(form, strict=False, time_unit="us", ambiguous="null")
    if kind == UTC and (in_utc or "z" not in form):
        parsed = parsed.dt.replace_time_zone("UTC")
    return parsed


def _of_epoch(texts: polars.Series) -> polars.Series:
    """Seconds with or without a fraction, milli-, micro- or nanoseconds since 1970, told apart by how many digits they have."""
    fits = texts.str.contains(r"^[0-9]{9,10}(?:\.[0-9]+)?$|^(?:[0-9]{13}|[0-9]{16}|[0-9]{19})$")
    frame = polars.DataFrame({"t": texts.zip_with(fits, polars.Series([None], dtype=polars.String))})
    size = polars.col("t").str.len_bytes()
    whole = polars.col("t").cast(polars.Int64, strict=False)
    seconds = polars.col("t").str.extract(r"^([0-9]+)", 1).cast(polars.Int64, strict=False)
    rest = polars.col("t").str.extract(r"\.([0-9]{1,6})", 1).str.pad_end(6, "0").cast(polars.Int64, strict=False).fill_null(0)
    micros = (
        polars.when(~polars.col("t").str.contains(".", literal=True) & (size >= 13))
        .then(polars.when(size == 13).then(whole * 1_000).when(size == 16).then(whole).otherwise(whole // 1_000))
        .otherwise(seconds * 1_000_000 + rest)
    )
    return frame.select(micros.cast(polars.Datetime("us", "UTC")).alias("t")).to_series()
