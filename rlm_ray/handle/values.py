"""Small values that show themselves well when root code prints them."""

from __future__ import annotations

from collections.abc import Sequence

TYPE_CHECKING = False  # see rlm_ray/__init__.py
if TYPE_CHECKING:
    from typing import Any

    from rlm_ray.types.json import Record
else:
    Any = object

#: Characters of a value that a table in a notebook shows.
MAX_CELL = 300


class Description(dict[str, Any]):
    """A mapping that prints one entry a line."""

    def __repr__(self) -> str:
        lines = []
        for key, value in self.items():
            if key == "nbytes":
                value = f"{value:,} ({size(value)})"
            elif isinstance(value, int) and not isinstance(value, bool):
                value = f"{value:,}"
            elif isinstance(value, dict):
                value = "".join(f"\n  {name}: {_short(item)}" for name, item in list(value.items())[:60])
                if len(self[key]) > 60:
                    value += f"\n  … and {len(self[key]) - 60} more"
            elif isinstance(value, list):
                value = "".join(f"\n  {_short(item)}" for item in value[:20]) + (
                    f"\n  … and {len(value) - 20} more" if len(value) > 20 else ""
                )
            lines.append(f"{key}: {value}")
        return "\n".join(lines)

    __str__ = __repr__


class Counts(dict[Any, int]):
    """Values and how often each occurs, most frequent first.

    Attributes
    ----------
    distinct : int
        Number of distinct values there are, also those beyond the limit.
    """

    def __init__(self, counts: dict[Any, int], distinct: int) -> None:
        super().__init__(counts)
        self.distinct = distinct

    def __reduce__(self) -> tuple[Any, ...]:
        return Counts, (dict(self), self.distinct)

    def __repr__(self) -> str:
        shown = dict.__repr__(self)
        hidden = self.distinct - len(self)
        return shown if hidden <= 0 else f"{shown[:-1]}, … {hidden:,} more values not listed}}"


class Estimate(dict[Any, Any]):
    """What a random sample says of all records; prints as a sentence. Its keys are those of `rlm_ray.types.sampled`.

    Attributes
    ----------
    counts : dict
        By label: the number of records, with its limits, as (value, low, high).
    """

    @property
    def counts(self) -> dict[Any, tuple[int, int, int]]:
        """The number of records of each label, as (value, low, high)."""
        return {
            item["label"]: (round(item["count"]["value"]), round(item["count"]["low"]), round(item["count"]["high"]))
            for item in self["shares"]
        }

    def __repr__(self) -> str:
        lines = [self["sentence"]]
        for group in self["groups"][:50]:
            shares = ((item["label"], item["share"]) for item in group["shares"])
            shown = "; ".join(f"{label} {100 * part['low']:.1f} to {100 * part['high']:.1f} %" for label, part in shares)
            if group["mean"] is not None:
                shown = f"mean {group['mean']['low']:,.4g} to {group['mean']['high']:,.4g}"
            lines.append(f"  {group['group']}: {group['records']:,} records, {group['read']:,} read: {shown}")
        return "\n".join(lines)

    __str__ = __repr__


class Budget(dict[str, Any]):
    """What is left and what was spent; prints in one line."""

    def __repr__(self) -> str:
        return "; ".join(
            f"{key}: {'unlimited' if value is None else f'{value:,}' if isinstance(value, int) else value}"
            for key, value in self.items()
        )


def facts_html(title: str, facts: dict[str, str]) -> str:
    """Return facts as a small table for a notebook. Text of a corpus or a model is escaped.

    Examples
    --------
    >>> facts_html("Corpus", {"records": "<b>3</b>"})
    '<table><caption>Corpus</caption><tr><th>records</th><td>&lt;b&gt;3&lt;/b&gt;</td></tr></table>'
    """
    from html import escape

    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items() if value)
    return f"<table>{f'<caption>{escape(title)}</caption>' if title else ''}{rows}</table>"


def rows_html(rows: Sequence[Record], total: int | None, noun: str) -> str:
    """Return rows as a table for a notebook: the first of `total`. Text of a corpus or a model is escaped, and long text cut.

    Examples
    --------
    >>> rows_html([{"n": 1, "text": "<b>"}], 3, "row")
    '<table><caption>1 of 3 rows</caption><tr><th>n</th><th>text</th></tr><tr><td>1</td><td>&lt;b&gt;</td></tr></table>'
    """
    from html import escape

    columns = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{escape(str(name))}</th>" for name in columns)
    lines = (f"<tr>{''.join(f'<td>{escape(cell_text(row.get(name)))}</td>' for name in columns)}</tr>" for row in rows)
    many = "" if total == 1 else "s"
    caption = f"{len(rows):,} of {total:,} {noun}{many}" if total is not None else f"the first {noun}s"
    caption = f"{total:,} {noun}{many}" if total == len(rows) else caption
    return f"<table><caption>{escape(caption)}</caption><tr>{head}</tr>{''.join(lines)}</table>"


def cell_text(value: Any) -> str:
    """Return a value as a cell of a table shows it: text as it is, nothing for None, cut where it is long.

    Examples
    --------
    >>> cell_text(None), cell_text(True), cell_text(0.5), cell_text({"a": [1]})
    ('', 'true', '0.5', '{"a": [1]}')
    """
    import json

    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_CELL else f"{text[:MAX_CELL]} …"


def size(nbytes: int | None) -> str:
    """Return a number of bytes as people write it.

    Examples
    --------
    >>> size(1_500_000)
    '1.5 MB'
    """
    if nbytes is None:
        return "unknown size"
    amount = float(nbytes)
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError("unreachable")


def _short(value: Any) -> str:
    if isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
        value = ": ".join(value.values())  # an object and why it cannot be read
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 300 else f"{text[:300]} … [{len(text) - 300} characters cut]"
