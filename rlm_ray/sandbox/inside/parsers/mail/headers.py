"""Header fields of a message (RFC 5322, RFC 2047), as they are and where they are wrong."""

from __future__ import annotations

import binascii
import codecs
import datetime
import re
from collections.abc import Mapping
from email.message import Message
from email.utils import collapse_rfc2231_value, parsedate_to_datetime
from functools import lru_cache

#: Bytes of headers that are looked at.
MAX_HEADERS = 256 << 10
_LINE = re.compile(rb"([!-9;-~]+)[ \t]*:(.*)", re.DOTALL)
_FOLD = re.compile(r"\r?\n(?=[ \t])")
_WORD = re.compile(r"=\?([^?\s]{1,80})\?([bBqQ])\?([^?]*)\?=")
_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*("[^"]*"|[^;\s]*)')
_ID = re.compile(r"<([^<>\s]{1,998})>")
_REPLY = re.compile(r"^\s*(?:(?:re|aw|antw|sv|vs|fwd?|wg|tr|rv|ref)(?:\[\d+\])?\s*:\s*)+", re.IGNORECASE)
_EPOCH, _MICROSECOND = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC), datetime.timedelta(microseconds=1)
#: Names of encodings that mails have, and what Python calls them.
_ALIASES = {
    "x-unknown": "latin-1",
    "unknown-8bit": "latin-1",
    "unknown": "latin-1",
    "iso-8859-1": "cp1252",
    "latin-1": "cp1252",
    "latin1": "cp1252",
    "us-ascii": "ascii",
    "ks_c_5601-1987": "cp949",
    "gb2312": "gb18030",
    "x-gbk": "gb18030",
    "iso-8859-8-i": "iso-8859-8",
    "utf8": "utf-8",
    "x-sjis": "cp932",
    "shift_jis": "cp932",
}


class Fields:
    """The header fields of a message, the first of each name first."""

    def __init__(self, block: bytes) -> None:
        self.is_cut = len(block) > MAX_HEADERS
        self._values: dict[str, list[bytes]] = {}
        name = ""
        for line in block[:MAX_HEADERS].split(b"\n"):
            if line[:1] in (b" ", b"\t") and name:
                self._values[name][-1] += b"\n" + line
                continue
            match = _LINE.match(line)
            name = match[1].decode("ascii").lower() if match else ""
            if match:
                self._values.setdefault(name, []).append(match[2])

    def __len__(self) -> int:
        return len(self._values)

    def raw(self, name: str) -> str:
        """Return the first field of a name, unfolded and not decoded; empty where there is none."""
        values = self._values.get(name)
        if not values:
            return ""
        text = as_text(values[0])
        return (_FOLD.sub("", text) if "\n" in text else text).strip()

    def text(self, name: str) -> str:
        """Return the first field of a name, decoded."""
        return decoded(self.raw(name))

    def all_texts(self, name: str) -> str:
        """Return all fields of a name, decoded, with a comma between them."""
        return ", ".join(decoded(_FOLD.sub("", as_text(value)).strip()) for value in self._values.get(name, ()))


