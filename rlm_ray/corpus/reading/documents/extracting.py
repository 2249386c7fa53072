"""Text of documents (PDF, DOCX, ODT, RTF). Their parsers read hostile bytes, so the worker passes one that runs in a sandbox."""

from __future__ import annotations

import importlib.util
import threading
from collections import OrderedDict
from collections.abc import Collection

from rlm_ray.corpus.catalog.document_kinds import document_kind, kind_in
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.reading.parsed.foreign import Extractor
from rlm_ray.errors import MissingExtra, ObjectUnreadable

#: Between two pages of a document's text: `split("text", by="\\f")` gives the pages.
PAGE = "\f"
#: Characters of the texts that a process keeps: a citation often looks at what was just read.
KEPT_CHARS = 32 << 20

_kept: OrderedDict[tuple[str, str, str], str] = OrderedDict()
_kept_chars = 0
_lock = threading.Lock()


def require(uris: Collection[str]) -> None:
    """Check, before anything is read, that what parses these objects is installed.

    Raises
    ------
    MissingExtra
        The extra `documents` is not installed.
    """
    for kind, module in (("pdf", "pypdf"), ("rtf", "striprtf")):
        first = next((uri for uri in uris if document_kind(uri) == kind), None)
        if first is not None and importlib.util.find_spec(module) is None:
            raise MissingExtra(f"Reading {first}", "documents")


def text_of(shard: Shard, data: bytes, extract: Extractor | None) -> str:
    """Return the text of a document that has to be parsed, with a form feed between its pages.

    Raises
    ------
    ObjectUnreadable
        It cannot be parsed within the sandbox's bounds; names the object and the reason.
    """
    key = (shard.uri, shard.version, shard.tracked_changes)
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    if extract is None:
        raise ObjectUnreadable(
            f"{shard.uri} has to be parsed, and this process has no sandbox for it. Use rlm_ray.open or rlm-ray."
        )
    try:
        changes = "+changes" if shard.tracked_changes == "shown" else ""
        pages = extract((document_kind(shard.uri) or kind_in(data) or "") + changes, data)
    except ValueError as error:
        raise ObjectUnreadable(f"{shard.uri} cannot be parsed: {error}") from None
    text = PAGE.join(page.replace(PAGE, "\n") for page in pages)
    _keep(key, text)
    return text


def _keep(key: tuple[str, str, str], text: str) -> None:
    global _kept_chars
    with _lock:
        _kept_chars += len(text) - len(_kept.pop(key, ""))
        _kept[key] = text
        while len(_kept) > 1 and _kept_chars > KEPT_CHARS:
            _kept_chars -= len(_kept.popitem(last=False)[1])
