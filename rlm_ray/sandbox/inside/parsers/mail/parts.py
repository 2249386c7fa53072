"""The parts of a message with the bytes at which they stand (RFC 2046)."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from rlm_ray.sandbox.inside.parsers.mail.headers import Fields, base64_bytes, parameters

#: How deep parts may lie in each other, and how many one message may have.
MAX_DEPTH, MAX_PARTS = 50, 5_000
_BLANK = re.compile(rb"\r?\n\r?\n")
_USUAL = frozenset(("text/plain", "text/html", "multipart/mixed", "multipart/alternative", "multipart/related"))
_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+")


@dataclass
class Part:
    """A part of a message, or a message.

    Attributes
    ----------
    path : str
        Numbers of the parts on the way to it, `1.2`; empty for the message.
    start, body, stop : int
        Where its headers begin, where its body begins, and its end.
    parts : list of Part
        What it holds: parts of a multipart, the message of a message/rfc822.
    note : str
        What is wrong with it.
    """

    path: str
    start: int
    body: int
    stop: int
    fields: Fields
    kind: str
    content: Mapping[str, str]
    parts: list[Part] = field(default_factory=list)
    note: str = ""

    @property
    def name(self) -> str:
        """Its file name; empty where it has none."""
        disposition = parameters(self.fields.raw("content-disposition"))
        return disposition.get("filename") or self.content.get("name", "")

    @property
    def disposition(self) -> str:
        """Its disposition, in small letters: "attachment", "inline" or nothing."""
        return self.fields.raw("content-disposition").partition(";")[0].strip().lower()

    @property
    def charset(self) -> str:
        """The charset of a text; empty where it has none."""
        return self.content.get("charset", "")

    def payload(self, data: bytes) -> bytes:
        """Return its bytes as they were before they were encoded for the way."""
        return decoded_bytes(data[self.body : self.stop], self.fields.raw("content-transfer-encoding"))

    def leaves(self) -> Iterator[Part]:
        """Yield the parts that hold no others, and messages, in order."""
        for part in self.parts:
            if part.kind.startswith("multipart/") and part.parts:
                yield from part.leaves()
            else:
                yield part


def parsed(data: bytes, start: int, stop: int) -> Part:
    """Return a message and what it holds."""
    return _part(data, start, stop, "", 0, [MAX_PARTS], "text/plain")


def _part(data: bytes, start: int, stop: int, path: str, depth: int, left: list[int], default: str) -> Part:
    head_end, body = _head_of(data, start, stop)
    fields = Fields(data[start:head_end])
    raw = fields.raw("content-type")
    content = parameters(raw)
    kind = raw.partition(";")[0].strip().lower() if raw else default
    if kind not in _USUAL and not _TYPE.fullmatch(kind):
        kind = "text/plain" if not kind or kind == "text" else "application/octet-stream"
    part = Part(path, start, min(body, stop), stop, fields, kind, content)
    left[0] -= 1
    if depth >= MAX_DEPTH or left[0] <= 0:
        too_deep, too_many = f"its parts lie more than {MAX_DEPTH} deep in each other", f"it has more than {MAX_PARTS:,} parts"
        part.note = too_deep if left[0] > 0 else too_many
        part.kind = "application/octet-stream"
        return part
    if kind.startswith("multipart/"):
        _add_parts(part, data, depth, left)
    elif kind == "message/rfc822" and depth < MAX_DEPTH:
        encoding = fields.raw("content-transfer-encoding").lower()
        if encoding in ("", "7bit", "8bit", "binary"):
            part.parts = [_part(data, part.body, stop, _below(path, 1), depth + 1, left, "text/plain")]
    return part


def _head_of(data: bytes, start: int, stop: int) -> tuple[int, int]:
    """Return the end of a part's headers, and where its body begins, behind an empty line."""
    for empty in (b"\n", b"\r\n"):
        if data.startswith(empty, start):
            return start, start + len(empty)
    blank = _BLANK.search(data, start, stop)
    return (stop, stop) if blank is None else (blank.start() + 1, blank.end())


def _add_parts(part: Part, data: bytes, depth: int, left: list[int]) -> None:
    boundary = part.content.get("boundary", "").encode("utf-8", "replace")
    default = "message/rfc822" if part.kind == "multipart/digest" else "text/plain"
    begin = -1

    def add(stop: int) -> None:
        if begin >= 0 and left[0] > 0:
            path = _below(part.path, len(part.parts) + 1)
            part.parts.append(_part(data, begin, stop, path, depth + 1, left, default))

    for start, behind, is_last in _marks(data, boundary, part.body, part.stop):
        add(_before(data, begin, start))
        begin = -1 if is_last else behind
        if is_last:
            return
    add(part.stop)
    if begin >= 0:
        part.note = "its last part has no end"
    if not part.parts:
        part.note, part.kind = "its boundary is missing", "text/plain"


def _marks(data: bytes, boundary: bytes, start: int, stop: int) -> Iterator[tuple[int, int, bool]]:
    """Yield the lines that a boundary is: where each begins and ends, and whether it is the last."""
    mark, at = b"--" + boundary, start
    while boundary and (at := data.find(mark, at, stop)) >= 0:
        end = data.find(b"\n", at, stop)
        end = stop if end < 0 else end + 1
        rest = data[at + len(mark) : end].strip()
        if rest in (b"", b"--") and (at == start or data[at - 1 : at] == b"\n"):
            yield at, end, rest == b"--"
            at = end
        else:
            at += len(mark)


def _before(data: bytes, begin: int, stop: int) -> int:
    """Return the end of a part: the line break before a boundary belongs to that."""
    if stop > begin and data[stop - 1 : stop] == b"\n":
        stop -= 1
        stop -= stop > begin and data[stop - 1 : stop] == b"\r"
    return stop


def _below(path: str, number: int) -> str:
    return f"{path}.{number}" if path else str(number)


def decoded_bytes(data: bytes, encoding: str) -> bytes:
    """Return bytes as they were before a transfer encoding."""
    kind = encoding.partition(";")[0].strip().lower()
    if kind == "base64":
        return base64_bytes(data)
    if kind == "quoted-printable":
        return binascii.a2b_qp(data)
    if kind in ("x-uuencode", "uuencode", "uue", "x-uue"):
        return _uudecoded(data)
    return data


def _uudecoded(data: bytes) -> bytes:
    lines = iter(data.splitlines())
    out = []
    for line in lines:
        if line.startswith(b"begin "):
            break
    for line in lines:
        if line.strip() in (b"end", b"`", b""):
            break
        try:
            out.append(binascii.a2b_uu(line))
        except binascii.Error:
            count = (((line[0] - 32) & 63) * 4 + 5) // 3
            out.append(binascii.a2b_uu(line[: count + 1]) if line else b"")
    return b"".join(out)
