"""Inside the sandbox: the pages of a PDF or DOCX. Imported by children that parse one; the parsers are loaded behind the walls."""

from __future__ import annotations

import io
from collections.abc import Iterator

#: Of all pages together.
MAX_CHARS = 64 << 20
_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"


def pages(kind: str, data: bytes) -> Iterator[str]:
    """Yield the text of each page.

    Parameters
    ----------
    kind : {"pdf", "docx"}
    data : bytes

    Raises
    ------
    Exception
        Whatever the parser says of it.
    """
    size = 0
    for page in _pdf(data) if kind == "pdf" else _docx(data):
        size += len(page)
        if size > MAX_CHARS:
            raise ValueError(f"it has more than {MAX_CHARS:,} characters")
        yield page


def _pdf(data: bytes) -> Iterator[str]:
    import logging

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what it thinks of a file is nobody's news
    from pypdf import PdfReader

    reader = PdfReader(io.BytesIO(data), strict=False)
    if reader.is_encrypted:
        raise ValueError("it is encrypted")
    for page in reader.pages:
        yield page.extract_text()


def _docx(data: bytes) -> Iterator[str]:
    import zipfile
    from xml.etree import ElementTree

    with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open("word/document.xml") as content:
        page: list[str] = []
        # piece by piece: what has been read is let go
        for _, element in ElementTree.iterparse(content, ("end",)):
            if element.tag != f"{_WORD}p":
                continue
            for part in element.iter():
                if part.tag == f"{_WORD}t":
                    page.append(part.text or "")
                elif part.tag == f"{_WORD}tab":
                    page.append("\t")
                elif part.tag == f"{_WORD}lastRenderedPageBreak" or part.get(f"{_WORD}type") == "page":
                    if "".join(page).strip():
                        yield "".join(page)
                    page = []
                elif part.tag in (f"{_WORD}br", f"{_WORD}cr"):
                    page.append("\n")
            page.append("\n\n")
            element.clear()
        yield "".join(page)
