"""Text of PDF and DOCX. Their parsers read hostile bytes, so they run in a sandbox, which a room above hands in."""

from __future__ import annotations

import importlib.util
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable

from rlm_ray.corpus.catalog.document_kinds import document_kind, kind_in
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.errors import MissingExtra, ObjectUnreadable

#: Between two pages of a document's text: `split("text", by="\\f")` gives the pages.
PAGE = "\f"
#: Characters of the texts that a process keeps: a citation often looks at what was just read.
KEPT_CHARS = 32 << 20

#: `extractor(kind, data)` returns a document's pages; raises ValueError with the reason where there are none.
Extractor = Callable[[str, bytes], list[str]]
_extractor: Extractor | None = None
_kept: OrderedDict[tuple[str, str], str] = OrderedDict()
_kept_chars = 0
_lock = threading.Lock()


def use(extractor: Extractor) -> None:
    """Name what extracts, in this process."""
    global _extractor
    _extractor = extractor


def require(uris: Iterable[str]) -> None:
    """Check, before anything is read, that what parses these objects is installed.

    Raises
    ------
    MissingExtra
        The extra `documents` is not installed.
    """
    pdf = next((uri for uri in uris if document_kind(uri) == "pdf"), None)
    if pdf is not None and importlib.util.find_spec("pypdf") is None:
        raise MissingExtra(f"Reading {pdf}", "documents")


def text_of(shard: Shard, data: bytes) -> str:
    """Return the text of a document that has to be parsed, with a form feed between its pages.

    Raises
    ------
    ObjectUnreadable
        It cannot be parsed within the sandbox's bounds; names the object and the reason.
    """
    key = (shard.uri, shard.version)
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    if _extractor is None:
        raise ObjectUnreadable(
            f"{shard.uri} has to be parsed, and this process has no sandbox for it. Use rlm_ray.open or rlm-ray."
        )
    try:
        pages = _extractor(document_kind(shard.uri) or kind_in(data) or "", data)
    except ValueError as error:
        raise ObjectUnreadable(f"{shard.uri} cannot be parsed: {error}") from None
    text = PAGE.join(page.replace(PAGE, "\n") for page in pages)
    _keep(key, text)
    return text


def _keep(key: tuple[str, str], text: str) -> None:
    global _kept_chars
    with _lock:
        _kept_chars += len(text) - len(_kept.pop(key, ""))
        _kept[key] = text
        while len(_kept) > 1 and _kept_chars > KEPT_CHARS:
            _kept_chars -= len(_kept.popitem(last=False)[1])
