"""How a CSV object separates, quotes and escapes its fields: given by the caller, else found in its first 64 KiB. Pure."""

from __future__ import annotations

import csv
import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import islice

from rlm_ray.errors import InputError

#: Separators that are looked for; of several that fit equally the first.
SEPARATORS = (",", ";", "\t", "|")
#: Bytes in which a dialect is looked for, and records of them.
SAMPLE, _SAMPLE_ROWS = 64 << 10, 200
#: Characters of a field, and of a line; a longer one is not read.
FIELD = 64 << 20
_FITS = 0.9


@dataclass(frozen=True, slots=True)
class Dialect:
    """Separator, quote and escape of a CSV object.

    Attributes
    ----------
    separator : str
        One character.
    quote : str
        One character; empty where no field is quoted. A quote within a quoted field stands twice.
    escape : str
        One character in front of a quote, a separator or itself; empty without one. With one, `\\N` alone is null.
    skipped : int
        Lines before the header: a line `sep=;` that names the separator.
    """

    separator: str = ","
    quote: str = '"'
    escape: str = ""
    skipped: int = 0

    def __str__(self) -> str:
        """Return the dialect as `inspect` shows it."""
        shown = {"\t": "tab"}.get(self.separator, f"'{self.separator}'")
        parts = [f"separator {shown}", f"quote {self.quote}" if self.quote else "no quotes"]
        parts.append(f"escape {self.escape}" if self.escape else "quotes doubled, no escape")
        return ", ".join(parts) + (", after a line sep=" if self.skipped else "")


#: Commas, and quotes that stand twice.
PLAIN = Dialect()


@dataclass(frozen=True, slots=True)
class Given:
    """What the caller says of a dialect; None is found in the object."""

    separator: str | None = None
    quote: str | None = None
    escape: str | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            empty = value == "" and name != "separator"
            if value is None or empty:
                continue
            if len(value) != 1 or not value.isascii() or value in "\r\n":
                raise InputError(f"csv_{name}={value!r} does not work. Give one ASCII character that is no line break.")

    def to_text(self) -> str:
        """Return it as a shard carries it; empty where nothing is given."""
        found = {name: value for name, value in asdict(self).items() if value is not None}
        return json.dumps(found) if found else ""

    @classmethod
    def from_text(cls, text: str) -> Given:
        """Return what `to_text` wrote."""
        return cls(**json.loads(text)) if text else cls()


#: Nothing is given: all is found in the object.
FOUND = Given()


#: The fields of a record.
Row = Sequence[str | None]


class Unclosed(list[str]):
    """A record whose quote is never closed properly: its first line alone."""


def sniffed(text: str, given: Given, uri: str = "", whole: bool = True) -> Dialect:
    """Return the dialect of a CSV object.

    Parameters
    ----------
    text : str
        Its beginning.
    uri : str
        Its name: `.tsv` prefers tabs.
    whole : bool
        Whether the text ends where a line does.

    Examples
    --------
    >>> sniffed("id;amount\\n1;5,50\\n", Given())
    Dialect(separator=';', quote='"', escape='', skipped=0)
    """
    lines = text.removeprefix("\ufeff").splitlines(keepends=True)
    if not whole and len(lines) > 1:
        lines.pop()
    skipped, named = 0, None
    if lines and (found := re.fullmatch(r'"?sep=([^\w"])"?', lines[0].rstrip("\r\n"), re.IGNORECASE)):
        skipped, named = 1, found[1]
    lines = lines[skipped:]
    quote = '"' if given.quote is None else given.quote
    separator = given.separator or named
    if separator is None:
        tabbed = re.search(r"\.(tsv|tab)(\.\w+)?$", uri.lower()) is not None
        separator = _separator(lines, quote, ("\t", *SEPARATORS) if tabbed else SEPARATORS, given.escape or "")
    plain = Dialect(separator, quote, "", skipped)
    if given.escape is not None:
        return replace(plain, escape=given.escape)
    escaped = replace(plain, escape="\\")
    joined = "".join(lines)
    edge = re.escape(separator)
    if re.search(rf"(?m)(?:^|{edge})\\N(?:{edge}|\r?$)", joined):
        return escaped
    if quote and f"\\{quote}" in joined and _misfits(lines, escaped) < _misfits(lines, plain):
        return escaped
    return plain


def _separator(lines: Sequence[str], quote: str, candidates: Sequence[str], escape: str) -> str:
    best, score = candidates[0], (0.0, 0)
    header = next((line for line in lines if line.strip()), "")
    for separator in dict.fromkeys(candidates):
        if separator not in header:
            continue
        escapes = [escape] if escape else ["", "\\"] if any("\\" in line for line in lines) else [""]
        for tried in escapes:
            rows = _rows(lines, Dialect(separator, quote, tried))
            width = len(rows[0]) if rows else 0
            if width < 2:
                continue
            share = sum(len(row) == width and not isinstance(row, Unclosed) for row in rows) / len(rows)
            # where nearly all records fit, the earlier separator stands unless a later one fits clearly better
            if (share if share < _FITS else 1.0, 0) > score:
                best, score = separator, (share if share < _FITS else 1.0, 0)
    return best


