"""URIs of objects, and globs over them. Pure: reads nothing.

A URI is a local path (relative, absolute, `~`, `file://`), an object of a store (`s3://bucket/key`, `gs://bucket/key`,
`az://container/key`, `abfss://container@account.dfs.core.windows.net/key`, `hf://datasets/owner/name/path`,
`https://host/path`) or `memory://name` (this process only). Local URIs become absolute paths, others keep their scheme.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple
from urllib.parse import unquote

from rlm_ray.errors import InputError

WILD = re.compile(r"[*?\[]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
#: What is meant as a URI, and is none: an ARN, or a scheme with its slashes or its colon left out.
_NEARLY = re.compile(
    r"\s*(arn:[a-z0-9-]+:s3[a-z0-9-]*:|(s3a?|memory|gs|gcs|az|hf|https?|hdfs|abfss?|wasbs?):|s3a?//)", re.IGNORECASE
)
_ARN = re.compile(r"arn:[a-z0-9-]+:s3:::([^/\s]+.*)", re.IGNORECASE)
_AMAZON = re.compile(
    r"https?://(?:(?P<host>[a-z0-9.-]+)\.)?s3[.-](?:[a-z0-9-]+\.)*amazonaws\.com(?:\.cn)?/(?P<path>[^?#]*)", re.IGNORECASE
)
#: Schemes as they are written, and what each is.
_KINDS = {name: name for name in ("file", "memory", "s3", "gs", "az", "hf", "http")}
_KINDS |= {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az", "https": "http"}
#: Stores whose keys may have any parts, also empty ones.
_KEYED = frozenset({"s3", "gs", "az"})
#: How a URI of each is written, and where its keys come from instead.
_WRITTEN = {
    "s3": ("s3://bucket/prefix", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"),
    "gs": ("gs://bucket/prefix", "set GOOGLE_APPLICATION_CREDENTIALS"),
    "az": ("az://container/prefix", "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or log in"),
    "hf": ("hf://datasets/owner/name/path", "set HF_TOKEN"),
    "http": ("https://host/path", "copy what needs a key to object storage"),
}
#: A container of a named account of Azure, as Hadoop writes it.
_ACCOUNT = re.compile(r"(?P<container>[a-z0-9$-]+)@(?P<account>[a-z0-9]+)\.(?:dfs|blob)\.(?P<suffix>[a-z0-9.-]+)")
#: Keys before a host, as in scheme://KEY:SECRET@bucket. A secret may have slashes.
_USER = re.compile(r"(:/{1,2})(?:[^/@\s]*:[^@\s]*@|[^/@\s]+@)")
_WEB, _LOGIN = re.compile(r"(?i)\s*https?:"), re.compile(r"(:/{1,2})[^/@\s]*@")
_NAMED = re.compile(r"(?i)(?:az|abfss?)://" + _ACCOUNT.pattern)
_COLON = re.compile(r"(?i)((?:s3a?|gc?s|az|abfss?|hf):/{1,2}(?!arn:)[^/:@\s]*):[^/@\s]*")
_BUCKET = re.compile(r"[^:@\s]+")
_SECRET = re.compile(
    r"(?i)([?&;](?:[a-z0-9_.-]*(?:signature|token|secret|credential|passw|accesskey|access_key|api_key|apikey)[a-z0-9_.-]*|sig|key)=)"
    r"[^&;#\s]*"
)


#: What a presigned address ends with.
_PRESIGNED = re.compile(r"(?i)[?&](?:x-amz-(?:signature|credential|security-token)|awsaccesskeyid)=")


def shown(uri: str) -> str:
    """Return a URI as it may be printed: without the keys and signatures that some people write into one.

    Examples
    --------
    >>> shown("s3://AKIA:se/cret@lake/logs"), shown("https://host/a.log?X-Amz-Signature=abc&n=1")
    ('s3://***@lake/logs', 'https://host/a.log?X-Amz-Signature=***&n=1')
    >>> shown("s3://lake/mail/a@b.org:1")
    's3://lake/mail/a@b.org:1'
    """
    if _NAMED.match(uri):
        return _SECRET.sub(r"\1***", uri)
    return _SECRET.sub(r"\1***", _COLON.sub(r"\1:***", (_LOGIN if _WEB.match(uri) else _USER).sub(r"\1***@", uri)))


def _hint(uri: str) -> str:
    """Say how what was meant is written."""
    uri = uri.strip()
    if match := _ARN.match(uri):
        return f"An ARN is written as s3://{match[1]}"
    if uri.lower().startswith("arn:"):
        return "An access point is named by its alias, as in s3://my-point-abc-s3alias/prefix."
    if match := _AMAZON.match(uri):
        return f"An address of S3 is written as s3://{'/'.join(part for part in (match['host'], match['path']) if part)}"
    if match := re.match(r"(s3a?|memory|gc?s|az|abfss?|hf|https?):?[/\\]*(.*)", uri, re.IGNORECASE):
        meant = f"{match[1].lower()}://{shown('://' + match[2])[3:]}"
        return f"Write {meant} with a colon and two slashes; a local file of that name is ./{shown(uri)}"
    return "Use a local path, file://, s3://, gs://, az://, abfss://, hf://, https:// or memory://."


class ObjectInfo(NamedTuple):
    """One object of a listing: its URI, its size in bytes and its version."""

    uri: str
    size: int
    version: str


def scheme(uri: str) -> str:
    """Return what kind of place a URI names: `file`, `memory`, `s3`, `gs`, `az`, `hf` or `http`.

    Raises
    ------
    InputError
        Another scheme.

    Examples
    --------
    >>> scheme("s3a://lake/logs"), scheme("logs/*.gz"), scheme("abfs://lake/logs"), scheme("https://host/a.log")
    ('s3', 'file', 'az', 'http')
    """
    match = _SCHEME.match(uri)
    if match is None:
        if _NEARLY.match(uri):
            raise InputError(f"{shown(uri)!r:.300} is no path and no URI. {_hint(uri)}")
        return "file"
    name = match[1].lower()
    if name not in _KINDS:
        raise InputError(f"{shown(uri)!r:.300} has the scheme '{name}', which rlm_ray cannot read. {_hint(uri)}")
    if name.startswith("http") and _AMAZON.match(uri):
        raise InputError(f"{shown(uri)!r:.300} is an object of S3. {_hint(uri)}")
    return _KINDS[name]


def is_local(uri: str) -> bool:
    """Whether `uri` is on this machine's file system."""
    return scheme(uri) == "file"


