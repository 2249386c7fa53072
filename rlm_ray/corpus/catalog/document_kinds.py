"""Recognises documents that need a parser, by the ending of their name and by their first bytes. Pure."""

from __future__ import annotations

import posixpath

#: What has to be parsed, by ending. Of `.doc` the parser says only what it is: nothing well-kept reads it.
DOCUMENT_KINDS = {".pdf": "pdf", ".odt": "odt", ".ott": "odt", ".rtf": "rtf", ".doc": "doc", ".dot": "doc"} | dict.fromkeys(
    (".docx", ".docm", ".dotx", ".dotm"), "docx"
)
DOCUMENT_KINDS |= dict.fromkeys((".html", ".htm", ".xhtml"), "html") | dict.fromkeys((".pptx", ".pptm", ".ppsx", ".potx"), "pptx")
DOCUMENT_KINDS[".epub"] = "epub"
_COMPRESSED = (".gz", ".gzip", ".zst", ".zstd")
_MAGIC = {b"%PDF-": "pdf", b"PK\x03\x04": "zip", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "doc", b"{\\rtf": "rtf"}


def document_kind(uri: str) -> str | None:
    """Return what has to be parsed, by the name's ending; None is text.

    Examples
    --------
    >>> document_kind("s3://contracts/A.PDF"), document_kind("a.docx.gz"), document_kind("a.txt")
    ('pdf', 'docx', None)
    """
    name, ending = posixpath.splitext(uri.lower())
    return DOCUMENT_KINDS.get(posixpath.splitext(name)[1] if ending in _COMPRESSED else ending)


def kind_in(data: bytes) -> str | None:
    """Return what has to be parsed, by the first bytes, whatever the name says; None is text.

    Examples
    --------
    >>> kind_in(b"%PDF-1.7"), kind_in(b"plain words")
    ('pdf', None)
    """
    return next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)