def _rows(lines: Sequence[str], dialect: Dialect) -> list[Row]:
    source = iter(lines)
    return list(islice(records(lambda: next(source, ""), dialect), _SAMPLE_ROWS))


def _misfits(lines: Sequence[str], dialect: Dialect) -> int:
    rows = _rows(lines, dialect)
    pattern = _strict(dialect)
    # an escape that ends a line's quote is a misfit of the dialect without one
    single = sum(pattern.fullmatch(line) is None for line in lines[:_SAMPLE_ROWS] if line.count(dialect.quote) > 1)
    return single + sum(isinstance(row, Unclosed) or len(row) != len(rows[0]) for row in rows)


def records(next_line: Callable[[], str], dialect: Dialect) -> Iterator[Row]:
    """Yield the records of lines; blank lines are none. A quote that is never closed costs one line (`Unclosed`).

    Parameters
    ----------
    next_line : callable
        Returns the next line with its end; an empty text at the end.
    """
    csv.field_size_limit(FIELD)
    waiting: deque[str] = deque()
    taken: list[str] = []
    ended = False

    def lines() -> Iterator[str]:
        nonlocal ended
        while line := waiting.popleft() if waiting else next_line():
            taken.append(line)
            yield line
        ended = True

    def reader() -> Iterator[list[str]]:
        return csv.reader(
            lines(),
            delimiter=dialect.separator,
            quotechar=dialect.quote or None,
            quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
            escapechar=dialect.escape or None,
        )

    rows = reader()
    while True:
        taken.clear()
        try:
            row = next(rows, None)
            fits = row is None or not (len(taken) > 1 or ended) or _strict(dialect).fullmatch("".join(taken)) is not None
        except csv.Error:  # a field above the limit
            row, fits = [], False
        if row is None:
            return
        if not fits:
            first, *others = taken
            waiting.extendleft(reversed(others))
            ended = False
            rows = reader()
            yield Unclosed([first.rstrip("\r\n")[:1000]])
        elif row:
            raw = "".join(taken) if dialect.escape else ""
            yield _unescaped(raw, dialect) if dialect.escape and dialect.escape in raw else row


@lru_cache(maxsize=64)
def _field(dialect: Dialect) -> str:
    separator, quote, escape = (re.escape(char) for char in (dialect.separator, dialect.quote, dialect.escape))
    quoted = (
        f"{quote}(?:[^{quote}{escape}]|{quote}{quote}" + (f"|{escape}(?s:.)" if escape else "") + f")*+{quote}" if quote else ""
    )
    begins = f"[^{separator}\\r\\n{quote}{escape}]" + (f"|{escape}(?s:.)" if escape else "")
    goes_on = f"[^{separator}\\r\\n{escape}]" + (f"|{escape}(?s:.)" if escape else "")
    bare = f"(?:(?:{begins})(?:{goes_on})*+)?"
    return f"(?:{quoted}|{bare})" if quoted else bare


@lru_cache(maxsize=64)
def _strict(dialect: Dialect) -> re.Pattern[str]:
    """What one whole record looks like, with its line end."""
    field = _field(dialect)
    return re.compile(f"{field}(?:{re.escape(dialect.separator)}{field})*+(?:\\r\\n|\\n|\\r)?")


@lru_cache(maxsize=64)
def _cut(dialect: Dialect) -> re.Pattern[str]:
    return re.compile(f"({_field(dialect)})({re.escape(dialect.separator)}|(?:\\r\\n|\\n|\\r)?\\Z)")


_LETTERS = {"t": "\t", "n": "\n", "r": "\r", "b": "\b", "0": "\0"}


def _unescaped(raw: str, dialect: Dialect) -> Row:
    """Cut a record in which something is escaped."""
    quote, escape = dialect.quote, dialect.escape
    row: list[str | None] = []
    at = 0
    while True:
        found = _cut(dialect).match(raw, at)
        if found is None:  # a quote in the middle, as csv would take it
            return next(csv.reader([raw], delimiter=dialect.separator, quotechar=quote or None, escapechar=escape))
        text = found[1]
        if text == f"{escape}N":
            row.append(None)
        elif quote and text.startswith(quote):
            row.append(_replaced(text[1:-1].replace(quote * 2, quote), dialect, {}))
        else:
            # databases write tabs and line breaks of a field as letters where fields are separated by tabs
            row.append(_replaced(text, dialect, _LETTERS if dialect.separator == "\t" else {}))
        at = found.end()
        if found[2] != dialect.separator:
            return row


def _replaced(text: str, dialect: Dialect, letters: dict[str, str]) -> str:
    if dialect.escape not in text:
        return text
    own = {dialect.quote, dialect.escape, dialect.separator, "\n", "\r"}

    def value(found: re.Match[str]) -> str:
        char = found[1]
        return char if char in own else letters.get(char, found[0])

    return re.sub(re.escape(dialect.escape) + r"(.)", value, text, flags=re.DOTALL)
