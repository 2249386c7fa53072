"""The formats of a corpus: as the caller names them, else those that fit a sample; with their columns and forms of times."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars

from rlm_ray.corpus.reading.logs import times
from rlm_ray.corpus.reading.logs.fields import FIRST, Parser, parsed
from rlm_ray.corpus.reading.logs.formats import FORMATS, LogFormat, named, names
from rlm_ray.corpus.reading.text import jsonl
from rlm_ray.errors import InputError

#: Part of a sample that a second format must have; most formats of a corpus.
_SECOND, _MOST = 0.02, 4
#: What a line counts that has a format which says little.
_WORTH = {"timed": 0.5, "plain": 0.05}
_LOGFMT = re.compile(r'(?:^|[ \t])([A-Za-z_][\w.@/-]*)=(?="|\S|$)')
#: Keys of logfmt, journald and JSON lines that are columns of all formats.
_KEYS = {
    "time": ("time", "ts", "timestamp", "t", "@timestamp", "__REALTIME_TIMESTAMP"),
    "level": ("level", "lvl", "severity", "PRIORITY"),
    "host": ("host", "hostname", "_HOSTNAME"),
    "logger": ("logger", "caller", "component", "SYSLOG_IDENTIFIER"),
    "pid": ("pid", "_PID"),
    "message": ("msg", "message", "MESSAGE"),
}


@dataclass(frozen=True, slots=True)
class Found:
    """The formats of a corpus, and what of the sample has none."""

    parsers: tuple[Parser, ...]
    looked_at: int
    unparsed: int

    @property
    def schema(self) -> dict[str, str]:
        """The columns of all formats: those that are common first."""
        kinds: dict[str, str] = {"message": "string"}
        for parser in self.parsers:
            for name, kind in parser.columns:
                kinds[name] = kind if kinds.get(name, kind) == kind else "string"
        ordered = [name for name in FIRST if name in kinds] + [name for name in kinds if name not in FIRST]
        return {name: kinds[name] for name in ordered} | {"_error": "string"}

    def __str__(self) -> str:
        """Return them as `inspect` shows them."""
        said = "fields of " + ", ".join(parser.name for parser in self.parsers)
        times_of = dict.fromkeys(_times(parser) for parser in self.parsers if "time" in parser.schema)
        said += "".join(f", {text}" for text in times_of)
        return said + (f"; {self.unparsed:,} of {self.looked_at:,} sampled records have none of these" if self.unparsed else "")


def _times(parser: Parser) -> str:
    kind = parser.schema["time"]
    return {times.UTC: "times in UTC", times.LOCAL: "times without a zone, as written"}.get(
        kind, "times as text: no year, or of no known form"
    )


def found(texts: Sequence[str], wanted: str, patterns: Mapping[str, str]) -> Found:
    """Return the formats of a corpus.

    Parameters
    ----------
    texts : sequence of str
        Records from the beginnings of some objects.
    wanted : str
        "auto", a format's name, or a pattern with names.
    patterns : mapping
        The user's own formats, by name.

    Raises
    ------
    InputError
        There is no such format, or the pattern is none.
    """
    sample = polars.Series(list(texts), dtype=polars.String)
    sample = sample.filter(sample.str.strip_chars() != "")
    own = tuple(_own(name, pattern) for name, pattern in patterns.items())
    if re.search(r"\(\?P?<\w+>", wanted):
        candidates: tuple[LogFormat, ...] = (_own("pattern", wanted),)
    elif wanted == "auto":
        candidates = (*own, *FORMATS)
    else:
        candidates = tuple(item for item in own if item.name == wanted) or named(wanted)
    if not candidates:
        raise InputError(
            f"parse={wanted!r:.200} is not known. Use 'auto', a pattern with names, or one of {', '.join([*patterns, *names()])}."
        )
    if len(candidates) == 1:
        chosen = list(candidates)
        parsers = [_parser(chosen[0], sample)]
        left = _records(sample, parsers[0])
        return Found(tuple(parsers), len(left), int((~parsed(left, parsers[0], ())[1]).sum()) if len(left) else 0)
    return _chosen(candidates, sample)


def _records(sample: polars.Series, parser: Parser) -> polars.Series:
    """A sample without the lines that are no records of a format."""
    return sample.filter(~sample.str.contains(parser.skips)) if parser.skips else sample


def _chosen(candidates: Sequence[LogFormat], sample: polars.Series) -> Found:
    """The formats that fit most of a sample: the best, and those of what it leaves whose times are of the same kind."""
    parsers: list[Parser] = []
    left, looked_at = sample, len(sample)
    while len(parsers) < _MOST and len(left):
        kinds = {parser.schema.get("time") for parser in parsers} - {None}
        tried = [_parser(item, left) for item in candidates if item.name not in {parser.name for parser in parsers}]
        tried = [item for item in tried if not kinds or item.schema.get("time") in {None, *kinds}]
        counts = [int(parsed(left, item, ())[1].sum()) for item in tried]
        # a format that says more goes before those that say a time, or nothing
        ranks = [
            (count * _WORTH.get(item.name, 1.0), -number) for number, (item, count) in enumerate(zip(tried, counts, strict=True))
        ]
        share, number = max(ranks, default=(0, 0))
        if share <= (_SECOND * len(sample) if parsers else 0) or (parsers and tried[-number].name == "plain"):
            break
        best = tried[-number]
        parsers.append(best)
        if best.skips and len(parsers) == 1:
            left = _records(left, best)
            looked_at = len(left)
        left = left.filter(~parsed(left, best, ())[1]) if len(left) else left
    return Found(tuple(parsers or [_parser(candidates[-1], sample)]), looked_at, len(left))


def _own(name: str, pattern: str) -> LogFormat:
    """A user's pattern as a format."""
    try:
        polars.Series([""]).str.extract_groups(pattern)
    except polars.exceptions.ComputeError as error:
        raise InputError(f"parse: {name!r} is no pattern: {' '.join(str(error).split())}") from None
    groups = re.findall(r"\(\?P?<(\w+)>", pattern)
    if not groups:
        raise InputError(f"parse: the pattern {name!r} has no names. Write (?P<time>…) and (?P<message>…).")
    # a name around all of it is in each match, whatever it leaves out
    return LogFormat(name=name, pattern=f"(?P<whole_match>{pattern})")