def as_text(data: bytes) -> str:
    """Return bytes of a header as text: UTF-8, or else Latin-1."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def decoded(text: str) -> str:
    """Return a header's text with its encoded words decoded (RFC 2047); blanks between two of them are none.

    Examples
    --------
    >>> decoded("=?utf-8?q?Gr=C3=BC=C3=9Fe?= =?UTF-8?B?IQ==?= x"), decoded("=?no-such?q?a=E4?=")
    ('Grüße! x', 'aä')
    """
    if "=?" not in text:
        return " ".join(text.split()) if "\t" in text or "\n" in text else text
    out: list[str] = []
    held, charset, at = b"", "", 0
    for match in _WORD.finditer(text):
        between = text[at : match.start()]
        name = match[1].partition("*")[0].lower()
        if held and (between.strip() or name != charset):
            out.append(decode(held, charset)[0])
            held = b""
        if between.strip() or (not charset and between):
            out.append(between)
        held, charset, at = held + _bytes_of(match[2], match[3]), name, match.end()
    out += [decode(held, charset)[0], text[at:]]
    return " ".join("".join(out).split())


def _bytes_of(kind: str, text: str) -> bytes:
    data = text.encode("latin-1", "replace")
    if kind in "qQ":
        return binascii.a2b_qp(data, header=True)
    return base64_bytes(data)


def base64_bytes(data: bytes) -> bytes:
    """Return what base64 encodes, as far as it goes: letters that are none are left out, padding is added."""
    try:
        return binascii.a2b_base64(data)
    except binascii.Error:
        letters = re.sub(rb"[^A-Za-z0-9+/]", b"", data)
        letters = letters[: len(letters) - (len(letters) % 4 == 1)]
        return binascii.a2b_base64(letters + b"=" * (-len(letters) % 4))


@lru_cache(maxsize=200)
def codec_of(charset: str) -> str | None:
    """Return what Python calls an encoding; None where it has none of that name."""
    name = charset.strip().strip("\"'").lower()
    try:
        found = codecs.lookup(_ALIASES.get(name, name))
        return found.name if found._is_text_encoding else None
    except (LookupError, UnicodeError, ValueError):
        return None


def decode(data: bytes, charset: str) -> tuple[str, str]:
    """Return text in an encoding, and what is wrong with that; bytes that are none become U+FFFD.

    Without an encoding, or as ASCII that is none, it is UTF-8 where that fits and else Latin-1, as most programs have it.
    """
    codec = codec_of(charset) if charset else "ascii"
    problem = "" if codec else f"charset {charset[:60]!r} is not known"
    if codec is None or codec == "ascii":
        try:
            return data.decode("utf-8"), problem
        except UnicodeDecodeError:
            return data.decode("cp1252", "replace"), problem
    return data.decode(codec, "replace"), problem


@lru_cache(maxsize=4_096)
def parameters(raw: str) -> Mapping[str, str]:
    """Return the parameters of a field such as Content-Type, decoded (RFC 2231, and RFC 2047 as many programs write it).

    Examples
    --------
    >>> dict(parameters("text/plain; charset=utf-8; NAME*=utf-8''%C3%BC.txt"))
    {'charset': 'utf-8', 'name': 'ü.txt'}
    """
    if "*" not in raw and "\\" not in raw and "(" not in raw:
        found = {name.lower(): decoded(value.strip('"')).strip() for name, value in reversed(_PARAMETER.findall(raw))}
        return dict(reversed(found.items()))
    message = Message()
    message["content-type"] = raw.replace("\r", " ").replace("\n", " ")
    found = {}
    try:
        for name, value in (message.get_params() or [])[1:]:
            found.setdefault(name.lower(), decoded(str(collapse_rfc2231_value(value))).strip())
    except (ValueError, LookupError, TypeError, AttributeError):
        return found
    return found


def moment(raw: str) -> int | None:
    """Return a date as microseconds since 1970, UTC; None where it is none, or of no known zone.

    Examples
    --------
    >>> moment("Mon, 30 Nov 2026 10:00:00 +0100"), moment("30 Nov 2026 10:00 CET")
    (1796029200000000, None)
    """
    try:
        found = parsedate_to_datetime(raw)
        if found.tzinfo is None:
            if "-0000" not in raw:
                return None
            found = found.replace(tzinfo=datetime.UTC)
        return (found - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


def identifiers(raw: str) -> list[str]:
    """Return the message ids of a field, without their brackets; of a field without brackets its words."""
    return _ID.findall(raw) or [word for word in raw.split() if "@" in word]


def base_subject(subject: str) -> str:
    """Return a subject without what replies put before it.

    Examples
    --------
    >>> base_subject("Re: AW: Fwd[2]: Offer")
    'Offer'
    """
    return _REPLY.sub("", subject).strip()
