"""The text of an OpenDocument text (.odt), with tracked deletions left out."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from rlm_ray.sandbox.inside.parsers.packages import Package, child, local, value_of

_SILENT = frozenset(
    {"tracked-changes", "sequence-decls", "forms", "bookmark-ref-source", "note-citation", "title", "desc", "binary-data"}
)
_MARKS = {"tab": "\t", "line-break": "\n", "soft-page-break": "\f"}


def read(data: bytes) -> Iterator[str]:
    """Yield the text of each page, as far as the document says where pages begin."""
    package = Package(data)
    if "META-INF/manifest.xml" in package and b"encryption-data" in package.read("META-INF/manifest.xml"):
        raise ValueError("it is protected by a password")
    body = child(package.tree("content.xml"), "body", "text")
    if body is None:
        raise ValueError("it is no OpenDocument text")
    parts: list[str] = []
    if "styles.xml" in package:
        for page in package.tree("styles.xml").iter():
            if local(page.tag) in ("header", "footer") and (text := _flat(page)):
                parts.append(f"[{local(page.tag)}: {text}]\n\n")
    _blocks(body, parts)
    for page_text in "".join(parts).split("\f"):
        if page_text.strip():
            yield page_text


def _blocks(element: Element, out: list[str]) -> None:
    for item in element:
        name = local(item.tag)
        if name in ("p", "h"):
            behind: list[str] = []
            text = _text(item, behind)
            out.extend(f"{part}\n\n" for part in (text, *behind) if part.strip())
        elif name == "table":
            for row in item.iter():
                if local(row.tag) == "table-row":
                    cells = [_flat(cell) for cell in row if local(cell.tag) in ("table-cell", "covered-table-cell")]
                    out.append("\t".join(cells) + "\n")
            out.append("\n")
        elif name == "list-item" and (number := child(item, "number")) is not None:
            out.append(_flat_text(number) + "\t")
            _blocks(item, out)
        elif name not in _SILENT and name != "number":
            _blocks(item, out)


def _flat(element: Element) -> str:
    parts: list[str] = []
    _blocks(element, parts)
    return " ".join("".join(parts).split())


def _flat_text(element: Element) -> str:
    return "".join(element.itertext())


def _text(element: Element, behind: list[str]) -> str:
    out = [element.text or ""]
    for item in element:
        name = local(item.tag)
        if name == "s":
            count = value_of(item, "c", "1")
            out.append(" " * (min(int(count), 10_000) if count.isdigit() else 1))
        elif name in _MARKS:
            out.append(_MARKS[name])
        elif name == "note":
            kind = value_of(item, "note-class", "footnote")
            number = _flat_text(citation) if (citation := child(item, "note-citation")) is not None else ""
            out.append(f"[{kind} {number}]")
            body = child(item, "note-body")
            behind.append(f"[{kind} {number}: {_flat(body) if body is not None else ''}]")
        elif name == "annotation":
            author = child(item, "creator")
            by = f" by {_flat_text(author)}" if author is not None else ""
            behind.append(f"[comment{by}: {_flat(item)}]")
        elif name == "text-box":
            behind.append(f"[text box: {_flat(item)}]")
        elif name not in _SILENT:
            out.append(_text(item, behind))
        out.append(item.tail or "")
    return "".join(out)
