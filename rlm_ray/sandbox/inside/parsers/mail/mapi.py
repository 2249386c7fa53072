"""Properties of MAPI ([MS-OXPROPS], [MS-OXCDATA]): what Outlook keeps of a mail, and the mail that they come to."""

from __future__ import annotations

import base64
import codecs
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import quote

Value = str | bytes | int
#: Properties of one object by their numbers.
Properties = Mapping[int, Value]

SUBJECT, BODY, HTML, RTF, HEADERS, MESSAGE_ID, REFERENCES, IN_REPLY_TO = (
    0x0037, 0x1000, 0x1013, 0x1009, 0x007D, 0x1035, 0x1039, 0x1042,
)  # fmt: skip
_SENDERS = ((0x0042, 0x5D02, 0x0064, 0x0065), (0x0C1A, 0x5D01, 0x0C1E, 0x0C1F))  # name, SMTP address, kind of address, address
_DATES = (0x0039, 0x0E06, 0x3007)
_TO, _CC = 0x0E04, 0x0E03
_CODE_PAGES = (0x3FDE, 0x3FFD)
#: Of recipients and attachments.
RECIPIENT_KIND, DISPLAY, SMTP, ADDRESS_KIND, ADDRESS = 0x0C15, 0x3001, 0x39FE, 0x3002, 0x3003
DATA, LONG_NAME, SHORT_NAME, MIME, METHOD = 0x3701, 0x3707, 0x3704, 0x370E, 0x3705

STRING8, UNICODE, BINARY, TIME, OBJECT = 0x001E, 0x001F, 0x0102, 0x0040, 0x000D
_INTEGERS = {0x0002: 2, 0x0003: 4, 0x000B: 2, 0x0014: 8, TIME: 8}
#: Headers that say how a body was encoded for the way; it is not any more.
_OF_BODIES = re.compile(r"^(?:content-[\w-]+|mime-version):[^\n]*(?:\n[ \t][^\n]*)*\n?", re.IGNORECASE | re.MULTILINE)
#: A header that says why a text was not read; no sender knows its name.
NOT_READ = f"X-Not-Read-{secrets.token_hex(8)}"
_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
_TYPE = re.compile(r"[\w!#$&^.+-]{1,64}/[\w!#$&^.+-]{1,64}")


@dataclass
class Attached:
    """What is attached to a mail."""

    name: str
    kind: str
    data: bytes


@dataclass
class Outlook:
    """A mail as Outlook keeps it: its properties, those of its recipients, and what is attached."""

    properties: Properties
    recipients: list[Properties] = field(default_factory=list)
    attached: list[Attached] = field(default_factory=list)


