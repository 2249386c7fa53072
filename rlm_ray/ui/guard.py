"""Lets in only browsers that hold the token, only to read, and tells them to load nothing from elsewhere."""

from __future__ import annotations

import hmac
from collections.abc import MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlencode

Scope: TypeAlias = MutableMapping[str, Any]

#: What pages may load: the style and the script of this server.
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}


class Guard:
    """An ASGI application before another one.

    It refuses a foreign `Host` (a page elsewhere may give its own name this machine's address), every method that could write, and
    every request without the token. The token comes once in the address; a cookie takes its place, so that it stands in no history.

    Parameters
    ----------
    app : ASGI application
    token : str
    port : int
        Of the server on loopback.
    """

    def __init__(self, app: Any, token: str, port: int) -> None:
        self._app = app
        self._token = token
        self._cookie = f"rlm_ray_ui_{port}"
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer a request, or let the application do it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if headers.get("host", "") not in self._hosts:
            await _refuse(send, 421, "This server answers at 127.0.0.1 and localhost alone.\n")
        elif scope["method"] not in ("GET", "HEAD"):
            await _refuse(send, 405, "This server only reads.\n", ("allow", "GET, HEAD"))
        elif (rest := self._without_token(scope)) is not None:
            cookie = f"{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Lax"
            await _refuse(send, 303, "", ("location", rest), ("set-cookie", cookie))
        elif not self._is_known(headers.get("cookie", "")):
            await _refuse(send, 401, "Open the address that `rlm-ray ui` printed: it has the token.\n")
        else:
            await self._app(scope, receive, _with_headers(send))

    def _without_token(self, scope: Scope) -> str | None:
        """The address without the token, where it has the right one."""
        given = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if not any(name == "token" and self._is_right(value) for name, value in given):
            return None
        rest = urlencode([(name, value) for name, value in given if name != "token"])
        path = "/" + scope["raw_path"].decode("latin-1").lstrip("/\\")  # two slashes would name another host
        return f"{path}?{rest}" if rest else path

    def _is_known(self, text: str) -> bool:
        try:
            cookie = SimpleCookie(text).get(self._cookie)
        except CookieError:
            return False
        return cookie is not None and self._is_right(cookie.value)

    def _is_right(self, token: str) -> bool:
        return hmac.compare_digest(token.encode("utf-8", "surrogatepass"), self._token.encode())


def _with_headers(send: Any) -> Any:
    """Add the headers of every page; a page may have a policy of its own."""

    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            known = {name.lower() for name, _ in message["headers"]}
            more = [(name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in known]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return sending


async def _refuse(send: Any, status: int, text: str, *headers: tuple[str, str]) -> None:
    body = text.encode()
    named = {"content-type": "text/plain; charset=utf-8", "content-length": str(len(body)), **HEADERS, **dict(headers)}
    start = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in named.items()]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
