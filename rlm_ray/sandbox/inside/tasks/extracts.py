"""Extracts the pages of a document, inside the sandbox; the parsers are loaded behind the walls."""

from __future__ import annotations

from collections.abc import Iterator

#: Of all pages together.
MAX_CHARS = 64 << 20
_OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def pages(kind: str, data: bytes) -> Iterator[str]:
    """Yield the text of each page.

    Parameters
    ----------
    kind : {"pdf", "docx", "docx+changes", "odt", "rtf", "html", "pptx", "epub", "doc"}
        By the name; the first bytes decide where they say another. With `+changes` tracked changes are shown.
    data : bytes

    Raises
    ------
    Exception
        Whatever the parser says of it.
    """
    size = 0
    empty = True
    for page in _parsed(kind, data):
        size += len(page)
        if size > MAX_CHARS:
            raise ValueError(f"it has more than {MAX_CHARS:,} characters")
        empty = empty and not page.strip()
        # halves of a character outside of Unicode's first plane belong together; others are no text
        yield page.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if not page.isascii() else page
    if empty:
        raise ValueError("it has no text: it is blank, or its pages are pictures (scanned)")


def _parsed(kind: str, data: bytes) -> Iterator[str]:
    kind, _, changes = kind.partition("+")
    if not data:
        raise ValueError("it is empty (0 bytes)")
    if data.startswith(_OLD_OFFICE):
        raise ValueError(_why_old(data))
    if data.startswith(b"PK\x03\x04") and kind not in ("docx", "odt", "pptx", "epub"):
        kind = _package_kind(data)
    elif b"%PDF-" in data[:1024]:
        kind = "pdf"
    elif data.lstrip()[:5] == b"{\\rtf":
        kind = "rtf"
    if kind == "pdf":
        from rlm_ray.sandbox.inside.parsers import pdf

        return pdf.read(data)
    if kind == "rtf":
        from rlm_ray.sandbox.inside.parsers import rtf

        return rtf.read(data)
    if kind == "html":
        from rlm_ray.sandbox.inside.parsers import html

        return html.read(data)
    if kind == "pptx":
        from rlm_ray.sandbox.inside.parsers import pptx

        return pptx.read(data)
    if kind == "epub":
        from rlm_ray.sandbox.inside.parsers import epub

        return epub.read(data)
    if kind == "odt":
        from rlm_ray.sandbox.inside.parsers import odt

        return odt.read(data)
    if kind == "docx":
        from rlm_ray.sandbox.inside.parsers import docx

        return docx.read(data, tracked=changes == "changes")
    raise ValueError("it is no document of a kind that is read: convert it to .docx or .pdf")


def _package_kind(data: bytes) -> str:
    if b"mimetypeapplication/vnd.oasis.opendocument.text" in data[:200]:
        return "odt"
    if b"mimetypeapplication/epub+zip" in data[:200]:
        return "epub"
    return "pptx" if b"ppt/presentation.xml" in data and b"word/document.xml" not in data else "docx"


def _why_old(data: bytes) -> str:
    names = {name: name.encode("utf-16-le") in data for name in ("EncryptedPackage", "DRMEncryptedDataSpace", "WordDocument")}
    if names["EncryptedPackage"] or names["DRMEncryptedDataSpace"]:
        return "it is protected by a password or by rights; save it without"
    if names["WordDocument"]:
        return "it is a Word document in the old binary format (.doc), which is not read; save it as .docx"
    return "it is a file in Office's old binary format, which is not read; save it as .docx"
