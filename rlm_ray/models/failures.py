"""Classifies a failed attempt: retry, slow down, refused, or useless without another key."""

from __future__ import annotations

import datetime
import email.utils
import json
import math
import os
import re
import socket
import time
from collections.abc import Mapping
from typing import Any

from rlm_ray.errors import CredentialsError
from rlm_ray.models.contract import FAILED, Endpoint, Outcome, Usage

#: Statuses with which an endpoint says that it made no completion. 502 and 504 come from between and prove nothing.
_NOT_CHARGED = frozenset({408, 409, 425, 429, 500, 501, 503, 529})
_TRY_AGAIN = frozenset({408, 409, 425, 429})
_SLOW_DOWN = frozenset({429, 503, 529})
#: Words with which servers refuse a key though the status is another than 401: a proxy without a database says 400.
_ABOUT_KEY = re.compile(
    r"invalid_api_key|api_key_invalid|authentication_error|auth_error|no_db_connection|unauthenticated"
    r"|authentication (error|failed)|(invalid|incorrect|expired|missing|wrong|no)\b[^.\"]{0,20}\bapi[ _-]?key"
    r"|api[ _-]?key\b[^.\"]{0,20}\b(invalid|incorrect|expired|missing|not valid)",
    re.IGNORECASE,
)
#: A longer body may quote the request, whose data can say anything.
_LONGEST_KEY_BODY = 2_000
#: Exceptions of the transport that come before a byte of the request went out.
_NEVER_SENT = frozenset(
    {
        "ClientConnectorError", "ClientConnectorDNSError", "ClientConnectorSSLError", "ClientConnectorCertificateError",
        "ClientProxyConnectionError", "ConnectError", "ConnectTimeout", "ConnectionTimeoutError", "PoolTimeout", "ProxyError",
        "UnsupportedProtocol", "InvalidURL", "InvalidUrlClientError", "NonHttpUrlClientError", "LocalProtocolError",
        "SSLCertVerificationError", "UnixClientConnectorError",
    }
)  # fmt: skip
_KEY_LIKE = re.compile(r"\b(sk-|key-|Bearer )[\w*.\-]{6,}")
_LONGEST_REASON = 500
#: A number of seconds above this is a time, not a wait.
_UNIX_TIME = 1e9
_DURATION = re.compile(
    r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?"
)
_SCALES = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)
_TOO_LONG = re.compile(
    r"context.{0,20}(length|window|size)|too (long|large|many tokens)|maximum.{0,30}(length|tokens)", re.IGNORECASE
)


