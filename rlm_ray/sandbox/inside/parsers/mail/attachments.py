"""The text of what is attached to a message, and what it is where it is not read."""

from __future__ import annotations

import io
import posixpath
import zipfile
import zlib
from collections.abc import Iterator

from rlm_ray.sandbox.inside.parsers.archives.names import checked
from rlm_ray.sandbox.inside.parsers.mail import mapi, tnef
from rlm_ray.sandbox.inside.parsers.mail.headers import decode

#: Characters of a text that are kept; bytes of what is unpacked; members of an archive; how deep archives lie in each other.
MAX_CHARS, MAX_UNPACKED, MAX_MEMBERS, MAX_DEPTH = 16 << 20, 64 << 20, 1_000, 3
_DOCUMENTS = {".pdf": "pdf", ".docx": "docx", ".docm": "docx", ".odt": "odt", ".rtf": "rtf", ".pptx": "pptx", ".epub": "epub"}
_DOCUMENT_TYPES = {
    "application/pdf": "pdf",
    "application/rtf": "rtf",
    "text/rtf": "rtf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.oasis.opendocument.text": "odt",
}
_TEXTS = frozenset((".txt", ".text", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".md", ".log", ".ics", ".vcf", ".yaml", ".yml"))
_TEXTS |= {".ini", ".cfg", ".conf", ".patch", ".diff", ".py", ".sh", ".sql", ".c", ".h", ".java", ".js"}
_TEXT_TYPES = frozenset(("application/json", "application/xml", "application/x-yaml", "application/sql", "message/delivery-status"))
#: What some kinds are called where their text is none.
_SAID = {
    "application/pgp-signature": "a signature (PGP)",
    "application/pgp-keys": "a key (PGP)",
    "application/pgp-encrypted": "encrypted (PGP)",
    "application/pkcs7-signature": "a signature (S/MIME)",
    "application/x-pkcs7-signature": "a signature (S/MIME)",
}
_PKCS7 = ("application/pkcs7-mime", "application/x-pkcs7-mime")
_PGP = "-----BEGIN PGP MESSAGE-----"


def said_of(kind: str, name: str, smime_type: str, data: bytes) -> str:
    """Return what an attachment is, if it is a signature or encrypted; else nothing."""
    if kind in _PKCS7:
        return "signed, and packed into the signature (S/MIME)" if "signed" in smime_type else "encrypted (S/MIME)"
    if kind in _SAID:
        return _SAID[kind]
    if data.startswith(_PGP.encode()) or name.lower().endswith((".pgp", ".gpg")):
        return "encrypted (PGP)"
    return ""


def is_encrypted(text: str) -> bool:
    """Whether a text is a message that PGP has encrypted."""
    return text.lstrip().startswith(_PGP)


def texts(kind: str, name: str, charset: str, data: bytes, depth: int = 0) -> Iterator[tuple[str, int, str | None, str]]:
    """Yield names below the attachment's own (empty: itself), bytes, texts (None: none is read), and a note on each."""
    ending = posixpath.splitext(name.lower())[1]
    if data.startswith(b"PK\x03\x04") and ending not in _DOCUMENTS and kind not in _DOCUMENT_TYPES and not _is_package(data):
        yield "", len(data), None, ""
        yield from _members(data, depth)
        return
    if data.startswith(tnef.MAGIC) and depth < MAX_DEPTH:
        yield from _wrapped(data, depth)
        return
    if data.startswith(b"\x1f\x8b") and depth < MAX_DEPTH:
        inner, problem = _unzipped(data)
        found = next(iter(texts("", posixpath.splitext(name)[0], "", inner, depth + 1)), ("", 0, None, "")) if not problem else None
        yield "", len(data), found[2] if found else None, problem or (found[3] if found else "")
        return
    yield "", len(data), *_text(kind, ending, charset, data)


