"""Automatic numbers of paragraphs as Word shows them: levels, formats, restarts, overrides, numbers that a style brings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from rlm_ray.sandbox.inside.parsers.packages import child, is_on, local, value_of
from rlm_ray.sandbox.inside.parsers.symbols import in_font

_ORDINALS = [
    "First",
    "Second",
    "Third",
    "Fourth",
    "Fifth",
    "Sixth",
    "Seventh",
    "Eighth",
    "Ninth",
    "Tenth",
    "Eleventh",
    "Twelfth",
    "Thirteenth",
    "Fourteenth",
    "Fifteenth",
    "Sixteenth",
    "Seventeenth",
    "Eighteenth",
    "Nineteenth",
]
_CARDINALS = [
    "Zero",
    "One",
    "Two",
    "Three",
    "Four",
    "Five",
    "Six",
    "Seven",
    "Eight",
    "Nine",
    "Ten",
    "Eleven",
    "Twelve",
    "Thirteen",
    "Fourteen",
    "Fifteen",
    "Sixteen",
    "Seventeen",
    "Eighteen",
    "Nineteen",
]
_TENS = ["Twenty", "Thirty", "Forty", "Fifty", "Sixty", "Seventy", "Eighty", "Ninety"]
_ROMAN = list(
    zip(
        (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1),
        ["m", "cm", "d", "cd", "c", "xc", "l", "xl", "x", "ix", "v", "iv", "i"],
        strict=True,
    )
)
MAX_LEVELS = 9


@dataclass(slots=True)
class Level:
    """How one level is numbered."""

    start: int = 1
    form: str = "decimal"
    text: str = ""
    restart: int | None = None
    legal: bool = False
    suffix: str = "tab"
    style: str = ""
    font: str = ""


@dataclass(slots=True)
class Definition:
    """A list: its levels, and the abstract list whose counters it shares."""

    abstract: str
    levels: dict[int, Level]
    starts: dict[int, int] = field(default_factory=dict)


class Numbering:
    """Counts paragraphs.

    Parameters
    ----------
    numbering, styles : Element, optional
        Roots of the parts `numbering.xml` and `styles.xml`.
    """

    def __init__(self, numbering: Element | None, styles: Element | None) -> None:
        self._styles: dict[str, Element] = {}
        self._chains: dict[str, list[Element]] = {}
        self._default = ""
        for style in styles if styles is not None else ():
            if local(style.tag) == "style":
                self._styles[value_of(style, "styleId")] = style
                if value_of(style, "type") == "paragraph" and is_on_attribute(style, "default"):
                    self._default = value_of(style, "styleId")
        self._definitions = _definitions(numbering, self._styles)
        self._counts: dict[str, list[int | None]] = {}
        self._started: set[tuple[str, int]] = set()

    def chain(self, style: str) -> list[Element]:
        """Return a style and those that it is based on."""
        if style in self._chains:
            return self._chains[style]
        name = style
        found: list[Element] = []
        while style in self._styles and len(found) < 50:
            found.append(self._styles[style])
            style = value_of(child(self._styles[style], "basedOn"))
        self._chains[name] = found
        return found

    def properties(self, paragraph: Element | None) -> list[Element]:
        """Return the paragraph properties that hold, the nearest first: its own, then those of its styles."""
        style = value_of(child(paragraph, "pStyle")) or self._default
        own = [] if paragraph is None else [paragraph]
        return own + [item for item in (child(part, "pPr") for part in self.chain(style)) if item is not None]

    def label(self, paragraph: Element | None) -> str:
        """Return the number that Word shows before a paragraph with these properties, with what follows it; count it."""
        number, level = self._of(paragraph)
        definition = self._definitions.get(number)
        if definition is None or level not in definition.levels:
            return ""
        counts = self._counts.setdefault(definition.abstract, [None] * MAX_LEVELS)
        if level in definition.starts and (number, level) not in self._started:
            self._started.add((number, level))
            counts[level] = None
        form = definition.levels[level]
        start = definition.starts.get(level, form.start)
        counts[level] = start if counts[level] is None else int(counts[level] or 0) + 1
        for upper in range(level):
            if counts[upper] is None:  # a level that was passed over counts as begun
                counts[upper] = definition.starts.get(upper, definition.levels.get(upper, form).start)
        for deeper in range(level + 1, MAX_LEVELS):
            after = definition.levels[deeper].restart if deeper in definition.levels else None
            if after is None or (after != 0 and level < after):
                counts[deeper] = None
        return _shown(definition.levels, counts, level)

    def _of(self, paragraph: Element | None) -> tuple[str, int]:
        number = level = None
        style = value_of(child(paragraph, "pStyle")) or self._default
        own = child(paragraph, "numPr")
        if own is not None:
            number, level = value_of(child(own, "numId")) or None, value_of(child(own, "ilvl")) or None
        by_style = ""
        for part in self.chain(style):
            there = child(part, "pPr", "numPr")
            if number is None and there is not None and value_of(child(there, "numId")):
                number = value_of(child(there, "numId"))
                by_style = value_of(part, "styleId")
            if level is None and there is not None and value_of(child(there, "ilvl")):
                level = value_of(child(there, "ilvl"))
        if number is None or number == "0":
            return "", 0
        if by_style and number in self._definitions:
            names = {value_of(part, "styleId") for part in self.chain(style)} - {""}
            # a level that names the style is the one it gives, whatever else is said
            for at, form in self._definitions[number].levels.items():
                if form.style == style or (level is None and form.style in names):
                    level = str(at)
        at = int(level) if level is not None and level.isdigit() else 0
        return number, min(at, MAX_LEVELS - 1)


def is_on_attribute(element: Element, name: str) -> bool:
    """Whether an attribute says yes."""
    return value_of(element, name).lower() in ("1", "true", "on")


def _definitions(root: Element | None, styles: dict[str, Element]) -> dict[str, Definition]:
    abstract: dict[str, Element] = {}
    by_style: dict[str, str] = {}
    numbers: list[Element] = []
    for item in root if root is not None else ():
        if local(item.tag) == "abstractNum":
            abstract[value_of(item, "abstractNumId")] = item
            if (link := child(item, "styleLink")) is not None:
                by_style[value_of(link)] = value_of(item, "abstractNumId")
        elif local(item.tag) == "num":
            numbers.append(item)
    found = {}
    for item in numbers:
        name = value_of(child(item, "abstractNumId"))
        link = child(abstract.get(name), "numStyleLink")
        if link is not None:  # the levels stand where the list style is defined
            name = by_style.get(value_of(link), name)
        levels = dict(_level(item) for item in _all(abstract.get(name), "lvl"))
        starts = {}
        for override in _all(item, "lvlOverride"):
            at = _number(value_of(override, "ilvl"), 0)
            if (own := child(override, "lvl")) is not None:
                levels[at] = _level(own)[1]
                starts[at] = levels[at].start
            if (begin := child(override, "startOverride")) is not None:
                starts[at] = _number(value_of(begin), 1)
        found[value_of(item, "numId")] = Definition(name, levels, starts)
    return found


def _all(element: Element | None, name: str) -> list[Element]:
    return [] if element is None else [item for item in element if local(item.tag) == name]


def _number(text: str, default: int) -> int:
    return int(text) if re.fullmatch(r"-?\d{1,9}", text) else default


def _level(element: Element) -> tuple[int, Level]:
    restart = child(element, "lvlRestart")
    form = child(element, "numFmt")
    for item in element:  # Word 2010 writes custom formats beside a plain one
        if local(item.tag) == "AlternateContent":
            form = next((found for name in ("Choice", "Fallback") if (found := child(item, name, "numFmt")) is not None), form)
    fonts = child(element, "rPr", "rFonts")
    return _number(value_of(element, "ilvl"), 0), Level(
        _number(value_of(child(element, "start")), 0 if child(element, "start") is None else 1),
        (value_of(form, "format") if value_of(form) == "custom" else "") or value_of(form, default="decimal"),
        value_of(child(element, "lvlText")),
        None if restart is None else _number(value_of(restart), 0),
        is_on(child(element, "isLgl")),
        value_of(child(element, "suff"), default="tab"),
        value_of(child(element, "pStyle")),
        value_of(fonts, "ascii") or value_of(fonts, "hAnsi"),
    )


def _shown(levels: dict[int, Level], counts: list[int | None], level: int) -> str:
    form = levels[level]
    if form.form == "bullet":
        mark = in_font(form.font, form.text)
        text = {"�": "•", "o": "o"}.get(mark, mark)
    else:

        def number(match: re.Match[str]) -> str:
            at = int(match[1]) - 1
            if at > level or at not in levels:
                return ""
            kind = levels[at].form
            if form.legal and kind not in ("decimalZero", "none"):
                kind = "decimal"
            return formatted(counts[at] if counts[at] is not None else levels[at].start, kind)  # type: ignore[arg-type]

        text = re.sub(r"%([1-9])", number, form.text)
    if not text:
        return ""
    return text + {"space": " ", "nothing": ""}.get(form.suffix, "\t")


def formatted(count: int, form: str) -> str:
    """Return a number in one of Word's formats.

    Examples
    --------
    >>> formatted(4, "lowerRoman"), formatted(28, "lowerLetter"), formatted(7, "decimalZero"), formatted(22, "ordinal")
    ('iv', 'bb', '07', '22nd')
    >>> formatted(21, "ordinalText"), formatted(3, "cardinalText"), formatted(7, "001, 002, 003, ...")
    ('Twenty-first', 'Three', '007')
    """
    if form == "none":
        return ""
    if form in ("lowerLetter", "upperLetter") and count > 0:
        letters = chr(ord("a") + (count - 1) % 26) * ((count - 1) // 26 + 1)
        return letters if form == "lowerLetter" else letters.upper()
    if form in ("lowerRoman", "upperRoman") and 0 < count < 32768:
        roman, rest = "", count
        for value, letters in _ROMAN:
            roman, rest = roman + letters * (rest // value), rest % value
        return roman if form == "lowerRoman" else roman.upper()
    if form == "decimalZero":
        return f"{count:02d}"
    if re.match(r"0+1\b", form):
        return f"{count:0{len(form.split(',')[0].strip())}d}"
    if form == "ordinal":
        end = "th" if 10 <= count % 100 < 20 else {1: "st", 2: "nd", 3: "rd"}.get(count % 10, "th")
        return f"{count}{end}"
    if form in ("ordinalText", "cardinalText") and 0 < count < 100:
        return _in_words(count, form == "ordinalText")
    if form == "numberInDash":
        return f"- {count} -"
    if form == "decimalEnclosedCircle" and 0 < count <= 20:
        return chr(0x2460 + count - 1)
    if form == "decimalEnclosedParen" and 0 < count <= 20:
        return chr(0x2474 + count - 1)
    if form == "chicago" and count > 0:
        return "*†‡§"[(count - 1) % 4] * ((count - 1) // 4 + 1)
    if form == "hex":
        return f"{count:X}"
    return str(count)


def _in_words(count: int, ordinal: bool) -> str:
    if count < 20:
        return _ORDINALS[count - 1] if ordinal else _CARDINALS[count]
    tens, rest = _TENS[count // 10 - 2], count % 10
    if not rest:
        return tens[:-1] + "ieth" if ordinal else tens
    return f"{tens}-{(_ORDINALS[rest - 1] if ordinal else _CARDINALS[rest]).lower()}"
