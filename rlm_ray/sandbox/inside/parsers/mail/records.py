"""Messages and their attachments as records, in batches of columns."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import IO, Any

from rlm_ray.sandbox.inside.parsers import html
from rlm_ray.sandbox.inside.parsers.mail import attachments, bodies, boundaries, mapi, outlook, parts, tnef
from rlm_ray.sandbox.inside.parsers.mail.headers import Fields, base_subject, decode, identifiers, moment
from rlm_ray.sandbox.inside.parsers.mail.parts import Part

#: Columns, in order; those of the mail are on its attachments too.
OF_MAIL = ("from", "to", "cc", "date", "date_text", "subject", "message_id", "in_reply_to", "thread")
COLUMNS = ("kind", *OF_MAIL, "text", "quoted", "name", "content_type", "size", "part", "note", "_pos", "_end")
#: Characters, and records, of a batch.
_CHARS, _RECORDS = 2 << 20, 500
_ESCAPED = re.compile(r"^>(>*From )", re.MULTILINE)

Record = dict[str, "str | int | None"]


def read(file: IO[bytes], options: Mapping[str, Any]) -> Iterator[str]:
    """Yield batches as JSON: `columns`, a list for each, and `next`, the byte from which on nothing was looked at.

    Parameters
    ----------
    file : file
    options : dict
        `low`, `high`: records that begin between these bytes; `texts`: whether texts are wanted; `each`: a batch for each message;
        `plain`: messages whose attachments are not read, by the byte at which they begin; `skip`: those that are not read at all,
        with the reason.
    """
    low, high = options["low"], options["high"]
    batch = _Batch()
    at = low
    for start, stop, behind, data, in_mbox in boundaries.messages(file, low, high):
        reason = next((text for place, text in options["skip"].items() if start <= int(place) < behind), None)
        if reason is None:
            is_plain = any(start <= place < behind for place in options["plain"])
            reader = _Message(data, start, stop, in_mbox, options["texts"], not is_plain)
            records = reader.records() if in_mbox or not outlook.is_mail(data) else reader.of_outlook()
        else:
            records = iter([_empty(start, stop, reason)])
        for record in records:
            if low <= int(record["_pos"] or 0) < high:
                batch.add(record)
            if batch.is_full:
                yield batch.taken(at)
        at = behind
        if batch.is_full or options["each"]:
            yield batch.taken(at)
    yield batch.taken(at)


class _Batch:
    """Records as columns."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._records: list[Record] = []
        self._chars = 0

    @property
    def is_full(self) -> bool:
        """Whether it is time to send it."""
        return self._chars > _CHARS or len(self._records) >= _RECORDS

    def add(self, record: Record) -> None:
        """Take a record."""
        self._records.append(record)
        self._chars += 500 + sum(len(str(record.get(name) or "")) for name in ("text", "quoted"))

    def taken(self, at: int) -> str:
        """Return it as JSON, and begin another."""
        columns = {name: [record.get(name) for record in self._records] for name in COLUMNS}
        self._clear()
        return json.dumps({"columns": columns, "next": at}, ensure_ascii=False, separators=(",", ":"))


def _empty(start: int, stop: int, note: str) -> Record:
    return {"kind": "message", "note": note, "_pos": start, "_end": stop}


