"""Characters of Word's symbol fonts as Unicode: what a reader sees is a ticked box, not a letter of another font."""

from __future__ import annotations

_WINGDINGS = {
    0x22: "✂", 0x28: "☎", 0x2A: "✉", 0x36: "⌛", 0x3F: "✍", 0x41: "✌", 0x43: "👍", 0x44: "👎", 0x45: "☜", 0x46: "☞",
    0x47: "☝", 0x48: "☟", 0x4A: "☺", 0x4C: "☹", 0x4E: "☠", 0x54: "❄", 0x58: "✠", 0x6C: "●", 0x6D: "❍", 0x6E: "■", 0x6F: "□",
    0x70: "❐", 0x71: "❑", 0x72: "❒", 0x73: "⬧", 0x74: "⧫", 0x75: "◆", 0x76: "❖", 0x77: "⬥", 0x78: "⌧", 0x9E: "·", 0x9F: "•",
    0xA1: "○", 0xA2: "○", 0xA4: "◉", 0xA5: "◎", 0xA7: "▪", 0xA8: "☐", 0xAA: "✦", 0xAB: "★", 0xAC: "✶", 0xB6: "✰",
    0xD8: "➢", 0xDC: "➲", 0xDF: "←", 0xE0: "→", 0xE1: "↑", 0xE2: "↓", 0xE8: "➔", 0xEF: "⇦", 0xF0: "⇨", 0xF1: "⇧", 0xF2: "⇩",
    0xF3: "⬄", 0xFB: "✗", 0xFC: "✓", 0xFD: "☒", 0xFE: "☑",
} | {0x80 + n: c for n, c in enumerate("⓪①②③④⑤⑥⑦⑧⑨⑩⓿❶❷❸❹❺❻❼❽❾❿")}  # fmt: skip
_WINGDINGS_2 = {
    0x4F: "✗", 0x50: "✓", 0x51: "☒", 0x52: "☑", 0x53: "☒", 0x54: "☒", 0x55: "⮿", 0x56: "⛒", 0x97: "●", 0x98: "•",
    0x99: "○", 0xA2: "■", 0xA3: "☐", 0xA4: "☐", 0xA6: "☐",
}  # fmt: skip
_GREEK = "ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ"
_SYMBOL = (
    {0x41 + n: letter for n, letter in enumerate(_GREEK)}
    | {0x61 + n: letter for n, letter in enumerate("αβχδεφγηιϕκλμνοπθρστυϖωξψζ")}
    | {0x20 + n: chr(0x20 + n) for n in range(0x20)}
    | {0x22: "∀", 0x24: "∃", 0x27: "∋", 0x2A: "∗", 0x2D: "−", 0x40: "≅", 0x5B: "[", 0x5C: "∴", 0x5D: "]", 0x5E: "⊥", 0x5F: "_"}
    | {0x7B: "{", 0x7C: "|", 0x7D: "}", 0x7E: "∼", 0xA0: "€", 0xA1: "ϒ", 0xA2: "′", 0xA3: "≤", 0xA4: "⁄", 0xA5: "∞", 0xA6: "ƒ"}
    | {0xA7 + n: c for n, c in enumerate("♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…")}
    | {0xC0 + n: c for n, c in enumerate("ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓◊〈®©™∑")}
)
_FONTS = {
    "wingdings": _WINGDINGS,
    "wingdings 2": _WINGDINGS_2,
    "symbol": _SYMBOL,
    "webdings": {0x61: "✓", 0x63: "☐", 0x67: "■", 0x6E: "●", 0x72: "✗"},
    "zapfdingbats": {0x33: "✓", 0x34: "✔", 0x35: "✕", 0x36: "✖", 0x37: "✗", 0x38: "✘", 0x6C: "●", 0x6E: "■", 0x6F: "❏"},
}


def symbol(font: str, code: int) -> str:
    """Return what a character of a font shows; U+FFFD where a symbol font's character is not in the table.

    Examples
    --------
    >>> symbol("Wingdings", 0xF0FE), symbol("Wingdings", 0xF0A8), symbol("Symbol", 0xF0B0), symbol("Arial", 0x41)
    ('☑', '☐', '°', 'A')
    """
    table = _FONTS.get(font.strip().lower())
    if 0xF000 <= code <= 0xF0FF:
        code -= 0xF000
        if table is None:
            return chr(code) if 0x20 <= code < 0x7F else "�"
    if table is not None and code <= 0xFF:
        return table.get(code, "�")
    return chr(code) if 0x20 <= code <= 0x10FFFF and not 0xD800 <= code < 0xE000 else "�"


def in_font(font: str, text: str) -> str:
    """Return text that stands in a font; characters of the private area are those of symbol fonts."""
    if font.strip().lower() in _FONTS or any("\uf020" <= letter <= "\uf0ff" for letter in text):
        known = font.strip().lower() in _FONTS
        return "".join(
            symbol(font, ord(letter)) if not letter.isspace() and (known or "\uf020" <= letter <= "\uf0ff") else letter
            for letter in text
        )
    return text
