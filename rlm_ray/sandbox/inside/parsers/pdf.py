"""The text of a PDF: its pages, the values of form fields, annotations, and the names of attached files."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

#: Forms that fonts have for letters and that nobody types: ligatures, Arabic presentation forms, Kangxi radicals.
_FORMS = re.compile("[\ufb00-\ufb4f\ufb50-\ufdff\ufe70-\ufefc\u2e80-\u2fdf]")
_MAX_FIELDS = 100_000


def read(data: bytes) -> Iterator[str]:
    """Yield the text of each page; what belongs to no page comes last."""
    import logging

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what it thinks of a file is nobody's news
    try:
        from pypdf import PdfReader
    except ImportError as error:
        raise ValueError(f"{error}: " + "reading PDF needs the extra documents: pip install 'rlm-ray[documents]'") from None

    reader = PdfReader(io.BytesIO(data), strict=False)
    if reader.is_encrypted and not reader.decrypt(""):
        raise ValueError("it is encrypted, and opens with a password only")
    shown: set[int] = set()
    for page in reader.pages:
        text = _plain(page.extract_text() or "")
        notes = [note for note in _annotations(page, shown) if note]
        yield "\n".join([text, *notes]) if notes else text
    rest = [*_fields(reader, shown), *_attachments(reader)]
    if rest:
        yield "\n".join(rest)


def _plain(text: str) -> str:
    """Replace ligatures and the like by the letters that they stand for, and leave out soft hyphens at no line's end."""
    text = _FORMS.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    return re.sub("\xad(?=\\S)", "", text).replace("\x00", "")


def _annotations(page: Any, shown: set[int]) -> Iterator[str]:
    for reference in _list(page.get("/Annots")):
        item = _dict(reference)
        kind = item.get("/Subtype")
        if kind == "/Widget":
            yield _field(item, shown)
        elif kind == "/FileAttachment":
            holder = _dict(item.get("/FS"))
            yield f"[attached file: {_string(holder.get('/UF')) or _string(holder.get('/F'))}, not read]"
        elif kind not in ("/Popup", "/Link") and not _hidden(item):
            text = _string(item.get("/Contents"))
            if text:
                what = "note" if kind in ("/Text", "/Highlight", "/Underline", "/StrikeOut", "/Squiggly") else "text on the page"
                author = _string(item.get("/T"))
                yield f"[{what}{f' by {author}' if author else ''}: {text}]"
        elif kind == "/Link" and (text := _string(item.get("/Contents"))):
            yield f"[link: {text}]"


def _hidden(item: Any) -> bool:
    flags = item.get("/F", 0)
    return isinstance(flags, int) and bool(flags & 2)


def _field(item: Any, shown: set[int]) -> str:
    """Return a field's name and value; empty where it has none, or has been shown."""
    names: list[str] = []
    kind = value = None
    flags = 0
    holder, seen = item, 0
    owner = id(item)
    while holder and seen < 50:
        seen += 1
        if name := _string(holder.get("/T")):
            names.insert(0, name)
        kind = kind or holder.get("/FT")
        flags = flags or int(holder.get("/Ff", 0) or 0)
        if value is None and "/V" in holder:
            value, owner = holder.get("/V"), id(holder)
        holder = _dict(holder.get("/Parent"))
    name = ".".join(names) or "field"
    states = [key for key in _dict(_dict(item.get("/AP")).get("/N")) if key != "/Off"]
    if kind == "/Btn":
        if flags & (1 << 16):  # a push button has no value
            return ""
        state = item.get("/AS", value)
        on = state is not None and str(state) != "/Off" and (not states or str(state) in states)
        export = f" {states[0].lstrip('/')}" if states and (flags & (1 << 15)) else ""
        shown.add(id(item))
        return f"[{'☒' if on else '☐'} {name}{export}]"
    if owner in shown:
        return ""
    shown.add(owner)
    shown.add(id(item))
    if kind == "/Sig":
        signature = _dict(value)
        who = _string(signature.get("/Name"))
        return f"[signed {name}{f' by {who}' if who else ''}]" if signature else ""
    if flags & (1 << 13) and kind == "/Tx":
        return ""  # a password
    texts = [_string(part) for part in (value if isinstance(value, list) else [value])]
    text = ", ".join(filter(None, texts))
    if kind == "/Ch" and text:
        for option in _list(item.get("/Opt")):
            pair = _list(option)
            if len(pair) == 2 and _string(pair[0]) == text:
                text = _string(pair[1])
    return f"[field {name}: {text}]" if text else ""


def _fields(reader: Any, shown: set[int]) -> Iterator[str]:
    """Yield fields that stand on no page."""
    root = _dict(reader.trailer.get("/Root"))
    form = _dict(root.get("/AcroForm"))
    waiting = [(_dict(item), 0) for item in reversed(_list(form.get("/Fields")))]
    count = 0
    while waiting and count < _MAX_FIELDS:
        count += 1
        item, depth = waiting.pop()
        kids = [_dict(kid) for kid in _list(item.get("/Kids"))]
        if kids and depth < 50:
            waiting += [(kid, depth + 1) for kid in reversed(kids)]
        elif id(item) not in shown and (text := _field(item, shown)):
            yield text
    if "/XFA" in form and not _list(form.get("/Fields")):
        yield "[a form in XFA: its fields are not read]"


def _attachments(reader: Any) -> Iterator[str]:
    try:
        names = list(reader.attachments)
    except Exception:  # noqa: BLE001 - a damaged list of attachments does not take the text with it
        yield "[attached files: their list is damaged]"
        return
    for name in names[:10_000]:
        yield f"[attached file: {name}, not read]"


def _dict(item: Any) -> Any:
    item = item.get_object() if hasattr(item, "get_object") else item
    return item if isinstance(item, dict) else {}


def _list(item: Any) -> Any:
    item = item.get_object() if hasattr(item, "get_object") else item
    return item if isinstance(item, list) else []


def _string(item: Any) -> str:
    item = item.get_object() if hasattr(item, "get_object") else item
    if isinstance(item, bytes):
        item = item.decode("latin-1")
    if not isinstance(item, str):
        return ""
    text = item[1:] if item.startswith("/") and type(item).__name__ == "NameObject" else item
    return " ".join(_plain(text).split())
