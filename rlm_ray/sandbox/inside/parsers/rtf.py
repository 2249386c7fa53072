"""The text of a Rich Text Format file. What striprtf leaves out (notes, headers, boxes) is added behind the text."""

from __future__ import annotations

import re
from collections.abc import Iterator

#: Destinations that striprtf skips whose text a reader sees.
_NOTES = {"footnote": "footnote", "header": "header", "headerf": "header", "headerl": "header", "headerr": "header"} | {
    "footer": "footer",
    "footerf": "footer",
    "footerl": "footer",
    "footerr": "footer",
    "annotation": "comment",
    "shptxt": "text box",
}
_GROUP = re.compile(rb"\{\s*(?:\\\*\s*)?\\(footnote|header[flr]?|footer[flr]?|annotation|shptxt)\b")
_BINARY = re.compile(rb"\\bin(\d{1,9}) ?")
_HIDDEN = re.compile(rb"\{(?:\\\*)?(?:\\[a-z]+-?\d*)*\\(v|deleted)(?=[\\ {])(?!0)")


def read(data: bytes) -> Iterator[str]:
    """Yield one page: the file does not say where its pages begin."""
    try:
        from striprtf.striprtf import rtf_to_text
    except ImportError as error:
        raise ValueError(f"{error}: " + "reading RTF needs the extra documents: pip install 'rlm-ray[documents]'") from None
    data = _without_groups(_without_binary(data), _HIDDEN)
    head = b"{\\rtf1" + b"".join(re.findall(rb"\\(?:ansi(?:cpg\d+)?|deff\d+|uc\d+)", data[:400]))
    fonts = next((_group(data, match.start()) for match in re.finditer(rb"\{\s*\\fonttbl", data)), b"")
    parts = [rtf_to_text(data.decode("latin-1"), errors="replace")]
    for match in _GROUP.finditer(data):
        body = _group(data, match.start())[match.end() - match.start() : -1]
        text = rtf_to_text((head + fonts + b" " + body + b"}").decode("latin-1"), errors="replace").strip()
        if text:
            parts.append(f"[{_NOTES[match[1].decode()]}: {text}]")
    yield "\n\n".join(part.replace("|\n", "\n") for part in parts)


def _without_binary(data: bytes) -> bytes:
    """Leave out bytes that no reader shows, whatever they look like."""
    at, kept = 0, []
    while match := _BINARY.search(data, at):
        kept.append(data[at : match.start()])
        at = match.end() + int(match[1])
    return b"".join([*kept, data[at:]])


def _without_groups(data: bytes, pattern: re.Pattern[bytes]) -> bytes:
    at, kept = 0, []
    while match := pattern.search(data, at):
        kept.append(data[at : match.start()])
        at = match.start() + len(_group(data, match.start()))
    return b"".join([*kept, data[at:]])


def _group(data: bytes, start: int) -> bytes:
    """Return the group that begins at a brace."""
    depth = 0
    for match in re.compile(rb"\\.|[{}]", re.DOTALL).finditer(data, start):
        depth += {b"{": 1, b"}": -1}.get(match[0], 0)
        if depth == 0:
            return data[start : match.end()]
    return data[start:]