class Failed(Exception):
    """An attempt that may be made again.

    Attributes
    ----------
    reason : str
    charge : Usage or None
        What the attempt may have cost: nothing, what the endpoint reported, or None for unknown.
    outcome : Outcome
        For the limiter: `slow_down` when the endpoint has no room now.
    status : int or None
        The HTTP status, where the endpoint gave one that is no success.
    never_sent : bool
        No byte of the request left this process.
    """

    def __init__(
        self,
        reason: str,
        charge: Usage | None,
        outcome: Outcome = FAILED,
        status: int | None = None,
        *,
        never_sent: bool = False,
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.never_sent = never_sent
        self.reason = reason
        self.charge = charge
        self.outcome = outcome


class Refused(Exception):
    """The endpoint refused the request itself, or (without a status) the model declined to answer."""

    def __init__(self, status: int | None, reason: str, charge: Usage | None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.charge = charge
        self.outcome = FAILED


def from_status(status: int, headers: Mapping[str, str], content: bytes, endpoint: Endpoint, key: str) -> Exception:
    """The exception for an HTTP status that is no success: Failed, Refused or CredentialsError."""
    reason = shown(_message(content) or f"HTTP {status}", key)
    about_key = status == 400 and len(content) <= _LONGEST_KEY_BODY and _ABOUT_KEY.search(content.decode("utf-8", "replace"))
    if status in (401, 403) or about_key:
        return CredentialsError(
            f"{endpoint.name} refused the key in {endpoint.api_key_env} (HTTP {status}): {reason} "
            f"Set {endpoint.api_key_env} to a key that this endpoint accepts, or correct --base-url."
        )
    if status == 429 and b"insufficient_quota" in content:
        return CredentialsError(
            f"The account behind the key in {endpoint.api_key_env} has no quota left at {endpoint.name}: {reason} "
            "Add credit or use another key, then resume the run."
        )
    if status >= 500 or status in _TRY_AGAIN:
        outcome = Outcome("slow_down", retry_after(headers)) if status in _SLOW_DOWN else FAILED
        return Failed(f"HTTP {status}: {reason}", Usage() if status in _NOT_CHARGED else None, outcome, status)
    return Refused(status, reason, Usage())


def from_connection(error: BaseException, timeout: float, key: str) -> Failed:
    """The failure for an exception of the transport."""
    chain: list[BaseException] = []
    seen: BaseException | None = error
    while seen is not None and len(chain) < 8:
        chain.append(seen)
        seen = seen.__cause__ or seen.__context__
    names = {type(link).__name__ for link in chain}
    never_sent = bool(names & _NEVER_SENT) or any(isinstance(link, (ConnectionRefusedError, socket.gaierror)) for link in chain)
    root = chain[-1]
    if not never_sent and (names & {"ReadTimeout", "SocketTimeoutError"} or isinstance(error, TimeoutError)):
        return Failed(f"no reply within {timeout:g} s.", None, Outcome("timed_out", seconds=timeout))
    if never_sent:
        # no address here: the words may reach a model's prompt, and the error names the endpoint beside them
        return Failed(f"the endpoint cannot be reached ({_short(root)}).", Usage(), never_sent=True)
    return Failed(f"the connection broke ({_short(root)}).", None)


def _short(error: BaseException) -> str:
    """The kind of a transport's error, with the system's words where it has some."""
    number = error.errno if isinstance(error, OSError) else None
    words = os.strerror(number) if number is not None and 0 < number < 200 else ""
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that an endpoint asks to wait, in any of the forms in which servers and proxies say so; None: it names no time.

    `Retry-After` and `retry-after-ms` come first, also as a proxy renames them (`llm_provider-retry-after`). Without them the
    `…ratelimit-reset…` headers count, those of a limit that has something left excepted.

    Examples
    --------
    >>> retry_after({"retry-after": "2"}), retry_after({"retry-after-ms": "150"}), retry_after({})
    (2.0, 0.15, None)
    >>> retry_after({"llm_provider-retry-after": "1.5"}), retry_after({"x-ratelimit-reset-requests": "1m0.5s"})
    (1.5, 60.5)
    """
    given = {name.lower().removeprefix("llm_provider-"): text for name, text in headers.items()}
    for name, unit in (("retry-after-ms", 1000.0), ("x-ms-retry-after-ms", 1000.0), ("retry-after", 1.0)):
        seconds = _seconds(given[name], unit) if name in given else None
        if seconds is not None:
            return seconds
    resets = [
        seconds
        for name, text in given.items()
        if "ratelimit-" in name and "reset" in name
        if _none_left(given, name)
        if (seconds := _seconds(text)) is not None
    ]
    return max(resets, default=None)


def _none_left(headers: Mapping[str, str], reset: str) -> bool:
    """Whether the limit of a reset header has nothing left, as far as its own header says."""
    left = headers.get(reset.replace("reset", "remaining"))
    try:
        return left is None or float(left) <= 0
    except ValueError:
        return True


def _seconds(text: str, unit: float = 1.0) -> float | None:
    """Seconds from now in a number, a duration (`6m0s`), a Unix time or a date; None where it is none of them."""
    text = text.strip()
    try:
        number = float(text) / unit
    except ValueError:
        pass
    else:
        if number >= _UNIX_TIME * 1000:
            number /= 1000
        if number != number:  # NaN
            return None
        return max(0.0, number - time.time() if math.inf > number >= _UNIX_TIME else number)
    if text and (parts := _DURATION.fullmatch(text)) is not None:
        return sum(float(part) * scale for part, scale in zip(parts.groups("0"), _SCALES, strict=True))
    date = email.utils.parsedate_tz(text)
    if date is not None:
        return max(0.0, email.utils.mktime_tz(date) - time.time())
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp() - time.time())


def says_too_long(status: int | None, reason: str) -> bool:
    """Whether a refusal is about the request's length.

    Examples
    --------
    >>> says_too_long(400, "This model's maximum context length is 8192 tokens."), says_too_long(400, "No such parameter.")
    (True, False)
    """
    return status == 413 or bool(_TOO_LONG.search(reason))


def shown(text: str, key: str = "") -> str:
    """`text` as it may be shown: one line, cut, without the key or anything that looks like one."""
    text = " ".join(text.split())
    if len(key) >= 6:
        text = text.replace(key, "***")
    text = _KEY_LIKE.sub(r"\1***", text)
    if len(text) > _LONGEST_REASON:
        text = text[:_LONGEST_REASON] + f"… [{len(text) - _LONGEST_REASON} characters cut]"
    return text if text.endswith((".", "!", "?", "]")) else text + "."


def _message(content: bytes) -> str:
    """The server's own words: of the shapes that servers use, or the body as it is."""
    text = content[:20_000].decode("utf-8", "replace")
    try:
        found: Any = json.loads(text)
    except ValueError:
        return text
    for name in ("error", "message", "detail"):
        while isinstance(found, dict) and name in found:
            found = found[name]
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
