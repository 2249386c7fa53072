"""Columns of log lines and events, by a format: many lines at once, and only the columns that are wanted."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import polars

from rlm_ray.corpus.planning import expressions
from rlm_ray.corpus.reading.logs import times
from rlm_ray.corpus.reading.logs.formats import SEVERITIES, Kind
from rlm_ray.corpus.reading.text import jsonl

#: Columns of all formats, in order; and those that are there in each.
FIRST = ("time", "level", "host", "logger", "pid", "message")
ALWAYS = {"message": "string", "_error": "string"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parser:
    """A format as a corpus has it.

    Attributes
    ----------
    name : str
    kind : {"pattern", "w3c", "logfmt", "journald", "json"}
    pattern : str
        With the columns as names; of other kinds than a pattern's, empty.
    columns : tuple of (str, str)
        Columns and their types, in order.
    keys : tuple of (str, str)
        Columns, and the keys by which logfmt, journald and JSON name them.
    form : str
        Of times; see `times`.
    levels : tuple of (str, str)
        Codes of levels and what they mean.
    nothing : str
        A value that means that there is none.
    skips : str
        A pattern of lines that are no records.
    in_utc : bool
        Times without a zone are in UTC.
    header : str
        Of W3C: the names of the columns, as the object's head has them.
    members : tuple of (str, str)
        Of JSON: the members of a line and their types.
    """

    name: str
    kind: Kind
    pattern: str = ""
    columns: tuple[tuple[str, str], ...]
    keys: tuple[tuple[str, str], ...] = ()
    form: str = ""
    levels: tuple[tuple[str, str], ...] = ()
    nothing: str = ""
    skips: str = ""
    in_utc: bool = False
    header: str = ""
    members: tuple[tuple[str, str], ...] = ()

    @property
    def schema(self) -> dict[str, str]:
        """Columns and their types."""
        return dict(self.columns)

    @property
    def is_verbatim(self) -> bool:
        """Whether what is in a column of text stands so in the line; a level in other letters."""
        return self.kind in ("pattern", "w3c") and not self.levels and "priority" not in self.schema


def parsed(texts: polars.Series, parser: Parser, wanted: Sequence[str]) -> tuple[dict[str, polars.Series], polars.Series]:
    """Return the wanted columns of some lines, and whether each line has the format: one that has not is its own message."""
    find = {"logfmt": _by_keys, "journald": _by_keys, "json": _by_json}.get(parser.kind, _by_pattern)
    found, fits = find(texts, parser, [name for name in parser.schema if name in wanted])
    if "message" in wanted:
        said = found.get("message", polars.Series([None], dtype=polars.String))
        found["message"] = (said if len(said) == len(texts) else said.new_from_index(0, len(texts))).zip_with(fits, texts)
    return {name: column.alias(name) for name, column in found.items()}, fits


def _by_pattern(texts: polars.Series, parser: Parser, wanted: Sequence[str]) -> tuple[dict[str, polars.Series], polars.Series]:
    names = re.findall(r"\?P?<(\w+)>", parser.pattern)
    sure = next((name for name in ("whole_match", "time") if name in names), names[0])  # one that each match has
    source = [name for name in wanted if name != "level" or "priority" not in parser.schema]
    needed = {sure, *source} | ({"priority"} if "level" in wanted and "priority" in parser.schema else set())
    source = [name for name in source if name in names]
    groups = texts.str.extract_groups(_narrowed(parser.pattern, frozenset(needed))).struct.unnest()
    fits = groups[sure].is_not_null()
    found = {name: groups[name] for name in source}
    if "level" in wanted and "priority" in parser.schema:
        found["level"] = _severity(groups["priority"])
    return {name: _typed(name, column, parser, fits) for name, column in found.items()}, fits


def _severity(priority: polars.Series) -> polars.Series:
    bits = priority.cast(polars.Int64, strict=False) % 8
    return bits.replace_strict(dict(enumerate(SEVERITIES)), default=None, return_dtype=polars.String)


@lru_cache(maxsize=256)
def _narrowed(pattern: str, names: frozenset[str]) -> str:
    """A pattern of which only some names are kept: what is not kept costs less."""
    return re.sub(r"\(\?P?<(\w+)>", lambda match: match[0] if match[1] in names else "(?:", pattern)


def _typed(name: str, column: polars.Series, parser: Parser, fits: polars.Series) -> polars.Series:
    """A column of texts in its own type."""
    if parser.nothing and name != "message":
        column = column.set(column == parser.nothing, None)
    kind = parser.schema[name]
    if name == "time":
        if parser.kind == "w3c":
            column = column.str.replace("\t", " ", literal=True)
        return times.moments(column, parser.form, kind, parser.in_utc)
    if name == "level":
        column = column.str.to_uppercase()
        return column.replace(dict(parser.levels)) if parser.levels else column
    return column if kind == "string" else column.cast(expressions.dtype(kind), strict=False)


def _by_keys(texts: polars.Series, parser: Parser, wanted: Sequence[str]) -> tuple[dict[str, polars.Series], polars.Series]:
    """Columns of `key=value` pairs: on a line (logfmt), or a line each (journald's export)."""
    is_logfmt = parser.kind == "logfmt"
    fits = texts.str.contains(_PAIR if is_logfmt else r"(?m)^__REALTIME_TIMESTAMP=[0-9]+$")
    keys = dict(parser.keys)
    found = {}
    for name in wanted:
        if name == "_more":
            continue
        key = re.escape(keys[name])
        if is_logfmt:
            values = texts.str.extract(rf'(?:^|[ \t]){key}=("(?:[^"\\]|\\.)*"|[^ \t"]*)', 1)
            quoted = values.str.starts_with('"')
            bare = values.str.slice(1).str.head(-1).str.replace_all(r'\\(["\\])', "${1}").str.replace_all("\\n", "\n", literal=True)
            values = bare.zip_with(quoted.fill_null(False), values)
        else:
            values = texts.str.extract(rf"(?m)^{key}=(.*)$", 1)
            # a value with line breaks or other bytes follows its length in eight bytes, of which the upper ones are zeros
            long = (
                texts.str.extract(rf"(?s)(?:^|\n){key}\n[^\x00]{{1,5}}\x00{{3,8}}(.*?)\n(?:[A-Z_0-9]+[=\n]|$)", 1)
                if name == "message"
                else None
            )
            values = values if long is None else values.zip_with(values.is_not_null(), long)
        found[name] = _typed(name, values.set(~fits, None), parser, fits)
    if "_more" in wanted:
        found["_more"] = polars.Series([_others(text, frozenset(keys.values()), is_logfmt) for text in texts], dtype=polars.String)
    return found, fits


_PAIR = r'(?:^|[ \t])[A-Za-z_][\w.@/-]*=(?:"(?:[^"\\]|\\.)*"|[^ \t"]*)(?:[ \t]|$)'
_PAIRS = re.compile(r'(?:^|[ \t])([A-Za-z_][\w.@/-]*)=("(?:[^"\\]|\\.)*"|[^ \t"]*)')


def _others(text: str, known: frozenset[str], is_logfmt: bool) -> str | None:
    """The pairs whose keys are no columns, as JSON."""
    pairs = _PAIRS.findall(text) if is_logfmt else re.findall(r"(?m)^([A-Z_0-9]+)=(.*)$", text)
    others = {key: value for key, value in pairs if key not in known}
    return json.dumps(others, ensure_ascii=False) if others else None


def _by_json(texts: polars.Series, parser: Parser, wanted: Sequence[str]) -> tuple[dict[str, polars.Series], polars.Series]:
    schema, keys = dict(parser.members) | jsonl.EXTRA, dict(parser.keys)
    names = list(dict.fromkeys([keys.get(name, name) for name in wanted] + ["_error"]))
    columns = {column.name: column for column in jsonl.parse(texts, schema, names)}
    fits = columns["_error"].is_null()
    found = {}
    for name in wanted:
        column = columns[keys.get(name, name)]
        if column.dtype != polars.String:
            column = column.cast(polars.String)
        found[name] = column if name == "_more" else _typed(name, column, parser, fits)
    return found, fits


def columns_of(
    texts: polars.Series, parsers: Sequence[Parser], schema: Mapping[str, str], wanted: Sequence[str]
) -> tuple[dict[str, polars.Series], polars.Series]:
    """Return the wanted columns of some lines, each by the first of some formats that it has, and whether it has one."""
    found, fits = parsed(texts, parsers[0], wanted)
    found = {name: _whole(name, found.get(name), len(texts), schema) for name in wanted if name != "_error"}
    for parser in parsers[1:]:
        if fits.all():
            break
        left = (~fits).arg_true()
        columns, fine = parsed(texts.gather(left), parser, wanted)
        for name, column in found.items():
            found[name] = column.scatter(left, _whole(name, columns.get(name), len(left), schema))
        fits = fits.scatter(left, fine)
    return found, fits


def _whole(name: str, column: polars.Series | None, count: int, schema: Mapping[str, str]) -> polars.Series:
    kind = expressions.dtype(schema[name])
    if column is None:
        return polars.Series(name, [None], dtype=kind).new_from_index(0, count)
    return column if column.dtype == kind else column.cast(kind, strict=False)
