"""Reduces a log line to its form: masks the parts that vary, and keeps the words that can decide about trouble.

Imports the standard library only, since programs use it inside the sandbox.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]

#: Columns of structured logs whose values decide as words of a line do.
DECIDING_COLUMNS = frozenset(
    [
        "level",
        "severity",
        "lvl",
        "loglevel",
        "log_level",
        "levelname",
        "severity_text",
        "severitytext",
        "priority",
        "status",
        "status_code",
        "statuscode",
        "http_status",
        "sc-status",
        "response_code",
        "code",
        "exit_code",
        "exitcode",
        "exit_status",
        "rc",
        "errno",
        "result",
        "outcome",
        "state",
        "event_id",
        "eventid",
        "success",
    ]
)
_METHODS = "GET|HEAD|POST|PUT|DELETE|PATCH|OPTIONS|CONNECT|TRACE"
_KEYS = (
    r"(?:(?:http|exit|return|response|error|status|result|grpc|sc)[ _.-]?)?(?:status|code)|rc|ret|retval|exit(?:ed)?|returned|returns|"
    r"errno|signal|sig|responded|answered|HRESULT|SQLSTATE|completed|event[ _]?id|error|err|win32[ _-]?status"
)
_BAD = r"(?:fail\w*|errors?|lost|loss|corrupt\w*|dropped|denied|refused|reject\w*|timeouts?|damaged|missing|skipped|killed|dead|unavailable)"
_COUNTED = r"(?:errors|failures|losses|timeouts|mismatches|warnings|alerts|violations|rejects|drops|retries|conflicts)"
_MONTHS = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_VARYING = re.compile(
    r"(?P<deciding>"
    rf"(?i:\b(?:{_KEYS})\b[\"']?(?: ?[=:] ?|[ (\[]{{1,2}})(?:(?:with|was|is|of|code|status)[ =:]+)*[\"']?(?:0x[0-9a-f]+|-?\d{{1,5}})\b(?![.:]\d))"
    r"|(?<=[\"'] )[1-5]\d\d(?= |$)"  # behind a request in quotes
    rf"|\b(?:{_METHODS}) \S+ (?:HTTP/[\d.]+ )?[1-5]\d\d\b"
    r"|(?<=\d )[1-5]\d\d(?= \d+ \S+ \S+ [\w-]{4} )"  # HAProxy
    r"|(?<= )[1-5]\d\d \d{1,3} \d{1,10}(?= \d+$| \d+ \d+ \d+$)"  # IIS: status, its part, that of Windows
    r"|\b[A-Z][A-Z_]+/[1-5]\d\d\b"  # Squid
    r"|\| *[1-5]\d\d *\|"
    r"|\b(?:ORA|TNS|PLS|CVE|SQLSTATE|KB|MSB|CS|EventID)[-: \[]?\d[\d-]*\b"
    rf"|(?i:\b{_BAD}\b[=: ]{{1,2}}0\b(?!\.)|(?<![\w.])0 (?:\w+ )?{_COUNTED}\b)"
    r"|\b100 ?%"
    r"|^<\d{1,3}>(?=\S)"
    r"|(?<!\w)[IWEF](?=[01]\d[0-3]\d \d\d:)"  # klog
    r")"
    rf"|(?P<date>\b(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? )?(?:{_MONTHS} {{1,2}}\d\d?|\d\d? {_MONTHS} \d{{4}})\b(?![.:]))"
    r"|(?P<path>(?<![\w/])(?:/[\w.+@%-]+)+/?)|(?P<name>[^\s=:\"'(\[|,;{}<\d]{0,128}+\d[^\s=,\"')\]|;{}>]*)"
)
_STEMS = [
    "accept",
    "achiev",
    "abort",
    "abandon",
    "activ",
    "allow",
    "approv",
    "authenticat",
    "authoriz",
    "avail",
    "bad",
    "block",
    "breach",
    "broke",
    "brok",
    "cancel",
    "compromis",
    "complet",
    "confirm",
    "connect",
    "corrupt",
    "crash",
    "damag",
    "dead",
    "deadlock",
    "declin",
    "degrad",
    "delay",
    "deliver",
    "den[iy]",
    "deploy",
    "detect",
    "disabl",
    "disconnect",
    "discard",
    "drop",
    "enabl",
    "error",
    "evict",
    "exceed",
    "exhaust",
    "expir",
    "expos",
    "fail",
    "fatal",
    "fault",
    "forbid",
    "full",
    "grant",
    "halt",
    "healthy",
    "hang",
    "hung",
    "ignor",
    "infect",
    "inject",
    "interrupt",
    "intrus",
    "invalid",
    "kill",
    "late",
    "leak",
    "lock",
    "lose",
    "loss",
    "lost",
    "malicious",
    "malware",
    "match",
    "mismatch",
    "miss",
    "normal",
    "offline",
    "online",
    "open",
    "overflow",
    "overheat",
    "panic",
    "paus",
    "permit",
    "quarantin",
    "refus",
    "reject",
    "reachab",
    "recover",
    "releas",
    "reset",
    "resolv",
    "restart",
    "restor",
    "resum",
    "retr[iy]",
    "revok",
    "rollback",
    "roll(?:ed)?[ -]?back",
    "sever",
    "shut",
    "skip",
    "slow",
    "stale",
    "start",
    "stop",
    "stuck",
    "succe[es]",
    "suspend",
    "terminat",
    "throttl",
    "tim(?:e|ed|es|ing)[ -]?out",
    "tamper",
    "timeout",
    "true",
    "false",
    "unabl",
    "unauthoriz",
    "unavail",
    "unexpect",
    "unhealth",
    "unlock",
    "unreach",
    "unresponsive",
    "unsafe",
    "unsuccess",
    "valid",
    "verif",
    "violat",
    "warn",
    "critical",
    "severe",
    "emerg",
    "alert",
    "notice",
    "info",
    "debug",
    "trace",
    "clos",
    "duplicat",
    "twice",
    "orphan",
    "partial",
    "outage",
    "charg",
    "refund",
    "overdraw",
    "fraud",
    "steal",
    "stolen",
    "delet",
    "encrypt",
    "decrypt",
    "ransom",
    "escalat",
    "hijack",
    "spoof",
    "attack",
]
_WORDS = [
    "ok",
    "okay",
    "oom",
    "dies",
    "died",
    "pass",
    "passed",
    "passes",
    "up",
    "down",
    "on",
    "off",
    "yes",
    "no",
    "not",
    "never",
    "without",
    "cannot",
    "none",
    "lag",
    "nak",
    "ack",
    "bad",
    "good",
    "high",
    "low",
]
_WORD = re.compile(
    r"(?i)(?<![a-z])(?:un|in|dis|non-?|re|ab)?(?:"
    + "|".join(_STEMS)
    + r")[a-z]*(?![a-z])|(?<![a-z])(?:"
    + "|".join(_WORDS)
    + r"|[a-z]+n't)(?![a-z])"
)
#: Begins where a word does: else a long word would be searched from each of its letters.
_NUMBERS = re.compile(r"(?<![\w\"'|/])[\w\"'|/]*[=: (|\[]{0,8}\b\d+\b\|?")
_KLOG = re.compile(r"(?<!\w)[IWEF](?=<n> <n> )")
_ANDROID = re.compile(r"^\S+ \S+ +\S+ +\S+ ([VDIWEF]) ")
_MOST = 24
#: Characters of a line that are looked at; and most that a model reads of one, from its beginning, its end, and around what decides.
LOOKED_AT, SHOWN = 256 << 10, 8_000
_BEGINNING, _END, _AROUND = 3_000, 2_000, 150


def text_of(record: Record, column: str) -> str | None:
    """Return what a record says: its message, an object or bytes as text; else all of its columns; None where it is empty."""
    value = record.get(column)
    if value is None and isinstance(more := record.get("_more"), dict | str):  # a value of another type than the column's
        value = _member(more, column)
    if isinstance(value, list) and value and all(isinstance(item, int) and 0 <= item < 256 for item in value):
        value = bytes(value).decode("utf-8", "replace")  # journald's export of a message that is no UTF-8
    if value is None or value in ("", [], {}):
        rest = {
            name: item
            for name, item in record.items()
            if item not in (None, "", [], {}) and name not in ("_address", "_pos", column)
        }
        if not rest or (column in ("text", "raw") and len(record) <= 2):
            return None
        return json.dumps(rest, ensure_ascii=False, default=str)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if text.strip() else None


def _member(more: Record | str, column: str) -> Any:
    try:
        members = json.loads(more) if isinstance(more, str) else more
    except ValueError:
        return None
    return members.get(column) if isinstance(members, dict) else None


def excerpt(text: str, most: int = SHOWN) -> str:
    """Return what a model reads of a line: all of it, or of a long one its beginning, what stands around its words of state, and its end.

    Examples
    --------
    >>> shown = excerpt("a" * 5000 + " disk failed " + "b" * 5000)
    >>> "disk failed" in shown, len(shown) < 6000
    (True, True)
    """
    if len(text) <= most:
        return text
    middle = text[_BEGINNING : len(text) - _END]
    room = most - _BEGINNING - _END
    spans: list[list[int]] = []
    seen: set[str] = set()
    for match in _WORD.finditer(middle[:LOOKED_AT]):
        word = match[0].lower()
        start, stop = max(0, match.start() - _AROUND), min(len(middle), match.end() + _AROUND)
        if spans and start <= spans[-1][1]:
            extra = stop - spans[-1][1]
            if extra <= room:
                spans[-1][1], room = stop, room - extra
                seen.add(word)
        elif word not in seen and stop - start <= room:
            spans.append([start, stop])
            room -= stop - start
            seen.add(word)
    parts = [text[:_BEGINNING], *(middle[start:stop] for start, stop in spans), text[len(text) - _END :]]
    return " … ".join(parts)


def beside(record: Record, column: str) -> Record:
    """Return the columns beside the message that decide: level, status, exit code."""
    return {
        name: value
        for name, value in record.items()
        if name != column and name.lower() in DECIDING_COLUMNS and value is not None and len(str(value)) <= 40
    }


def masked(text: str) -> str:
    """Return a line with numbers, names that have digits, and paths masked; statuses and exit codes stay.

    Examples
    --------
    >>> masked("worker 7 finished /a/b rc=137 in 12 ms")
    'worker <n> finished <path> rc=137 in <n> ms'
    """
    return _VARYING.sub(_mask, text)


def _mask(match: re.Match[str]) -> str:
    if match["deciding"] is not None:
        text = match["deciding"]
        if (request := re.match(rf"({_METHODS}) \S+ (?:HTTP/[\d.]+ )?(\d+)", text)) is not None:
            return f"{request[1]} <path> {request[2]}"
        if text.startswith("<"):
            return f"<severity {int(text[1:-1]) % 8}>"
        return text
    return "<path>" if match["path"] is not None else "<n>"


def deciding(masked_text: str) -> str:
    """Return what of a masked line can decide, in order: levels, words of state, statuses. Lines that differ in it are never one form.

    Examples
    --------
    >>> deciding("backup <n> failed rc=137") != deciding("backup <n> completed rc=137")
    True
    """
    found = [match[0].lower() for match in _WORD.finditer(masked_text)]
    found += _NUMBERS.findall(masked_text)
    found += _KLOG.findall(masked_text)
    if (match := _ANDROID.match(masked_text)) is not None:
        found.append(match[1])
    return " ".join(found[:_MOST] if len(found) <= _MOST else sorted(set(found))[: 4 * _MOST])
