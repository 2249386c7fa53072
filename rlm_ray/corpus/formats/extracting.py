"""Text of documents (PDF, DOCX, ODT, RTF). Their parsers read hostile bytes: they run in a sandbox, which a room above hands in."""

from __future__ import annotations

import importlib.util
import posixpath
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection

from rlm_ray.corpus.shard import Shard
from rlm_ray.errors import MissingExtra, ObjectUnreadable

#: What has to be parsed, by ending. Of `.doc` the parser says only what it is: nothing well-kept reads it.
KINDS = {".pdf": "pdf", ".odt": "odt", ".ott": "odt", ".rtf": "rtf", ".doc": "doc", ".dot": "doc"} | dict.fromkeys(
    (".docx", ".docm", ".dotx", ".dotm"), "docx"
)
_COMPRESSED = (".gz", ".gzip", ".zst", ".zstd")
#: Between two pages of a document's text: `split("text", by="\\f")` gives the pages.
PAGE = "\f"
#: Characters of the texts that a process keeps: a citation often looks at what was just read.
KEPT_CHARS = 32 << 20

#: `extractor(kind, data)` returns a document's pages; raises ValueError with the reason where there are none.
Extractor = Callable[[str, bytes], list[str]]
_extractor: Extractor | None = None
_kept: OrderedDict[tuple[str, str, str], str] = OrderedDict()
_kept_chars = 0
_lock = threading.Lock()


def use(extractor: Extractor) -> None:
    """Name what extracts, in this process."""
    global _extractor
    _extractor = extractor


def kind_of(uri: str) -> str | None:
    """Return what has to be parsed, by the name's ending; None is text.

    Examples
    --------
    >>> kind_of("s3://contracts/A.PDF"), kind_of("a.docx.gz"), kind_of("a.txt")
    ('pdf', 'docx', None)
    """
    name, ending = posixpath.splitext(uri.lower())
    return KINDS.get(posixpath.splitext(name)[1] if ending in _COMPRESSED else ending)


def kind_in(data: bytes) -> str | None:
    """Return what has to be parsed, by the first bytes, whatever the name says; None is text.

    Examples
    --------
    >>> kind_in(b"%PDF-1.7"), kind_in(b"plain words")
    ('pdf', None)
    """
    return next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)


_MAGIC = {b"%PDF-": "pdf", b"PK\x03\x04": "zip", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "doc", b"{\\rtf": "rtf"}


def require(uris: Collection[str]) -> None:
    """Check, before anything is read, that what parses these objects is installed.

    Raises
    ------
    MissingExtra
        The extra `documents` is not installed.
    """
    for kind, module in (("pdf", "pypdf"), ("rtf", "striprtf")):
        first = next((uri for uri in uris if kind_of(uri) == kind), None)
        if first is not None and importlib.util.find_spec(module) is None:
            raise MissingExtra(f"Reading {first}", "documents")


def text_of(shard: Shard, data: bytes) -> str:
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
    if _extractor is None:
        raise ObjectUnreadable(
            f"{shard.uri} has to be parsed, and this process has no sandbox for it. Use rlm_ray.open or rlm-ray."
        )
    try:
        changes = "+changes" if shard.tracked_changes == "shown" else ""
        pages = _extractor((kind_of(shard.uri) or kind_in(data) or "") + changes, data)
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
