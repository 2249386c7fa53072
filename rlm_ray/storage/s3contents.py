"""The entries of a listing, taken out of the store's answer before botocore goes over it: that takes 0.12 ms an entry, this 0.006.

botocore looks up each member of each entry in its model of S3 (`botocore.parsers`). Its event `before-parse` lets a handler
give members of the result itself.
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from rlm_ray.storage.stores import Entry, Page
from rlm_ray.types.json import JsonObject

_EVENT = "before-parse.s3.ListObjectsV2"


def install(client: Any) -> None:
    """Let a client's listings have entries of `Key`, `Size` and `ETag` alone. May be called again."""
    client.meta.events.register(_EVENT, _take, unique_id="rlm-ray-contents")


def _take(response_dict: JsonObject, customized_response_dict: Page, **_: Any) -> None:
    """Move the entries from the body to the result; what is not as S3 writes it is left to botocore."""
    if response_dict["status_code"] >= 300:
        return
    try:
        root = ElementTree.fromstring(response_dict["body"])
    except ElementTree.ParseError:
        return
    space = root.tag[: root.tag.find("}") + 1]
    tags = [f"{space}{name}" for name in ("Key", "Size", "ETag")]
    found: list[Entry] = []
    others = []
    for child in root:
        if child.tag != f"{space}Contents":
            others.append(child)
            continue
        key, size, etag = map(child.findtext, tags)
        if not key or not size or not etag:
            return
        found.append({"Key": key, "Size": int(size), "ETag": etag})
    if found:
        root[:] = others
        response_dict["body"] = ElementTree.tostring(root)
        customized_response_dict["Contents"] = found