def _parser(item: LogFormat, sample: polars.Series) -> Parser:
    """A format with its columns, by a sample."""
    make = {"w3c": _w3c, "logfmt": _logfmt, "journald": _journald, "json": _json}.get(item.kind, _plain)
    parser = make(item, sample)
    if "time" not in parser.schema:
        return parser
    texts = replace(parser, columns=(("time", times.TEXT),), form="")
    written = parsed(sample, texts, ("time",))[0]["time"].drop_nulls() if len(sample) else polars.Series([], dtype=polars.String)
    form, kind = times.form_of(written.head(200).to_list())
    if parser.in_utc and kind == times.LOCAL:
        kind = times.UTC
    return replace(parser, form=form, columns=tuple((name, kind if name == "time" else old) for name, old in parser.columns))


def _of(item: LogFormat, columns: Mapping[str, str]) -> Parser:
    return Parser(
        name=item.name,
        kind=item.kind,
        pattern=item.pattern,
        columns=tuple(columns.items()),
        levels=tuple(item.levels.items()),
        nothing=item.nothing,
        skips=item.skips,
        in_utc=item.in_utc,
    )


def _plain(item: LogFormat, sample: polars.Series) -> Parser:
    groups = [name for name in dict.fromkeys(re.findall(r"\(\?P?<(\w+)>", item.pattern)) if name != "whole_match"]
    columns = {name: item.types.get(name, "string") for name in groups}
    if "priority" in columns:
        columns["level"] = "string"
    return _of(item, columns)


def _unfit(item: LogFormat) -> Parser:
    """A format of which the sample does not show the columns: no record has it."""
    columns = (("message", "string"),)
    return Parser(name=item.name, kind="pattern", pattern=r"^(?P<message>[^\s\S])$", columns=columns, skips=item.skips)


