"""The text of a Word document (DOCX, DOCM, DOTX; transitional or Strict), as Word shows it with all changes accepted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from xml.etree.ElementTree import Element

from rlm_ray.sandbox.inside.parsers.formulas import linear
from rlm_ray.sandbox.inside.parsers.numbering import Numbering
from rlm_ray.sandbox.inside.parsers.packages import Package, child, is_on, local, value_of
from rlm_ray.sandbox.inside.parsers.symbols import in_font
from rlm_ray.sandbox.inside.parsers.word import (
    GONE,
    MARKS,
    PAGE,
    by_style,
    chosen,
    count_of,
    form_field,
    is_emptied,
    main_part,
    or_empty,
    plain_text,
    split_pages,
    symbol_of,
)

_CAME = frozenset({"ins", "moveTo"})
#: Elements that hold no text of their own: properties, and instructions of fields.
_SILENT = frozenset(
    [
        "pPr",
        "rPr",
        "tblPr",
        "tblGrid",
        "trPr",
        "tcPr",
        "sdtPr",
        "sdtEndPr",
        "sectPr",
        "rubyPr",
        "fldData",
        "instrText",
        "delInstrText",
        "delText",
        "ffData",
        "footnoteRef",
        "endnoteRef",
        "annotationRef",
        "separator",
        "continuationSeparator",
        "proofErr",
        "docPr",
        "cNvPr",
        "posOffset",
        "positionH",
        "positionV",
        "pctWidth",
        "pctHeight",
        "binData",
        "lastModifiedBy",
        "tblPrEx",
        "smartTagPr",
        "customXmlPr",
    ]
)
_NOTES = {"footnoteReference": "footnote", "endnoteReference": "endnote", "commentReference": "comment"}


def read(data: bytes, tracked: bool = False) -> Iterator[str]:
    """Yield the text of each page, as far as the document says where pages begin.

    Parameters
    ----------
    data : bytes
    tracked : bool
        Whether tracked changes are shown: deletions too, each change in brackets that say what it is.
    """
    return _Document(Package(data), tracked).pages()


class _Document:
    def __init__(self, package: Package, tracked: bool) -> None:
        self._package = package
        self._tracked = tracked
        self._main = main_part(package)
        self._relations = package.relations(self._main)
        self._numbering = Numbering(self._part("numbering"), self._part("styles"))
        self._even = is_on(child(self._part("settings"), "evenAndOddHeaders"))
        self._notes: dict[str, dict[str, Element]] = {}
        self._counts = {"footnote": 0, "endnote": 0}
        self._shown: set[tuple[str, str]] = set()
        self._margins: set[str] = set()
        #: Notes, comments and boxes that stand behind the paragraph or table that is being read.
        self._behind: list[str] = []
        self._pending = ""
        #: Fields that are open; whether their instruction is being read, which no reader sees.
        self._fields: list[bool] = []

    def pages(self) -> Iterator[str]:
        section: list[str] = []
        whole: list[str] = []  # sections that are done, from the last that begins a page on
        found = root = None
        for found in self._package.elements(self._main, ("document", "body")):
            root = found
            if local(found.tag) == "document":
                break
            for block, settings in self._body(found):
                section.append(block)
                if settings is not None:
                    section = self._with_margins(section, settings)
                    if value_of(child(settings, "type"), default="nextPage") != "continuous":
                        yield from split_pages(whole)
                        whole = section
                    else:
                        whole += section
                    section = []
        if root is None or local(root.tag) != "document":
            raise ValueError("its main part is no Word document")
        if self._pending:
            section.append(self._pending + "\n\n")
        yield from split_pages([*whole, *section, *self._rest_of_notes()])

    # -- blocks ----------------------------------------------------------------------------------------

    def _body(self, element: Element) -> Iterator[tuple[str, Element | None]]:
        """Yield what stands at the top, and where a section ends its properties."""
        if local(element.tag) == "sectPr":
            text, self._pending = self._pending, ""
            yield (f"{text}\n\n" if text else ""), element
            return
        for block in self._blocks([element]):
            if local(block.tag) == "p":
                text = self._paragraph(block)
                settings = child(block, "pPr", "sectPr")
                yield "".join(f"{part}\n\n" for part in (text, *self._taken()) if part.strip() or PAGE in part), None
                if settings is not None:
                    yield "", settings
            elif local(block.tag) == "tbl":
                yield self._table(block) + "\n" + "".join(f"{part}\n\n" for part in self._taken()), None
            elif local(block.tag) == "altChunk":
                target = self._relations.get(value_of(block, "id"), ("", "?"))[1]
                yield f"[embedded part {target}: not read]\n\n", None
            elif "oMath" in local(block.tag):
                yield f"{linear(block)}\n\n", None

    def _taken(self) -> list[str]:
        taken, self._behind = self._behind, []
        return taken

    def _blocks(self, elements: Iterable[Element], kinds: tuple[str, ...] = ("p", "tbl", "altChunk")) -> Iterator[Element]:
        """Yield blocks out of what wraps them: content controls, custom XML, insertions."""
        for element in elements:
            name = local(element.tag)
            if name in kinds or "oMath" in name:
                yield element
            elif name == "AlternateContent":
                yield from self._blocks(chosen(element), kinds)
            elif name not in _SILENT and (name not in GONE or self._tracked):
                yield from self._blocks(element, kinds)

    def _paragraph(self, element: Element) -> str:
        """Return a paragraph with its number; nothing yet where its end was deleted, which joins it to the next."""
        properties = child(element, "pPr")
        text = self._text(element)
        mark = child(properties, "rPr")
        gone = mark is not None and any(local(item.tag) in GONE for item in mark)
        if gone and not self._tracked and child(properties, "sectPr") is None:
            self._pending += text
            return ""
        text, self._pending = self._pending + text, ""
        chain = self._numbering.properties(properties)
        if any(is_on(child(item, "pageBreakBefore")) for item in chain[:1]) or by_style(chain[1:], "pageBreakBefore"):
            text = PAGE + text
        # Word shows the number of an empty paragraph too, but a paragraph whose whole text was moved away has none
        label = self._numbering.label(properties) if text.strip() or not is_emptied(element) else ""
        if label and not text.strip() and label.strip() in ("•", "▪", "-"):
            label = ""
        start = len(text) - len(text.lstrip(PAGE))
        return text[:start] + label + text[start:] if label else text

    def _table(self, table: Element, between: str = "\t", rows_end: str = "\n") -> str:
        rows = []
        for row in self._blocks(table, ("tr",)):
            if child(row, "trPr", "del") is not None and not self._tracked:
                continue
            cells = [""] * count_of(child(row, "trPr", "gridBefore"))
            for cell in self._blocks(row, ("tc",)):
                if child(cell, "tcPr", "cellDel") is not None and not self._tracked:
                    continue
                cells.append(" ".join(self._flat(cell).split()))
                cells += [""] * (count_of(child(cell, "tcPr", "gridSpan")) - 1)
            line = between.join(cells)
            breaks = any(local(item.tag) == "lastRenderedPageBreak" for item in row.iter()) and rows_end == "\n"
            rows.append((PAGE if breaks else "") + line)
        return rows_end.join(rows) + ("\n" if rows and rows_end == "\n" else "")

    def _flat(self, element: Element) -> str:
        """Return blocks as one line; a table among them in brackets."""
        outer, self._pending = self._pending, ""
        parts = []
        for block in self._blocks(element):
            if local(block.tag) == "p":
                parts.append(self._paragraph(block))
            elif local(block.tag) == "tbl":
                parts.append(f"[table: {self._table(block, ' | ', '; ')}]")
            elif "oMath" in local(block.tag):
                parts.append(linear(block))
        parts.append(self._pending)
        self._pending = outer
        return " ".join(text for part in parts if (text := part.replace(PAGE, " ").strip()))

    # -- text ------------------------------------------------------------------------------------------

    def _text(self, element: Element) -> str:
        out: list[str] = []
        for item in element:
            self._add(item, out, "")
        return "".join(out)

    def _add(self, element: Element, out: list[str], font: str) -> None:
        name = local(element.tag)
        if name in _NOTES:
            self._note(name, value_of(element, "id"), out)
        elif name == "t":
            if not any(self._fields[:-1]):  # no part of the instruction of a field around this one
                out.append(in_font(font, (element.text or "").replace("\xad", "")))
        elif name == "r":
            self._run(element, out)
        elif name in GONE:
            if self._tracked:
                self._change("deleted" if name == "del" else "moved from here", element, out, font)
        elif name in _CAME:
            if self._tracked:
                self._change("inserted" if name == "ins" else "moved to here", element, out, font)
            else:
                self._all(element, out, font)
        elif name == "sdt":
            self._control(element, out, font)
        elif name == "AlternateContent":
            for item in chosen(element):
                self._add(item, out, font)
        elif name == "txbxContent":
            self._box("text box", self._flat(element))
        elif name == "textpath" and value_of(element, "string"):
            self._box("watermark", value_of(element, "string"))
        elif name in ("oMath", "oMathPara"):
            out.append(linear(element))
        elif name == "ruby":
            above = self._text(or_empty(child(element, "rt")))
            out.append(self._text(or_empty(child(element, "rubyBase"))) + (f"({above})" if above else ""))
        elif name == "relIds":
            self._diagram(value_of(element, "dm"))
        elif name == "fldSimple":
            self._all(element, out, font)
        elif name == "delText" and self._tracked:
            out.append(element.text or "")
        elif name in MARKS:
            out.append(MARKS[name])
        elif name == "br":
            out.append(PAGE if value_of(element, "type") == "page" else "\n")
        elif name == "sym":
            out.append(symbol_of(element))
        elif name == "fldChar":
            form = child(element, "ffData")
            if form is None:
                self._field(value_of(element, "fldCharType"))
            out.append(form_field(form))
        elif name not in _SILENT:
            self._all(element, out, font)

    def _all(self, element: Element, out: list[str], font: str) -> None:
        for item in element:
            self._add(item, out, font)

    def _run(self, element: Element, out: list[str]) -> None:
        properties = child(element, "rPr")
        fonts = child(properties, "rFonts")
        font = value_of(fonts, "ascii") or value_of(fonts, "hAnsi")
        if is_on(child(properties, "vanish")):
            hidden: list[str] = []
            self._all(element, hidden, font)
            text = "".join(hidden)
            out.append(f"[hidden: {text}]" if text.strip() else text)
        else:
            self._all(element, out, font)

    def _field(self, part: str) -> None:
        if part == "begin":
            self._fields.append(True)
        elif self._fields and part == "separate":
            self._fields[-1] = False
        elif self._fields:
            self._fields.pop()

    def _change(self, what: str, element: Element, out: list[str], font: str) -> None:
        inner: list[str] = []
        self._all(element, inner, font)
        text = "".join(inner)
        if text:
            author = value_of(element, "author")
            out.append(f"[{what}{f' by {author}' if author else ''}: {text}]")

    def _control(self, element: Element, out: list[str], font: str) -> None:
        properties = child(element, "sdtPr")
        content = child(element, "sdtContent")
        if (box := child(properties, "checkbox")) is not None:
            out.append("☒" if is_on(child(box, "checked")) else "☐")
        elif content is not None:
            inner: list[str] = []
            self._all(content, inner, font)
            text = "".join(inner)
            title = value_of(child(properties, "alias"))
            if is_on(child(properties, "showingPlcHdr")):
                text = f"[empty field{f' {title}' if title else ''}: {text.strip()}]"
            out.append(text)

    def _box(self, kind: str, text: str) -> None:
        if text.strip():
            self._behind.append(f"[{kind}: {text.strip()}]")

    def _diagram(self, relation: str) -> None:
        target = self._relations.get(relation, ("", ""))[1]
        if target in self._package:
            texts = (plain_text(point) for point in self._package.tree(target).iter() if local(point.tag) == "pt")
            self._box("diagram", "; ".join(text for text in texts if text))

    # -- notes, headers and footers --------------------------------------------------------------------

    def _part(self, kind: str) -> Element | None:
        """Return the root of the part of a kind: by the main part's relation, or by its usual name where none says."""
        name = next((target for found, target in self._relations.values() if found == kind), "")
        if name not in self._package and not self._relations:
            name = f"{self._main.rpartition('/')[0]}/{kind}.xml"
        return self._package.tree(name) if name and name in self._package else None

    def _notes_of(self, kind: str) -> dict[str, Element]:
        if kind not in self._notes:
            root = self._part(f"{kind}s")
            self._notes[kind] = {
                value_of(item, "id"): item
                for item in (root if root is not None else ())
                if local(item.tag) == kind and value_of(item, "type", "normal") == "normal"
            }
        return self._notes[kind]

    def _note(self, name: str, key: str, out: list[str]) -> None:
        kind = _NOTES[name]
        note = self._notes_of(kind).get(key)
        if note is None or (kind, key) in self._shown:
            return
        self._shown.add((kind, key))
        label = kind
        if kind == "comment":
            author = value_of(note, "author")
            label = f"comment by {author}" if author else "comment"
        else:
            self._counts[kind] += 1
            label = f"{kind} {self._counts[kind]}"
            out.append(f"[{label}]")
        at = len(self._behind)
        text = self._flat(note)
        self._behind.insert(at, f"[{label}: {text}]")

    def _rest_of_notes(self) -> Iterator[str]:
        """Yield the notes that nothing in the text points to."""
        for kind in ("footnote", "endnote", "comment"):
            for key, note in self._notes_of(kind).items():
                if (kind, key) not in self._shown and (text := self._flat(note)):
                    yield f"[{kind}: {text}]\n\n"
        yield from (f"{part}\n\n" for part in self._taken())

    def _with_margins(self, section: list[str], settings: Element) -> list[str]:
        """Return a section with its headers before and its footers behind it; a part that stood before is not shown again."""
        above: list[str] = []
        below: list[str] = []
        for item in settings:
            name, kind = local(item.tag), value_of(item, "type", "default")
            if name not in ("headerReference", "footerReference"):
                continue
            if (kind == "first" and not is_on(child(settings, "titlePg"))) or (kind == "even" and not self._even):
                continue
            target = self._relations.get(value_of(item, "id"), ("", ""))[1]
            if target in self._margins or target not in self._package:
                continue
            self._margins.add(target)
            outer, self._relations = self._relations, self._package.relations(target)
            text = self._flat(self._package.tree(target))
            self._relations = outer
            where = "first page's " if kind == "first" else "even pages' " if kind == "even" else ""
            what = name.removesuffix("Reference")
            parts = ([f"[{where}{what}: {text}]"] if text.strip() else []) + self._taken()
            (above if what == "header" else below).extend(f"{part}\n\n" for part in parts)
        return above + section + below
