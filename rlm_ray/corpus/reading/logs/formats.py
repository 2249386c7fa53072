"""The table of log formats: a pattern with names for each, in Rust's syntax. A user adds patterns by the setting `log_patterns`. Pure.

The names are columns. `time`, `level`, `host`, `logger`, `pid` and `message` mean the same in each format: `host` is the machine that
wrote the line (the other end is `client`), `logger` the program, class or file, and `message` what is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["pattern", "w3c", "logfmt", "journald", "json"]

_CLOCK = r"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?"
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_ISO = rf"{_DATE}[T ]{_CLOCK}(?: ?(?:Z|UTC|GMT|[+-][0-9]{{2}}:?[0-9]{{2}}))?"
_LEVEL = (
    "(?P<level>(?i:trace|debug|fine(?:st|r)?|config|info(?:rmation)?|notice|warn(?:ing)?|err(?:or)?|severe|fatal|crit(?:ical)?|alert|"
    "emerg(?:ency)?|panic|verbose))"
)
_MESSAGE = r"(?P<message>(?s:.*))$"
_QUOTED = r'(?:[^"\\]|\\.)*'
_REQUEST = (
    rf'"(?P<message>(?P<method>[A-Z]+) (?P<path>[^ "\\]+)(?: (?P<protocol>[A-Z]+/[0-9.]+))?|{_QUOTED})" '
    r"(?P<status>[0-9]{3}) (?P<bytes>[0-9]+|-)"
)
_CLIENT = r"(?P<client>[^ ]+) (?P<ident>[^ ]+) (?P<user>[^ ]+) \[(?P<time>[^\]]+)\]"
_AGENT = rf'"(?P<referer>{_QUOTED})" "(?P<agent>{_QUOTED})"'
_ACCESS = {"status": "int64", "bytes": "int64"}
_PID = {"pid": "int64"}

#: Levels of syslog, by the last three bits of a priority.
SEVERITIES = ("EMERG", "ALERT", "CRIT", "ERR", "WARNING", "NOTICE", "INFO", "DEBUG")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFormat:
    """A format of lines or events.

    Attributes
    ----------
    name : str
    pattern : str
        With the columns as names; its first name is in all that it matches. Empty where `kind` says otherwise.
    family : str
        A name that several formats share: the one that fits is taken.
    kind : {"pattern", "w3c", "logfmt", "journald", "json"}
        How columns are found.
    types : mapping
        Columns that are no text, beside `time`.
    levels : mapping
        Codes of levels; others are written in capitals.
    nothing : str
        A value that means that there is none.
    skips : str
        A pattern of lines that are no records.
    in_utc : bool
        Times have no zone and are in UTC.
    """

    name: str
    pattern: str = ""
    family: str = ""
    kind: Kind = "pattern"
    types: Mapping[str, str] = field(default_factory=dict)
    levels: Mapping[str, str] = field(default_factory=dict)
    nothing: str = ""
    skips: str = ""
    in_utc: bool = False


def _access(name: str, pattern: str, **types: str) -> LogFormat:
    return LogFormat(name=name, pattern=pattern, family="access", types=_ACCESS | types, nothing="-")


def _java(name: str, pattern: str, **types: str) -> LogFormat:
    return LogFormat(name=name, pattern=pattern, family="log4j", types=types)


_KLOG = {"I": "INFO", "W": "WARNING", "E": "ERROR", "F": "FATAL"}

#: Of several formats that fit equally many lines the first is taken.
FORMATS = (
    _access("combined", rf"^{_CLIENT} {_REQUEST} {_AGENT}(?: (?P<more>.*))?$"),
    _access("vhost_combined", rf"^(?P<host>[^ ]+) {_CLIENT} {_REQUEST} {_AGENT}(?: (?P<more>.*))?$"),
    _access("common", rf"^{_CLIENT} {_REQUEST}$"),
    LogFormat(
        name="nginx_error",
        family="nginx",
        pattern=r"^(?P<time>[0-9]{4}/[0-9]{2}/[0-9]{2} [0-9:]{8}) \[(?P<level>[a-z]+)\] (?P<pid>[0-9]+)#(?P<tid>[0-9]+): "
        rf"(?:\*(?P<connection>[0-9]+) )?{_MESSAGE}",
        types=_PID | {"tid": "int64", "connection": "int64"},
    ),
    LogFormat(
        name="apache_error",
        pattern=r"^\[(?P<time>[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9]{2} [0-9:.]+ [0-9]{4})\] \[(?:(?P<logger>[a-z0-9_]*):)?"
        r"(?P<level>[a-z0-9]+)\](?: \[pid (?P<pid>[0-9]+)(?::tid (?P<tid>[0-9]+))?\])?(?: \[client (?P<client>[^\]]+)\])? "
        + _MESSAGE,
        types=_PID | {"tid": "int64"},
    ),
    LogFormat(
        name="haproxy",
        pattern=r"^(?:(?:<[0-9]{1,3}>)?(?:[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}|[0-9T:.Z+-]{20,35}) (?P<host>[^ ]+) )?"
        r"(?:(?P<logger>[^ \[]+)\[(?P<pid>[0-9]+)\]: )?"
        r"(?P<client>[^ ]+):(?P<port>[0-9]+) \[(?P<time>[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9:.]+)\] (?P<frontend>[^ ]+) "
        r"(?P<backend>[^ /]+)/(?P<server>[^ ]+) (?P<timers>[-+0-9/]+) (?P<status>[0-9-]+) (?P<bytes>\+?[0-9]+) "
        r"(?P<captured>[^ ]+ [^ ]+) (?P<termination>[^ ]+) (?P<connections>[0-9+/]+) (?P<queues>[0-9/]+) "
        r'(?P<headers>(?:\{[^}]*\} ?)*)"(?P<message>[^"]*)"(?P<more>.*)$',
        types=_PID | _ACCESS | {"port": "int64"},
    ),
    LogFormat(
        name="alb",
        family="aws",
        pattern=r"^(?P<type>[a-z0-9]+) (?P<time>[0-9-]{10}T[0-9:.]+Z) (?P<host>[^ ]+) (?P<client>[^ ]+) (?P<target>[^ ]+) "
        r"(?P<request_processing_time>[0-9.-]+) (?P<target_processing_time>[0-9.-]+) (?P<response_processing_time>[0-9.-]+) "
        r"(?P<status>[0-9]{3}|-) (?P<target_status>[0-9]{3}|-) (?P<received_bytes>[0-9]+) (?P<bytes>[0-9]+) "
        rf'"(?P<message>{_QUOTED})" "(?P<agent>{_QUOTED})" (?P<ssl_cipher>[^ ]+) (?P<ssl_protocol>[^ ]+) (?P<target_group>[^ ]+) '
        r'"(?P<trace_id>[^"]*)"(?: (?P<more>.*))?$',
        types=_ACCESS
        | {"target_status": "int64", "received_bytes": "int64"}
        | dict.fromkeys(("request_processing_time", "target_processing_time", "response_processing_time"), "double"),
        nothing="-",
    ),
    LogFormat(
        name="s3",
        family="aws",
        pattern=r"^(?P<owner>[^ ]+) (?P<bucket>[^ ]+) \[(?P<time>[^\]]+)\] (?P<client>[^ ]+) (?P<requester>[^ ]+) (?P<request_id>[^ ]+) "
        rf'(?P<operation>[A-Z0-9.]+[A-Za-z0-9._]*) (?P<key>[^ ]+) "?(?P<message>{_QUOTED}|-)"? (?P<status>[0-9]{{3}}|-) '
        r"(?P<error_code>[^ ]+) (?P<bytes>[0-9]+|-) (?P<object_size>[0-9]+|-) (?P<total_time>[0-9]+|-) (?P<turn_around_time>[0-9]+|-) "
        rf'"?(?P<referer>{_QUOTED}|-)"? "?(?P<agent>{_QUOTED}|-)"? (?P<version_id>[^ ]+)(?: (?P<more>.*))?$',
        types=_ACCESS | dict.fromkeys(("object_size", "total_time", "turn_around_time"), "int64"),
        nothing="-",
    ),
    LogFormat(
        name="syslog5424",
        family="syslog",
        pattern=r"^<(?P<priority>[0-9]{1,3})>[0-9]{1,2} (?P<time>[^ ]+) (?P<host>[^ ]+) (?P<logger>[^ ]+) (?P<pid>[^ ]+) (?P<msgid>[^ ]+) "
        r'(?P<data>-|(?:\[(?:[^\]"\\]|\\.|"(?:[^"\\]|\\.)*")*\])+)(?: \x{feff}?(?P<message>(?s:.*)))?$',
        types={"priority": "int64"},
        nothing="-",
    ),
    LogFormat(
        name="syslog3164",
        family="syslog",
        pattern=r"^(?:<(?P<priority>[0-9]{1,3})>)?(?P<time>[A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?) (?P<host>[^ ]+) "
        rf"(?:(?P<logger>[^:\[ ]+)(?:\[(?P<pid>[0-9]+)\])?: ?)?{_MESSAGE}",
        types=_PID | {"priority": "int64"},
    ),
    LogFormat(
        name="rsyslog",
        family="syslog",
        pattern=rf"^(?:<(?P<priority>[0-9]{{1,3}})>)?(?P<time>{_DATE}T{_CLOCK}(?:Z|[+-][0-9]{{2}}:?[0-9]{{2}})) (?P<host>[^ ]+) "
        rf"(?P<logger>[^:\[ ]+)(?:\[(?P<pid>[0-9]+)\])?: ?{_MESSAGE}",
        types=_PID | {"priority": "int64"},
    ),
    LogFormat(
        name="klog",
        pattern=rf"^(?P<level>[IWEF])(?P<time>[0-9]{{4}} {_CLOCK}) +(?P<pid>[0-9]+) (?P<logger>[^ \]]+)\] {_MESSAGE}",
        types=_PID,
        levels=_KLOG,
    ),
    LogFormat(
        name="cri",
        pattern=rf"^(?P<time>{_DATE}T{_CLOCK}(?:Z|[+-][0-9]{{2}}:[0-9]{{2}})) (?P<stream>stdout|stderr) (?P<tag>[FP])(?::[^ ]*)? ?{_MESSAGE}",
    ),
    LogFormat(
        name="postgres",
        pattern=rf"^(?P<time>{_DATE} {_CLOCK}(?: (?:UTC|GMT))?)(?: (?P<zone>[A-Za-z0-9/+-]+))? \[(?P<pid>[0-9]+)\](?::? \[[0-9-]+\])? ?(?:(?P<user>[^ @]*)@(?P<database>[^ ]*) )?"
        rf"(?P<level>DEBUG[1-5]?|INFO|NOTICE|WARNING|ERROR|LOG|FATAL|PANIC|DETAIL|HINT|STATEMENT|CONTEXT|QUERY):  {_MESSAGE}",
        types=_PID,
    ),
    _java(
        "spring",
        rf"^(?P<time>{_ISO}) +{_LEVEL} (?P<pid>[0-9]+) --- (?:\[[^\]]*\] )?\[ *(?P<thread>[^\]]*)\] (?:\[[^\]]*\] )?(?P<logger>[^ ]+) +: {_MESSAGE}",
        pid="int64",
    ),
    _java(
        "zookeeper",
        rf"^(?P<time>{_ISO}) (?:\[[^\]]*\] )?- {_LEVEL} +\[(?P<thread>.*?):(?P<logger>[\w.$]+)@(?P<line>[0-9]*)\] - {_MESSAGE}",
        line="int64",
    ),
    _java("hadoop", rf"^(?P<time>{_ISO}) +{_LEVEL} +\[(?P<thread>[^\]]*)\] +(?P<logger>[^ :]+) ?(?::| -) {_MESSAGE}"),
    _java("logback", rf"^(?P<time>(?:{_DATE}[T ])?{_CLOCK}) +\[(?P<thread>[^\]]+)\] +{_LEVEL} +(?P<logger>[^ ]+) - {_MESSAGE}"),
    _java("spark", rf"^(?P<time>[0-9]{{2}}/[0-9]{{2}}/[0-9]{{2}} {_CLOCK}) {_LEVEL} (?P<logger>[^ :]+): {_MESSAGE}"),
    _java("hdfs", rf"^(?P<time>[0-9]{{6}} [0-9]{{6}}) (?P<thread>[0-9]+) {_LEVEL} (?P<logger>[^ :]+): {_MESSAGE}"),
    _java(
        "tomcat",
        rf"^(?P<time>[0-9]{{2}}-[A-Z][a-z]{{2}}-[0-9]{{4}} {_CLOCK}) {_LEVEL} \[(?P<thread>[^\]]+)\] (?P<logger>[^ ]+) {_MESSAGE}",
    ),
    LogFormat(name="python_named", family="python", pattern=rf"^(?P<time>{_ISO}) - (?P<logger>[^ ]+) - {_LEVEL} - {_MESSAGE}"),
    LogFormat(name="python_plain", family="python", pattern=rf"^{_LEVEL}:(?P<logger>[^:\s]+):{_MESSAGE}"),
    LogFormat(
        name="python_level", family="python", pattern=rf"^\[?(?P<time>{_ISO})\]? +\[?{_LEVEL}\]? +(?P<logger>[^\s:]+): {_MESSAGE}"
    ),
    LogFormat(
        name="bluegene",
        pattern=r"^(?:(?P<label>[^ ]+) )?(?P<epoch>[0-9]{10}) [0-9.]{10} (?P<host>[^ ]+) (?P<time>[0-9-]{10}-[0-9.]+) (?P<node>[^ ]+) (?P<type>[A-Z]+) "
        rf"(?P<logger>[A-Z_]+) (?P<level>[A-Z]+) {_MESSAGE}",
        types={"epoch": "int64"},
    ),
    LogFormat(name="level", pattern=rf"^\[?(?P<time>{_ISO})\]?(?: -)?[ \t]+\[?{_LEVEL}\]?:?[ \t]+{_MESSAGE}"),
    LogFormat(name="w3c", family="iis", kind="w3c", nothing="-", skips="^#", in_utc=True),
    LogFormat(name="cloudfront", family="aws", kind="w3c", nothing="-", skips="^#", in_utc=True),
    LogFormat(name="journald", kind="journald", levels=dict(zip("01234567", SEVERITIES, strict=True)), types=_PID, skips=r"^\s*$"),
    LogFormat(
        name="journald_json", family="journald", kind="json", levels=dict(zip("01234567", SEVERITIES, strict=True)), types=_PID
    ),
    LogFormat(name="logfmt", kind="logfmt"),
    LogFormat(name="timed", pattern=rf"^(?P<message>\[?(?P<time>{_ISO})(?s:.*))$"),
    LogFormat(name="plain", pattern=rf"^{_MESSAGE}"),
)


def named(name: str) -> tuple[LogFormat, ...]:
    """Return the formats of a name: one, or those of a family; none where there is no such name.

    Examples
    --------
    >>> [item.name for item in named("syslog")]
    ['syslog5424', 'syslog3164', 'rsyslog']
    """
    exact = tuple(item for item in FORMATS if item.name == name)
    family = tuple(item for item in FORMATS if name in (item.family, item.name))
    return family if len(family) > 1 or not exact else exact


def names() -> list[str]:
    """Return all names of formats and families."""
    return sorted({item.name for item in FORMATS} | {item.family for item in FORMATS if item.family})
