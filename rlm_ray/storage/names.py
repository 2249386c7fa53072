"""URIs of objects, and globs over them. Pure: reads nothing.

A URI is a local path (relative, absolute, `~`, `file://`), `s3://bucket/key` or `memory://name` (this process only).
Local URIs become absolute paths, S3 and memory URIs keep their scheme.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple
from urllib.parse import unquote

from rlm_ray.errors import InputError

WILD = re.compile(r"[*?\[]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class ObjectInfo(NamedTuple):
    """One object of a listing: its URI, its size in bytes and its version."""

    uri: str
    size: int
    version: str


def scheme(uri: str) -> str:
    """Return `file`, `s3` or `memory`.

    Raises
    ------
    InputError
        Another scheme.

    Examples
    --------
    >>> scheme("s3://lake/logs"), scheme("logs/*.gz")
    ('s3', 'file')
    """
    match = _SCHEME.match(uri)
    if match is None:
        return "file"
    name = match[1].lower()
    if name == "s3a":
        return "s3"
    if name not in ("file", "s3", "memory"):
        raise InputError(
            f"{uri!r:.300} has the scheme '{name}', which rlm_ray cannot read. Use a local path, file://, s3:// or memory://."
        )
    return name


def is_local(uri: str) -> bool:
    """Whether `uri` is on this machine's file system."""
    return scheme(uri) == "file"


def normal(uri: str) -> str:
    """Return the URI in the form that listings and addresses use. Reads nothing.

    Raises
    ------
    InputError
        Empty, or a scheme that does not work.

    Examples
    --------
    >>> normal("file:///data/a%20b.log"), normal("s3a://lake//logs/")
    ('/data/a b.log', 's3://lake/logs')
    """
    uri = os.fspath(uri)
    if not uri.strip():
        raise InputError("An empty URI names nothing. Give a path, an s3:// URI or a glob.")
    kind = scheme(uri)
    if kind == "file":
        path = unquote(uri[len("file://") :]) if _SCHEME.match(uri) else uri
        return os.path.abspath(os.path.expanduser(path))
    rest = uri.split("://", 1)[1].strip("/")
    if kind == "s3":
        bucket, _, key = rest.partition("/")
        if not bucket:
            raise InputError(f"{uri!r} names no bucket. Write s3://bucket/prefix.")
        rest = bucket + ("/" + key.lstrip("/") if key.lstrip("/") else "")
    return f"{kind}://{rest}"


def literal(location: str) -> str:
    """Return a location that a table's metadata name as a URI: its characters are those of the name, `%2F` too.

    Some writers escape local ones as in a URL; where only that file is there, it is meant.

    Examples
    --------
    >>> literal("file:///data/city=A%2FB/a.parquet"), literal("file:/data/a"), literal("s3://lake/a%20b")
    ('/data/city=A%2FB/a.parquet', '/data/a', 's3://lake/a%20b')
    """
    match = re.match(r"file:(?://[^/]*)?(?=/)", location)
    if match is None:
        return normal(location)
    path = os.path.abspath(location[match.end() :])
    other = unquote(path)
    return other if other != path and not os.path.exists(path) and os.path.exists(other) else path


def join(uri: str, *parts: str) -> str:
    """Append path parts.

    Examples
    --------
    >>> join("s3://lake/runs", "r1", "journal")
    's3://lake/runs/r1/journal'
    """
    return "/".join([uri.rstrip("/") or uri, *(part.strip("/") for part in parts)])


def glob_regex(pattern: str) -> re.Pattern[str]:
    """A glob as a regular expression; what matches a directory matches all below it."""
    out = []
    index = 0
    while index < len(pattern):
        char = pattern[index]
        if pattern.startswith("**/", index):
            out.append(r"(?:[^/]+/)*")
            index += 3
        elif pattern.startswith("**", index):
            out.append(r".*")
            index += 2
        elif char == "*":
            out.append(r"[^/]*")
            index += 1
        elif char == "?":
            out.append(r"[^/]")
            index += 1
        elif char == "[" and (end := pattern.find("]", index + 2)) > 0:
            inside = pattern[index + 1 : end].replace("\\", "\\\\")
            out.append("[" + ("^" + inside[1:] if inside[0] == "!" else inside.replace("^", r"\^")) + "]")
            index = end + 1
        else:
            out.append(re.escape(char))
            index += 1
    return re.compile("".join(out) + r"(?:/.*)?", re.DOTALL)


def is_hidden(name: str) -> bool:
    """Whether a file or directory is left out of listings: `.x` and `_x`, but not the partition `_day=1`."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name)
