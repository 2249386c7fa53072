"""The text of a book (.epub), a page for each file of its spine (EPUB 3.3)."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from urllib.parse import unquote

from rlm_ray.sandbox.inside.parsers import html
from rlm_ray.sandbox.inside.parsers.packages import Package, child, local, value_of

_TYPES = ("application/xhtml+xml", "text/html")


def read(data: bytes) -> Iterator[str]:
    """Yield the text of each file, in the order in which they are read."""
    package = Package(data)
    if "META-INF/encryption.xml" in package and "META-INF/rights.xml" in package:
        raise ValueError("it is protected by rights")
    root = child(package.tree("META-INF/container.xml"), "rootfiles", "rootfile")
    place = value_of(root, "full-path")
    if not place:
        raise ValueError("it is damaged: its container names no book")
    book = package.tree(place)
    manifest, spine = child(book, "manifest"), child(book, "spine")
    files = {value_of(item, "id"): item for item in manifest if local(item.tag) == "item"} if manifest is not None else {}
    for entry in spine if spine is not None else ():
        item = files.get(value_of(entry, "idref"))
        if item is not None and value_of(item, "media-type") in _TYPES:
            name = posixpath.normpath(posixpath.join(posixpath.dirname(place), unquote(value_of(item, "href"))))
            yield from html.read(package.read(name))