def is_remote(uri: str) -> bool:
    """Whether `uri` is in a store that is asked over the network; each read of it is bound to one version."""
    return scheme(uri) not in ("file", "memory")


def is_pattern(uri: str) -> bool:
    """Whether a URI may be a glob; what has a `?` on the web is not."""
    return bool(WILD.search(uri)) and scheme(uri) != "http"


def normal(uri: str) -> str:
    """Return the URI in the form that listings and addresses use. Reads nothing.

    Raises
    ------
    InputError
        Empty, or a scheme that does not work.

    Examples
    --------
    >>> normal("file:///data/a%20b.log"), normal("s3a://lake/logs/")
    ('/data/a b.log', 's3://lake/logs')

    A key may begin with a slash, and have empty parts:

    >>> normal("s3://lake//logs/"), normal("s3://lake//"), normal("s3://lake/a//")
    ('s3://lake//logs', 's3://lake//', 's3://lake/a//')
    """
    uri = os.fspath(uri)
    if not uri.strip():
        raise InputError("An empty URI names nothing. Give a path, an s3:// URI or a glob.")
    kind = scheme(uri)
    if kind == "file":
        path = unquote(uri[len("file://") :]) if _SCHEME.match(uri) else uri
        return os.path.abspath(os.path.expanduser(path))
    rest = uri.split("://", 1)[1]
    if kind == "memory":
        return f"memory://{rest.strip('/')}"
    rest = rest.lstrip("/")
    bucket = rest.partition("/")[0]
    written, keys = _WRITTEN[kind]
    if bucket.lower().startswith("arn:"):
        raise InputError(f"{uri!r:.300} names no bucket. {_hint(rest)}")
    if not bucket:
        raise InputError(f"{shown(uri)!r:.300} names no bucket. Write {written}.")
    if shown(uri) != uri and (kind in ("http", "az") or _USER.search(uri) or _PRESIGNED.search(uri)):
        raise InputError(
            f"{shown(uri)!r:.300} has a key in it, which would be written into logs and reports. Write {written}, and {keys}."
        )
    if kind == "az" and (match := _ACCOUNT.fullmatch(bucket)):
        place = f"{match['container']}@{match['account']}.dfs.{match['suffix']}"
        return _ended(f"abfss://{place}{rest[len(bucket) :]}")
    if kind == "http":
        return f"{uri.split(':', 1)[0].lower()}://{rest.partition('#')[0]}"
    if not _BUCKET.fullmatch(bucket):
        raise InputError(f"'{kind}://{bucket.partition(':')[0]}:…' names no bucket: it has a colon. Write {written}.")
    return _ended(f"{kind}://{rest}")


def _ended(uri: str) -> str:
    """A URI of a store: one slash at the end says "below"; more of them are part of the keys."""
    return uri.removesuffix("/") if not uri.endswith("//") else uri


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
    base = uri[:-1] if uri.endswith("//") and has_any_key(uri) else uri.rstrip("/") or uri
    return "/".join([base, *(part.strip("/") for part in parts)])


def has_any_key(uri: str) -> bool:
    """Whether a URI is in a store whose keys may have empty parts."""
    return scheme(uri) in _KEYED


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
