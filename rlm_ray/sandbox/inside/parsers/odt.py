"""The text of an OpenDocument text (.odt), with tracked deletions left out."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from rlm_ray.sandbox.inside.parsers.numbering import formatted
from rlm_ray.sandbox.inside.parsers.packages import Package, child, local, value_of
from rlm_ray.sandbox.inside.parsers.symbols import in_font

_SILENT = frozenset(
    {"tracked-changes", "sequence-decls", "forms", "bookmark-ref-source", "note-citation", "title", "desc", "binary-data"}
)
_MARKS = {"tab": "\t", "line-break": "\n", "soft-page-break": "\f"}


_FORMATS = {"1": "decimal", "a": "lowerLetter", "A": "upperLetter", "i": "lowerRoman", "I": "upperRoman"}
_LEVELS = frozenset({"list-level-style-number", "outline-level-style", "list-level-style-bullet"})
_OUTLINE = "heading levels"  # no name of a list style: names have no space


def read(data: bytes) -> Iterator[str]:
    """Yield the text of each page, as far as the document says where pages begin."""
    package = Package(data)
    if "META-INF/manifest.xml" in package and b"encryption-data" in package.read("META-INF/manifest.xml"):
        raise ValueError("it is protected by a password")
    content = package.tree("content.xml")
    styles = package.tree("styles.xml") if "styles.xml" in package else None
    body = child(content, "body", "text")
    if body is None:
        raise ValueError("it is no OpenDocument text")
    document = _Document(content, styles)
    parts: list[str] = []
    for page in styles.iter() if styles is not None else ():
        if local(page.tag) in ("header", "footer") and (text := document.flat(page)):
            parts.append(f"[{local(page.tag)}: {text}]\n\n")
    document.blocks(body, parts)
    for page_text in "".join(parts).split("\f"):
        if page_text.strip():
            yield page_text


class _Document:
    def __init__(self, *roots: Element | None) -> None:
        #: By list style, by level.
        self._levels: dict[str, dict[int, Element]] = {}
        for root in roots:
            for style in root.iter() if root is not None else ():
                if local(style.tag) in ("list-style", "outline-style"):
                    name = value_of(style, "name") if local(style.tag) == "list-style" else _OUTLINE
                    levels = {_number(value_of(item, "level")): item for item in style if local(item.tag) in _LEVELS}
                    self._levels.setdefault(name, levels)
        self._counts: dict[str, dict[int, int]] = {}
        self._label = ""

    def blocks(self, element: Element, out: list[str]) -> None:
        for item in element:
            name = local(item.tag)
            if name in ("p", "h"):
                self._paragraph(item, out)
            elif name == "table":
                for row in _rows(item):
                    cells = [self.flat(cell) for cell in row if local(cell.tag) in ("table-cell", "covered-table-cell")]
                    out.append("\t".join(cells) + "\n")
                out.append("\n")
            elif name == "list":
                self._list(item, out, 1, "")
            elif name in _MARKS:
                out.append(_MARKS[name])
            elif name not in _SILENT:
                self.blocks(item, out)

    def _paragraph(self, item: Element, out: list[str]) -> None:
        label, self._label = self._label, ""
        if local(item.tag) == "h" and not label and value_of(item, "is-list-header") != "true":
            level = _number(value_of(item, "outline-level", "1"))
            if level in self._levels.get(_OUTLINE, {}):
                label = self._next(_OUTLINE, self._counts.setdefault(_OUTLINE, {}), level, value_of(item, "start-value"))
        behind: list[str] = []
        text = label + self._text(item, behind)
        out.extend(f"{part}\n\n" for part in (text, *behind) if part.strip())

    def _list(self, element: Element, out: list[str], level: int, style: str) -> None:
        style = value_of(element, "style-name") or style
        counts = self._counts.setdefault(style, {})
        if value_of(element, "continue-numbering") != "true" and not value_of(element, "continue-list"):
            for at in [at for at in counts if at >= level]:
                del counts[at]
        for item in element:
            if local(item.tag) == "list-item":
                shown = child(item, "number")
                label = self._next(style, counts, level, value_of(item, "start-value"))
                self._label = "" if _is_only_a_list(item) else f"{_plain_text(shown)}\t" if shown is not None else label
            for part in item:
                if local(part.tag) == "list":
                    self._list(part, out, level + 1, style)
                elif local(part.tag) in ("p", "h"):
                    self._paragraph(part, out)
            self._label = ""

    def _next(self, style: str, counts: dict[int, int], level: int, given: str) -> str:
        """Count an item, and return its number as it is shown."""
        levels = self._levels.get(style, {})
        form = levels.get(level)
        begin = _number(given) if given else _number(value_of(form, "start-value", "1"))
        counts[level] = counts[level] + 1 if level in counts and not given else begin
        for at in [at for at in counts if at > level]:
            del counts[at]
        if form is None:
            return ""
        if local(form.tag) == "list-level-style-bullet":
            return f"{in_font('', value_of(form, 'bullet-char', '•'))}\t"
        if not value_of(form, "num-format"):
            return ""
        first = max(1, level - _number(value_of(form, "display-levels", "1")) + 1)
        numbers = [
            formatted(counts.get(at, 1), _FORMATS.get(value_of(levels.get(at), "num-format"), "decimal"))
            for at in range(first, level + 1)
            if value_of(levels.get(at), "num-format")
        ]
        return f"{value_of(form, 'num-prefix')}{'.'.join(numbers)}{value_of(form, 'num-suffix')}\t"

    def flat(self, element: Element) -> str:
        parts: list[str] = []
        self.blocks(element, parts)
        return " ".join("".join(parts).split())

    def _text(self, element: Element, behind: list[str]) -> str:
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
                number = _plain_text(citation) if (citation := child(item, "note-citation")) is not None else ""
                out.append(f"[{kind} {number}]")
                body = child(item, "note-body")
                behind.append(f"[{kind} {number}: {self.flat(body) if body is not None else ''}]")
            elif name == "annotation":
                author = child(item, "creator")
                by = f" by {_plain_text(author)}" if author is not None else ""
                behind.append(f"[comment{by}: {self.flat(item)}]")
            elif name == "text-box":
                behind.append(f"[text box: {self.flat(item)}]")
            elif name not in _SILENT:
                out.append(self._text(item, behind))
            out.append(item.tail or "")
        return "".join(out)


def _rows(table: Element) -> Iterator[Element]:
    """Yield the rows of a table, not those of tables in its cells."""
    for item in table:
        if local(item.tag) == "table-row":
            yield item
        elif local(item.tag) in ("table-header-rows", "table-rows", "table-row-group"):
            yield from _rows(item)


def _is_only_a_list(item: Element) -> bool:
    return next((local(part.tag) for part in item), "") == "list"


def _number(text: str) -> int:
    return int(text) if text.isdigit() and len(text) < 10 else 1


def _plain_text(element: Element | None) -> str:
    return "" if element is None else "".join(element.itertext())
