"""The endpoint itself: one aiohttp handler that speaks chat completions, and counts.

It runs on one event loop and keeps no locks; `server.py` puts it on a thread or into a process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import inspect
import json
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Required, TypedDict

from aiohttp import web

from rlm_ray.errors import InputError
from rlm_ray.testing.faults import Faults
from rlm_ray.testing.scripts import (
    Leaf,
    Message,
    Roots,
    ScriptEnded,
    echo,
    pick,
    prompt_of,
    text_of,
    tokens_of,
    turn,
    writes_code,
)
from rlm_ray.types.json import JsonObject


@dataclass
class Script:
    """What an endpoint answers with. `models` are the names it accepts; None accepts any."""

    root: Roots | None = None
    leaf: Leaf = echo
    models: tuple[str, ...] | None = ("root", "leaf")
    faults: Faults = field(default_factory=Faults)
    keep: int = 100_000
    keep_messages: bool = False


class ServerStats(TypedDict):
    """The counters of a model server."""

    count: int
    in_flight: int
    most_in_flight: int
    statuses: dict[str, int]
    tokens: dict[str, int]
    script_errors: list[str]


class RequestRecord(TypedDict, total=False):
    """A request that a model server got; `messages` and `body` where it keeps them."""

    number: Required[int]
    prompt: Required[str]
    status: int
    model: str | None
    typed: bool
    fault: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    messages: list[Message]
    body: JsonObject


class Endpoint:
    """State and handler of one endpoint."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.faults = script.faults
        self.count = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.statuses: dict[str, int] = {}
        self.tokens = {"prompt": 0, "completion": 0, "cached": 0}
        self.script_errors: list[str] = []
        self.requests: deque[RequestRecord] = deque(maxlen=script.keep)
        self._arrivals: dict[bytes, int] = {}
        self._hold_after: int | None = None
        self._released = asyncio.Event()
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    # -- HTTP ------------------------------------------------------------------------------------------------------

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one HTTP request."""
        path = request.path
        if path.endswith("/chat/completions") and request.method == "POST":
            return await self._completion(request)
        if path.endswith("/models"):
            if self._wrong_key(request):
                return _error(401, "invalid_api_key", "Incorrect API key provided.")
            names = self.script.models or ()
            return _reply(
                200, {"object": "list", "data": [{"id": name, "object": "model", "owned_by": "scripted"} for name in names]}
            )
        if path == "/stats":
            return _reply(200, self.stats())
        if path.startswith("/control/"):
            return await self._control(path.removeprefix("/control/"), request)
        return _error(
            404, "not_found", f"No such path: {request.method} {path}. There are /v1/chat/completions, /v1/models and /stats."
        )

    def stats(self) -> ServerStats:
        """Return the counters as JSON values."""
        return {
            "count": self.count,
            "in_flight": self.in_flight,
            "most_in_flight": self.most_in_flight,
            "statuses": self.statuses,
            "tokens": self.tokens,
            "script_errors": self.script_errors[:20],
        }

    async def _control(self, verb: str, request: web.BaseRequest) -> web.StreamResponse:
        if verb == "requests":
            return _reply(200, list(self.requests))
        if verb == "wait":
            wanted = int(request.query["count"])
            await self._until(lambda: self.count >= wanted)
            return _reply(200, self.stats())
        if verb == "idle":
            await self._until(lambda: self.in_flight == 0)
            return _reply(200, self.stats())
        if verb == "hold":
            self._hold_after = self.count + int(request.query.get("after", "0"))
            self._released.clear()
        elif verb == "release":
            self._hold_after = None
            self._released.set()
        elif verb == "faults":
            self.faults = Faults.from_json(await request.json())
        else:
            return _error(404, "not_found", f"No such control: {verb}.")
        return _reply(200, self.stats())

    # -- chat completions ------------------------------------------------------------------------------------------

    async def _completion(self, request: web.BaseRequest) -> web.StreamResponse:
        raw = await request.read()
        self.count += 1
        number = self.count
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        record: RequestRecord = {"number": number, "prompt": hashlib.blake2b(raw, digest_size=8).hexdigest()}
        self.requests.append(record)
        try:
            self._announce()
            if self._hold_after is not None and number > self._hold_after:
                await self._released.wait()
            response = await self._answer(request, raw, record)
            record["status"] = response.status
            self.statuses[str(response.status)] = self.statuses.get(str(response.status), 0) + 1
            return response
        finally:
            self.in_flight -= 1
            self._announce()

    async def _until(self, reached: Callable[[], bool]) -> None:
        if not reached():
            happened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((reached, happened))
            await happened

    def _announce(self) -> None:
        for reached, happened in self._waiting:
            if not happened.done() and reached():
                happened.set_result(None)
        self._waiting = [(reached, happened) for reached, happened in self._waiting if not happened.done()]

    async def _answer(self, request: web.BaseRequest, raw: bytes, record: RequestRecord) -> web.StreamResponse:
        faults = self.faults
        if self._wrong_key(request):
            return _error(401, "invalid_api_key", "Incorrect API key provided.")
        if faults.most_at_once is not None and self.in_flight > faults.most_at_once:
            return _throttled(faults)
        body, problem = _checked(raw, self.script.models, faults)
        if problem is not None:
            return problem
        messages = body["messages"]
        record["model"] = body.get("model")
        record["typed"] = "response_format" in body
        if self.script.keep_messages:
            record["messages"] = messages
            record["body"] = {key: value for key, value in body.items() if key != "messages"}
        fault = "none"
        if faults.random or faults.latency or faults.slow:
            arrival = self._arrivals.get(key := bytes.fromhex(record["prompt"]), 0)
            self._arrivals[key] = arrival + 1
            fault = faults.draw(key, arrival)
            if delay := faults.delay(key, arrival):
                await asyncio.sleep(delay)
        record["fault"] = fault
        if fault == "throttle":
            return _throttled(faults)
        if fault == "error":
            return _error(500, "server_error", "The server had an error while processing your request.")
        if fault == "hang":
            await asyncio.Event().wait()  # until the client leaves: the handler is then cancelled
        if fault == "garbled":
            return web.Response(body=b'{"id": "chatcmpl-1", "choices": [{"mess', content_type="application/json")
        try:
            text = "I am sorry, I cannot do that {" if fault == "malformed" else await self._say(messages, body)
        except ScriptEnded as error:
            return _error(400, "script_ended", str(error))
        except Exception as error:  # noqa: BLE001 - a test's own function failed: tell the client and the test, keep serving
            self.script_errors.append("".join(traceback.format_exception(error)[-3:]))
            return _error(400, "script_failed", f"The scripted model raised {type(error).__name__}: {error}")
        payload = self._completed(body, messages, text, record, faults)
        if fault == "cut":
            return await _cut(request, payload)
        return web.Response(body=payload, content_type="application/json")

    def _wrong_key(self, request: web.BaseRequest) -> bool:
        key = self.faults.key
        return key is not None and request.headers.get("Authorization") != f"Bearer {key}"

    async def _say(self, messages: list[Message], body: JsonObject) -> str:
        if self.script.root is not None and writes_code(messages):
            script = pick(self.script.root, messages)
            said = script(messages) if callable(script) else turn(script, messages)
        else:
            schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
            said = self.script.leaf(prompt_of(messages), schema)
        if inspect.isawaitable(said):
            said = await said
        if not isinstance(said, str):
            raise InputError(f"A scripted model returned {type(said).__name__}, not str. Return the text of the reply.")
        return said

    def _completed(self, body: JsonObject, messages: list[Message], text: str, record: RequestRecord, faults: Faults) -> bytes:
        sizes = [tokens_of(text_of(message)) + 4 for message in messages]
        replies = [at for at, message in enumerate(messages) if message.get("role") == "assistant"]
        prompt, completion = sum(sizes), tokens_of(text)
        cached = sum(sizes[: replies[-1]]) if replies else 0  # the prefix that the turn before sent already
        record.update({"prompt_tokens": prompt, "completion_tokens": completion, "cached_tokens": cached})
        self.tokens["prompt"] += prompt
        self.tokens["completion"] += completion
        self.tokens["cached"] += cached
        message = {"role": "assistant", "content": text, "refusal": None}
        reply: JsonObject = {
            "id": f"chatcmpl-{record['number']}",
            "object": "chat.completion",
            "created": 0,
            "model": body.get("model"),
            "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        }
        if faults.usage:
            reply["usage"] = {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
                "prompt_tokens_details": {"cached_tokens": cached},
            }
        return json.dumps(reply).encode()


def _checked(raw: bytes, models: tuple[str, ...] | None, faults: Faults) -> tuple[JsonObject, web.Response | None]:
    try:
        body = json.loads(raw)
    except ValueError:
        return {}, _error(400, "invalid_json", "The request body is not JSON.")
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list) or not body["messages"]:
        return {}, _error(400, "invalid_request", "messages: a list with at least one message is needed.")
    if models is not None and body.get("model") not in models:
        return {}, _error(
            404, "model_not_found", f"The model {body.get('model')!r} does not exist. There are: {', '.join(models)}."
        )
    if body.get("stream"):
        return {}, _error(400, "unsupported", "This server does not stream.")
    if not faults.response_format and "response_format" in body:
        return {}, _error(400, "unsupported", "response_format is not supported by this server.")
    return body, None


def _reply(status: int, value: Any, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=json.dumps(value).encode(), content_type="application/json", headers=headers)


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return _reply(status, {"error": {"message": message, "type": code, "code": code, "param": None}}, headers)


def _throttled(faults: Faults) -> web.Response:
    return _error(429, "rate_limit_exceeded", "Rate limit reached. Please retry later.", {"Retry-After": f"{faults.retry_after:g}"})


async def _cut(request: web.BaseRequest, payload: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = len(payload)
    with contextlib.suppress(ConnectionError):
        await response.prepare(request)
        await response.write(payload[: len(payload) // 2])
    if request.transport is not None:
        request.transport.close()
    return response
