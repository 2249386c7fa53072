"""The host that a log line names, where its format has a place for one.

Imports the standard library only, since programs use it inside the sandbox.
"""

from __future__ import annotations

import re
from typing import Any

_ISO = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?"
_TAG = r"[\w./()@-]+(?:\[[\w.-]+\])?:(?= |$)"
_NAME = r"(?P<host>[A-Za-z0-9][\w.:-]*)"
_ANY_NAME = tuple(
    re.compile(pattern)
    for pattern in (
        rf"^<\d{{1,3}}>\d (?:{_ISO}|-) {_NAME} \S+ \S+ \S+ ",  # RFC 5424
        rf"^(?:<\d{{1,3}}>)?[A-Z][a-z]{{2}} [ \d]?\d \d\d:\d\d:\d\d(?:\.\d+)? {_NAME} (?!(?i:{'trace|debug|info|warn|error|fatal'})\b)",
        rf"^(?:<\d{{1,3}}>)?\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d) {_NAME} {_TAG}",  # rsyslog, journald
        rf"^(?:\S+ )?\d{{10}} \d{{4}}\.\d\d\.\d\d {_NAME} ",  # Blue Gene, Thunderbird
        rf"^\d+ {_NAME} \S+ \S+ \d{{10}} \d ",  # HPC
        r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (?:W3SVC\d+ (?P<host>[\w-]+) )\d+\.\d+\.\d+\.\d+ [A-Z]+ /",  # IIS, computer's name
        r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (?P<host>\d+\.\d+\.\d+\.\d+) [A-Z]+ /",  # IIS, server's address
    )
)
#: Behind a bare time many formats have a thread or a logger: only a name with a number, as hosts have, is one.
_NUMBERED = re.compile(rf"^{_ISO} (?P<host>[a-z][a-z-]*\d+(?:[.-][a-z][a-z0-9-]*)*) (?!(?i:trace|debug|info|warn|error|fatal)\b)")
_NO_HOST = re.compile(
    r"(?i)^(?:std(?:err|out|in)|main|root|null|none|unknown\w*|kernel|system|last|message|\d+|"
    r"(?:trace|debug|info|information|notice|warn|warning|err|error|crit|critical|alert|emerg|fatal|severe|panic|verbose|fine|finer|finest)\d*|"
    r"(?:pid|tid|proc|process)[-:]?\d*|[\d:.,-]*:[\d:.,-]*)$"
)
_THREAD = re.compile(
    r"(?i)(?:thread|exec(?:utor)?|pool|worker|(?<![a-z])(?:task|job|nio|io|reactor|loop|timer|scheduler|scheduling|dispatcher|consumer|"
    r"producer|listener|acceptor|handler|fiber|coroutine|qtp|async|netty|grpc|akka|goroutine|client|conn|connection|session|req|"
    r"request|tx|txn|step|stage|phase|run|batch|shard|partition|volume|disk|attempt|retry|test|v))[-_\d.]*(?:$|[-_.\d])"
)


def is_host(name: str) -> bool:
    """Return whether a word can be a host's name: no stream, level, thread, number of a process.

    Examples
    --------
    >>> [is_host(name) for name in ("web1", "stderr", "pool-1-thread-2", "INFO", "4711", "db.example.com")]
    [True, False, False, False, False, True]
    """
    return _NO_HOST.match(name) is None and not re.search(r"(?i)thread|[-_]exec[-_]?\d|[-_]pool[-_]?\d", name)


def find(line: str) -> str | None:
    """Return the host of a line.

    Examples
    --------
    >>> find("Dec 10 06:55:46 LabSZ sshd[1]: refused")
    'LabSZ'
    >>> find("2024-01-05T10:00:00.1Z stderr F payment refused by bank")
    """
    line = line[:400]
    for pattern in _ANY_NAME:
        if (match := pattern.match(line)) is not None:
            return match["host"] if is_host(match["host"]) else None
    match = _NUMBERED.match(line)
    if match is None or not is_host(match["host"]) or _THREAD.match(match["host"]):
        return None
    return match["host"]


def of_value(value: Any) -> str | None:
    """Return the host that a column of hosts holds: a name, or an object that has one."""
    if isinstance(value, dict):
        value = next((value[name] for name in ("name", "hostname", "host") if isinstance(value.get(name), str)), None)
    return None if value is None or value == "" else str(value)