def value(kind: int, data: bytes, code_page: str = "cp1252") -> Value:
    """Return a property's value by its type."""
    if kind == UNICODE:
        return data[: len(data) // 2 * 2].decode("utf-16-le", "replace").rstrip("\0")
    if kind == STRING8:
        return data.decode(code_page, "replace").rstrip("\0")
    if kind in _INTEGERS:
        return int.from_bytes(data[: _INTEGERS[kind]], "little")
    return data


def code_page(properties: Properties) -> str:
    """Return the encoding of texts of eight bits."""
    for number in _CODE_PAGES:
        found = properties.get(number)
        page = found if isinstance(found, int) else 0
        name = {65001: "utf-8", 20127: "ascii", 28591: "latin-1", 20866: "koi8-r"}.get(page, f"cp{page}")
        try:
            return codecs.lookup(name).name
        except LookupError:
            continue
    return "cp1252"


def text(properties: Properties, number: int) -> str:
    """Return a property as text; nothing where there is none."""
    found = properties.get(number, "")
    return found if isinstance(found, str) else found.decode(code_page(properties), "replace") if isinstance(found, bytes) else ""


def body(properties: Properties) -> tuple[str, str]:
    """Return the kind of a mail's text and the text: plain where it is there, else HTML, else what its RTF says.

    Raises
    ------
    ValueError
        It has only RTF, and that cannot be read.
    """
    plain, html = text(properties, BODY), text(properties, HTML)
    if plain.strip() or html.strip():
        return ("text/plain", plain) if plain.strip() else ("text/html", html)
    rtf = properties.get(RTF)
    return "text/plain", rich_text(rtf) if isinstance(rtf, bytes) and rtf else ""


def rich_text(data: bytes) -> str:
    """Return the text of compressed RTF ([MS-OXRTFCP])."""
    try:
        import compressed_rtf
    except ImportError as error:
        raise ValueError(f"{error}: its text is RTF, which needs the extra mail: pip install 'rlm-ray[mail]'") from None
    from rlm_ray.sandbox.inside.parsers import rtf

    try:
        unpacked = compressed_rtf.decompress(data)
    except Exception as error:  # noqa: BLE001 - whatever it says of hostile bytes
        raise ValueError(f"its text is damaged RTF: {' '.join(str(error).split())[:100]}") from None
    return "\n".join(rtf.read(unpacked))


def message(mail: Outlook) -> bytes:
    """Return the mail in the form in which it is sent (RFC 5322), so that it is read as others are."""
    notes = []
    try:
        kind, content = body(mail.properties)
    except ValueError as error:
        kind, content = "text/plain", ""
        notes.append(f"{NOT_READ}: {_line(str(error))}")
    mark = f"=_{secrets.token_hex(20)}"
    lines = [*_headers(mail), *notes, f'Content-Type: multipart/mixed; boundary="{mark}"', "", f"--{mark}"]
    parts = [("\r\n".join(lines)).encode("utf-8", "replace")]
    parts.append(_part(f"{kind}; charset=utf-8", [], content.encode("utf-8", "replace")))
    for item in mail.attached:
        name = f"Content-Disposition: attachment; filename*=utf-8''{quote(item.name.encode('utf-8', 'replace'), safe='')}"
        kind = item.kind if _TYPE.fullmatch(item.kind) else "application/octet-stream"
        # an entity in itself, as of a mail with a signature
        kind = "message/rfc822" if kind.lower().startswith("multipart/") else kind
        parts += [f"\r\n--{mark}".encode(), _part(kind, [name], item.data)]
    return b"".join([*parts, f"\r\n--{mark}--\r\n".encode()])


def as_text(mail: Outlook) -> str:
    """Return the mail's headers and its text, with the names of what is attached."""
    try:
        content = body(mail.properties)[1]
    except ValueError as error:
        content = f"({error})"
    names = [f"Attached: {item.name}" for item in mail.attached]
    return "\n".join([*_headers(mail), *names, "", content])


def _part(kind: str, headers: list[str], data: bytes) -> bytes:
    head = "\r\n".join(["", f"Content-Type: {kind}", *headers, "Content-Transfer-Encoding: base64", "", ""])
    return head.encode() + base64.encodebytes(data)


def _headers(mail: Outlook) -> list[str]:
    """The headers that the mail came with; of one that was never sent, what its properties say."""
    given = _OF_BODIES.sub("", text(mail.properties, HEADERS).replace("\r\n", "\n").strip("\n") + "\n").strip("\n")
    names = {line.partition(":")[0].lower() for line in given.split("\n") if ":" in line}
    made = {
        "From": _sender(mail.properties),
        "To": _recipients(mail, 1) or text(mail.properties, _TO),
        "Cc": _recipients(mail, 2) or text(mail.properties, _CC),
        "Date": _date(mail.properties),
        "Subject": text(mail.properties, SUBJECT),
        "Message-ID": text(mail.properties, MESSAGE_ID),
        "In-Reply-To": text(mail.properties, IN_REPLY_TO),
        "References": text(mail.properties, REFERENCES),
    }
    lines = [f"{name}: {_line(found)}" for name, found in made.items() if found and name.lower() not in names]
    return [*(line for line in given.split("\n") if line.strip()), *lines]


def _line(value: str) -> str:
    return " ".join(value.split())


def _sender(properties: Properties) -> str:
    for name, smtp, kind, address in _SENDERS:
        where = text(properties, smtp) or (text(properties, address) if text(properties, kind).upper() == "SMTP" else "")
        if where or text(properties, name):
            return _address(text(properties, name), where)
    return ""


def _recipients(mail: Outlook, kind: int) -> str:
    found = []
    for item in mail.recipients:
        if item.get(RECIPIENT_KIND) == kind:
            where = text(item, SMTP) or (text(item, ADDRESS) if text(item, ADDRESS_KIND).upper() == "SMTP" else "")
            found.append(_address(text(item, DISPLAY), where))
    return ", ".join(found)


def _address(name: str, where: str) -> str:
    name = _line(name).replace("\\", "\\\\").replace('"', '\\"')
    if not where or name in (where, f"'{where}'"):
        return where or name
    return f'"{name}" <{where}>' if name else where


def _date(properties: Properties) -> str:
    for number in _DATES:
        found = properties.get(number)
        if isinstance(found, int) and 0 < found < 1 << 62:
            try:
                return format_datetime(_EPOCH + timedelta(microseconds=found // 10))
            except OverflowError:
                continue
    return ""
