"""Small readings of Word's XML that need nothing but the element."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from xml.etree.ElementTree import Element

from rlm_ray.sandbox.inside.parsers.packages import Package, child, is_on, local, value_of
from rlm_ray.sandbox.inside.parsers.symbols import symbol

#: Elements whose text was deleted, or moved to another place.
GONE = frozenset({"del", "moveFrom"})
_MAIN = "wordprocessingml.document.main+xml", "wordprocessingml.template.main+xml", "ms-word.document.macroEnabled.main+xml"
#: In text, until the paragraph is done.
PAGE = "\f"
#: What elements of a run show.
MARKS = {
    "tab": "\t",
    "ptab": "\t",
    "cr": "\n",
    "noBreakHyphen": "-",
    "softHyphen": "",
    "lastRenderedPageBreak": PAGE,
}


def split_pages(section: Iterable[str]) -> Iterator[str]:
    """Yield the pages of a text; those without text are left out."""
    for page in "".join(section).split(PAGE):
        if page.strip():
            yield page


def by_style(chain: Iterable[Element], name: str) -> bool:
    """Whether the nearest style that speaks of a switch turns it on."""
    return next((is_on(found) for item in chain if (found := child(item, name)) is not None), False)


def is_emptied(paragraph: Element) -> bool:
    """Whether text of a paragraph was deleted or moved away."""
    return any(local(item.tag) in GONE for item in paragraph)


def count_of(element: Element | None) -> int:
    """Return a whole number that an element has as its value; 0 where it has none."""
    text = value_of(element)
    return min(int(text), 1000) if text.isdigit() else 0


def chosen(alternate: Element) -> list[Element]:
    """Return what one of the alternatives holds: what new readers show, or what old ones do where that has no text."""
    options = [item for item in alternate if local(item.tag) in ("Choice", "Fallback")]
    with_text = [item for item in options if any(local(part.tag) in ("t", "sym", "relIds", "textpath") for part in item.iter())]
    return list((with_text or options or [Element("none")])[0])


def symbol_of(element: Element) -> str:
    """Return what a symbol shows."""
    try:
        return symbol(value_of(element, "font"), int(value_of(element, "char"), 16))
    except ValueError:
        return "�"


def form_field(data: Element | None) -> str:
    """Return what an old form's field shows that has no text of its own: a box, or the chosen entry of a list."""
    if (box := child(data, "checkBox")) is not None:
        state = child(box, "checked")
        return "☒" if is_on(state if state is not None else child(box, "default")) else "☐"
    if (chosen := child(data, "ddList")) is not None:
        entries = [value_of(item) for item in chosen if local(item.tag) == "listEntry"]
        number = value_of(child(chosen, "result")) or value_of(child(chosen, "default")) or "0"
        return entries[int(number)] if number.isdigit() and int(number) < len(entries) else ""
    return ""


def or_empty(element: Element | None) -> Element:
    """Return an element, or an empty one."""
    return Element("none") if element is None else element


def plain_text(element: Element) -> str:
    """Return all text below an element."""
    return "".join(item.text or "" for item in element.iter() if local(item.tag) == "t")


def main_part(package: Package) -> str:
    """Return the main part's name: by the package's relation, by its content type, or as Word names it."""
    for kind, target in package.relations("").values():
        if kind == "officeDocument":
            if target not in package:
                raise ValueError(f"it is damaged: its main part {target[:200]} is missing")
            return target
    if "[Content_Types].xml" in package:
        for item in package.tree("[Content_Types].xml"):
            if value_of(item, "ContentType").endswith(_MAIN):
                return value_of(item, "PartName").lstrip("/")
    if "word/document.xml" in package:
        return "word/document.xml"
    raise ValueError("it is a zip archive, but no Word document is in it")