def _wrapped(data: bytes, depth: int) -> Iterator[tuple[str, int, str | None, str]]:
    """Yield the text of what Outlook has wrapped (TNEF), and what is attached there."""
    found, problem = tnef.opened(data)
    try:
        kind, content = mapi.body(found.properties)
        text, note = _text(kind, "", "utf-8", content.encode("utf-8", "replace"))
    except ValueError as error:
        text, note = None, f"its text is not read: {error}"
    yield "", len(data), text or None, "; ".join(filter(None, [note, problem]))
    for number, item in enumerate(found.attached, 1):
        name = checked(item.name)[0] or f"attachment-{number}"
        for below, size, inner, said in texts(item.kind, name, "", item.data, depth + 1):
            yield f"{name}!/{below}" if below else name, size, inner, said


def _is_package(data: bytes) -> bool:
    return b"[Content_Types].xml" in data[:4_096] or data[30:38] == b"mimetype"


def _text(kind: str, ending: str, charset: str, data: bytes) -> tuple[str | None, str]:
    document = _DOCUMENTS.get(ending) or _DOCUMENT_TYPES.get(kind) or ("pdf" if data.startswith(b"%PDF-") else None)
    if document is not None:
        from rlm_ray.sandbox.inside.tasks.extracts import pages

        try:
            return _bounded("\f".join(pages(document, data)))
        except (TimeoutError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever a parser says of a hostile file
            return None, f"cannot be parsed: {' '.join(str(error).split())[:200]}"
    if kind == "text/html" or ending in (".html", ".htm"):
        from rlm_ray.sandbox.inside.parsers import html

        return _bounded(html.text_of(decode(data, charset or html.declared(data))[0]))
    if kind.startswith("text/") or ending in _TEXTS or kind in _TEXT_TYPES:
        if b"\0" in data[:4_096] and not charset.lower().startswith("utf-16"):
            return None, "not text, whatever its name says"
        text, problem = decode(data, charset)
        cut, note = _bounded(text.removeprefix("\ufeff"))
        return cut, "; ".join(filter(None, [note, problem]))
    return None, ""


def _bounded(text: str) -> tuple[str, str]:
    return (text, "") if len(text) <= MAX_CHARS else (text[:MAX_CHARS], f"only its first {MAX_CHARS:,} characters")


def _unzipped(data: bytes) -> tuple[bytes, str]:
    try:
        inner = zlib.decompressobj(31).decompress(data, MAX_UNPACKED + 1)
    except zlib.error as error:
        return b"", f"cannot be unpacked: {error}"
    return (inner, "") if len(inner) <= MAX_UNPACKED else (b"", f"more than {MAX_UNPACKED >> 20} MiB unpacked")


def _members(data: bytes, depth: int) -> Iterator[tuple[str, int, str | None, str]]:
    if depth >= MAX_DEPTH:
        yield "…", 0, None, f"archives lie more than {MAX_DEPTH} deep in each other"
        return
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        yield "…", 0, None, f"cannot be unpacked: {str(error)[:200]}"
        return
    left = MAX_UNPACKED
    for number, entry in enumerate(entries):
        if number == MAX_MEMBERS:
            yield "…", 0, None, f"only its first {MAX_MEMBERS:,} members"
            return
        if entry.is_dir():
            continue
        name, problem = checked(entry.filename)
        if not problem and entry.flag_bits & 1:
            problem = "protected by a password"
        if not problem and entry.file_size > left:
            problem = f"more than {MAX_UNPACKED >> 20} MiB unpacked"
        if problem:
            yield name, entry.file_size, None, problem
            continue
        try:
            with archive.open(entry) as file:
                inner = file.read(left + 1)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, OSError, EOFError, RuntimeError) as error:
            yield name, entry.file_size, None, f"cannot be unpacked: {str(error)[:200]}"
            continue
        left -= len(inner)
        if left < 0:
            yield name, entry.file_size, None, f"more than {MAX_UNPACKED >> 20} MiB unpacked"
            return
        for below, size, text, note in texts("", name, "", inner, depth + 1):
            yield f"{name}!/{below}" if below else name, size, text, note