def _w3c(item: LogFormat, sample: polars.Series) -> Parser:
    """Columns by the line `#Fields:`; where there is none, no line fits."""
    heads = sample.filter(sample.str.starts_with("#Fields:"))
    header = heads[0].strip() if len(heads) else ""
    fields = header.removeprefix("#Fields:").split()
    is_tabbed = bool(len(sample)) and int(sample.filter(~sample.str.starts_with("#")).str.contains("\t", literal=True).sum()) > 0
    columns: dict[str, str] = {}
    parts = []
    at = 0
    while at < len(fields):
        name = re.sub(r"\W+", "_", fields[at]).strip("_").lower()
        shape = r'"[^"]*"|[^\t]*' if is_tabbed else r'"[^"]*"|[^ ]+'
        if name == "date" and fields[at + 1 : at + 2] == ["time"]:
            name, shape, at = "time", r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ \t][0-9:.]+", at + 1
        host = "s_ip" if "s-computername" not in fields else "s_computername"
        name = {"cs_uri_stem": "message", host: "host", "c_ip": "client", "sc_status": "status"}.get(name, name)
        columns[name] = "int64" if name in _NUMBERS else "string"
        parts.append(f"(?P<{name}>{shape if name not in _NUMBERS else '[0-9]+|-'})")
        at += 1
    pattern = "^" + ("\t" if is_tabbed else " ").join(parts) + "$"
    usual = item.name == "cloudfront"
    if not parts or usual != ("x_edge_location" in columns):
        return _unfit(item)
    return replace(_of(item, columns), pattern=pattern, header=header)


_NUMBERS = frozenset(("status", "sc_substatus", "sc_win32_status", "time_taken", "sc_bytes", "cs_bytes", "s_port"))


def _with_keys(item: LogFormat, keys: Sequence[str]) -> Parser:
    columns, sources = {}, {}
    left = list(dict.fromkeys(keys))
    for name, known in _KEYS.items():
        key = next((key for key in known if key in left), None)
        if key is not None:
            columns[name], sources[name] = item.types.get(name, "string"), key
            left.remove(key)
    for key in left:
        name = re.sub(r"\W+", "_", key).strip("_").lower() or "unnamed"
        if name not in columns:
            columns[name], sources[name] = "string", key
    columns["_more"] = "json"
    return replace(_of(item, columns), keys=tuple(sources.items()))


def _logfmt(item: LogFormat, sample: polars.Series) -> Parser:
    counts: dict[str, int] = {}
    for text in sample.head(1_000):
        bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', text)
        for key in dict.fromkeys(_LOGFMT.findall(bare)):
            counts[key] = counts.get(key, 0) + 1
    # one pair in a sentence makes no logfmt: most lines have the same ones, and begin with one
    keys = [key for key, count in counts.items() if count > 0.02 * len(sample)]
    begins = sample.str.contains(r"^[A-Za-z_][\w.@/-]*=").sum() if len(sample) else 0
    parser = _with_keys(item, keys)
    return parser if 2 * int(begins) > len(sample) and len(keys) > 1 else _unfit(item)


def _journald(item: LogFormat, sample: polars.Series) -> Parser:
    keys: dict[str, None] = {"__REALTIME_TIMESTAMP": None, "PRIORITY": None, "_HOSTNAME": None, "SYSLOG_IDENTIFIER": None}
    keys |= {"_PID": None, "MESSAGE": None}
    for text in sample.head(200):
        keys |= dict.fromkeys(re.findall(r"(?m)^([A-Z_0-9]+)=", text))
    return _with_keys(item, list(keys))


def _json(item: LogFormat, sample: polars.Series) -> Parser:
    lines = sample.filter(sample.str.contains("__REALTIME_TIMESTAMP", literal=True))
    members = jsonl.united([jsonl.members(lines)]) if len(lines) else {}
    parser = _with_keys(item, [name for name, kind in members.items() if kind in ("string", "int64", "double", "bool", "json")])
    if "time" not in parser.schema:
        return _unfit(item)
    return replace(parser, members=tuple(members.items()))