class _Message:
    """One message, those in it, and what is attached to them."""

    def __init__(self, data: bytes, start: int, stop: int, in_mbox: bool, with_texts: bool, with_attachments: bool) -> None:
        self._data, self._start, self._stop, self._in_mbox = data, start, stop, in_mbox
        self._with_texts, self._with_attachments = with_texts, with_attachments

    def records(self) -> Iterator[Record]:
        """Yield its record, and those of all that is in it."""
        begin = boundaries.without_mark(self._data)
        root = parts.parsed(self._data, begin, len(self._data))
        yield from self._of(root, root.path, self._start, self._stop)

    def of_outlook(self) -> Iterator[Record]:
        """Yield the records of a mail in Outlook's own form: its parts have no bytes of their own, so each begins one further."""
        try:
            data = outlook.message(self._data) if len(self._data) == self._stop - self._start else b""
            problem = "" if data else f"not read: it has more than {boundaries.MAX_MESSAGE >> 20} MiB"
        except ValueError as error:
            data, problem = b"", f"not read: {error}"
        if problem:
            yield _empty(self._start, self._stop, problem)
            return
        yield from self._converted(data, self._start, self._stop, "")

    def _converted(self, data: bytes, start: int, stop: int, path: str) -> Iterator[Record]:
        """Yield the records of a mail that stands in some bytes in another form."""
        reader = _Message(data, 0, len(data), False, self._with_texts, self._with_attachments)
        root = parts.parsed(data, 0, len(data))
        for number, record in enumerate(reader._of(root, "", 0, len(data))):
            place = min(start + number, max(start, stop - 1))
            below = f"{path}.{record['part'] or ''}".strip(".")
            yield record | {"_pos": place, "_end": stop, "part": below or None}

    def _of(self, content: Part, path: str, start: int, stop: int) -> Iterator[Record]:
        mail = _mail(content.fields)
        chosen = _bodies(content)
        texts = [self._body(part) for part in chosen] if self._with_texts else []
        notes = [*_problems(content), *(note for _, note in texts if note)]
        if self._stop - self._start > len(self._data):
            notes.append(f"only its first {len(self._data) >> 20} MiB")
        whole = "\n".join(text for text, _ in texts)
        if attachments.is_encrypted(whole):
            notes.append("encrypted (PGP)")
        own, quoted = bodies.parted(whole)
        kind = content.kind
        if kind == "multipart/encrypted":
            notes.append("encrypted (PGP)")
        record: Record = {"kind": "message", "text": own if self._with_texts else None, "quoted": quoted or None}
        record |= {"content_type": kind, "part": path or None, "note": "; ".join(dict.fromkeys(notes)) or None}
        record |= {"size": content.stop - content.start, "_pos": start, "_end": stop}
        yield mail | record
        inside = set(map(id, chosen))
        holds = content.parts and content.kind != "message/rfc822"
        for leaf in content.leaves() if holds else [content]:
            if id(leaf) not in inside and not _is_text(leaf):  # a text that is not chosen is another form of one that is
                yield from self._attached(leaf, mail)

    def _attached(self, leaf: Part, mail: Record) -> Iterator[Record]:
        start, stop = self._start + leaf.start, self._start + leaf.stop
        if leaf.kind == "message/rfc822" and leaf.parts:
            inner = leaf.parts[0]
            yield from self._of(inner, leaf.path, self._start + inner.start, stop)
            return
        data = leaf.payload(self._data)
        name = leaf.name
        is_mail = leaf.kind == "message/rfc822" or name.lower().endswith(".eml")
        if is_mail and len(parts.parsed(data, 0, len(data)).fields):  # its bytes are encoded: it has no place of its own
            yield from self._converted(data, start, stop, leaf.path)
            return
        if outlook.is_mail(data):
            with contextlib.suppress(ValueError):  # then it is an attachment as others are, with the reason
                yield from self._converted(outlook.message(data), start, stop, leaf.path)
                return
        said = attachments.said_of(leaf.kind, name, leaf.content.get("smime-type", ""), data)
        found: Iterator[tuple[str, int, str | None, str]]
        if said or not self._with_attachments:
            found = iter([("", len(data), None, said or "not read: its parser was stopped")])
        elif not self._with_texts and not data.startswith((b"PK\x03\x04", tnef.MAGIC)):
            found = iter([("", len(data), None, "")])
        else:
            found = attachments.texts(leaf.kind, name, leaf.charset, data)
        for number, (below, size, text, note) in enumerate(found):
            shown = "; ".join(filter(None, [leaf.note, note])) or None
            attached: Record = {"kind": "attachment", "text": text, "name": (f"{name}!/{below}" if below else name) or None}
            attached |= {"content_type": leaf.kind if not below else None, "size": size, "part": leaf.path or None, "note": shown}
            # a member of an archive has no bytes of its own: the address is the attachment's, and one further for each
            yield mail | attached | {"_pos": min(start + number, max(start, stop - 1)), "_end": stop}

    def _body(self, part: Part) -> tuple[str, str]:
        data = part.payload(self._data)
        if part.kind == "text/html":
            text, problem = decode(data, part.charset or html.declared(data))
            return html.text_of(text), problem
        text, problem = decode(data, part.charset)
        return (_ESCAPED.sub(r"\1", text) if self._in_mbox else text), problem


def _mail(fields: Fields) -> Record:
    """Return the columns of a message that its attachments share."""
    subject, identifier = fields.text("subject"), "".join(identifiers(fields.raw("message-id"))[:1])
    reply = "".join(identifiers(fields.raw("in-reply-to"))[:1])
    references = identifiers(fields.raw("references"))
    thread = (
        (references or [""])[0] or reply or identifier or (f"subject: {base_subject(subject)}" if base_subject(subject) else "")
    )
    date = fields.raw("date")
    return {
        "from": fields.text("from") or None,
        "to": fields.all_texts("to") or None,
        "cc": fields.all_texts("cc") or None,
        "date": moment(date),
        "date_text": date or None,
        "subject": subject or None,
        "message_id": identifier or None,
        "in_reply_to": reply or None,
        "thread": thread or None,
    }


def _problems(message: Part) -> list[str]:
    notes = [message.note] if message.note else []
    if reason := message.fields.raw(mapi.NOT_READ.lower()):
        notes.append(f"not read: {reason}")
    if message.fields.is_cut:
        notes.append("only the first 256 KiB of its headers")
    if not len(message.fields):
        notes.append("it has no headers")
    return notes


def _bodies(message: Part) -> list[Part]:
    """Return the parts that are the message's text: of alternatives the plain one, else HTML; all texts that are no attachments."""
    if not message.parts or message.kind == "message/rfc822":
        return [message] if _is_text(message) else []
    return _chosen(message)


def _chosen(part: Part) -> list[Part]:
    if part.kind == "multipart/alternative":
        choices = [found for found in map(_chosen, part.parts) if found]
        plain = [found for found in choices if all(item.kind == "text/plain" and item.body < item.stop for item in found)]
        return (plain or choices or [[]])[0]
    if part.kind == "multipart/related":
        return next((found for found in map(_chosen, part.parts) if found), [])
    if part.kind.startswith("multipart/") and part.parts:
        return [found for inner in part.parts for found in _chosen(inner)]
    return [part] if _is_text(part) else []


def _is_text(part: Part) -> bool:
    return part.kind in ("text/plain", "text/html") and part.disposition != "attachment" and not part.name
