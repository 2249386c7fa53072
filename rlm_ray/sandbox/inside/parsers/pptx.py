"""The text of a presentation (.pptx), a page for each slide in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from rlm_ray.sandbox.inside.parsers.packages import Package, child, local, value_of

_TITLES = ("title", "ctrTitle")


def read(data: bytes) -> Iterator[str]:
    """Yield the text of each slide: titles marked by #, rows of tables by tabs, notes of the speaker behind it."""
    package = Package(data)
    main = next((target for kind, target in package.relations("").values() if kind == "officeDocument"), "ppt/presentation.xml")
    relations = package.relations(main)
    slides = child(package.tree(main), "sldIdLst")
    for entry in slides if slides is not None else ():
        # the attribute `id` of its own namespace is the slide's number, that of relations names the part
        names = [value for key, value in entry.items() if key.rpartition("}")[2] == "id" and "}" in key]
        kind, part = relations.get(names[0] if names else "", ("", ""))
        if kind == "slide":
            yield _slide(package, part)


def _slide(package: Package, part: str) -> str:
    root = package.tree(part)
    hidden = "[hidden slide]" if value_of(root, "show") in ("0", "false") else ""
    texts = [hidden, *_shapes(child(root, "cSld", "spTree"))]
    for kind, target in package.relations(part).values():
        if kind == "notesSlide":
            notes = _shapes(child(package.tree(target), "cSld", "spTree"), notes=True)
            texts += [f"[note of the speaker: {note}]" for note in notes]
    return "\n\n".join(filter(None, texts))


def _shapes(tree: Element | None, notes: bool = False) -> Iterator[str]:
    for shape in tree if tree is not None else ():
        name = local(shape.tag)
        if name == "grpSp":
            yield from _shapes(shape, notes)
        elif name == "graphicFrame":
            yield from (_table(item) for item in shape.iter() if local(item.tag) == "tbl")
        elif name == "sp":
            place = child(shape, "nvSpPr", "nvPr", "ph")
            kind = value_of(place, "type", "body") if place is not None else ""
            if kind in ("sldNum", "dt", "ftr", "hdr", "sldImg") or (notes and kind != "body"):
                continue
            text = _text(child(shape, "txBody"))
            if text:
                yield f"# {text}" if kind in _TITLES and not notes else text


def _text(body: Element | None) -> str:
    lines = []
    for paragraph in body if body is not None else ():
        if local(paragraph.tag) == "p":
            parts = []
            for item in paragraph.iter():
                if local(item.tag) == "t":
                    parts.append(item.text or "")
                elif local(item.tag) == "br":
                    parts.append("\n")
            lines.append("".join(parts))
    return "\n".join(lines).strip()


def _table(table: Element) -> str:
    rows = [item for item in table if local(item.tag) == "tr"]
    return "\n".join(
        "\t".join(" ".join(_text(child(cell, "txBody")).split()) for cell in row if local(cell.tag) == "tc") for row in rows
    )
