"""Chat completions from an OpenAI-compatible endpoint: one call with its attempts, each paid for before it goes out.

The SDK's own retries are off, so that the limiter sees every refusal and the meter every attempt. `openai` is imported
when the first call is made (it takes a second).
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from rlm_ray.errors import BudgetExceeded, CredentialsError, ModelError, ModelRefused
from rlm_ray.models.contract import (
    FAILED,
    OFFICIAL,
    ChatReply,
    ChatRequest,
    Endpoint,
    Limiter,
    Meter,
    Outcome,
    Usage,
)
from rlm_ray.models.dialect import Dialect, says_format
from rlm_ray.models.failures import Failed, Refused, from_connection, from_status, says_too_long, shown
from rlm_ray.models.thoughts import without_thoughts
from rlm_ray.text import counted

ErrorT = TypeVar("ErrorT", BudgetExceeded, ModelError, ModelRefused)

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["ChatClient", "ChatReply", "ChatRequest", "Endpoint", "Limiter", "Meter", "Outcome", "Usage"]

#: Refusals for lack of room that one call waits out.
_MOST_REFUSALS = 60
#: More than any limiter lets in flight.
_CONNECTIONS = 100_000
#: The longest `Retry-After` that is waited for, in seconds.
_LONGEST_RETRY_AFTER = 600.0
#: Seconds that an attempt gets at least, when the budget's time is nearly up.
_LEAST_TIMEOUT = 1.0
#: Bytes that are read of a reply at most: so many, and so many for each token that was asked for.
_MOST_BYTES, _MOST_BYTES_PER_TOKEN = 1 << 20, 256
#: Bytes that are read of an error at most.
_MOST_ERROR_BYTES = 1 << 16
#: Seconds between two looks whether the budget has room again.
_LOOKS = (0.01, 0.02, 0.05, 0.1, 0.25)


class ChatClient:
    """Asks one endpoint for chat completions.

    Belongs to one event loop: that of its first call. Keep one per process; connections are reused.

    Parameters
    ----------
    endpoint : Endpoint
    limiter : Limiter
        Asked before every attempt, told how it ended.
    sleep : coroutine function, optional
        Waits between attempts; tests give their own.
    """

    def __init__(self, endpoint: Endpoint, limiter: Limiter, *, sleep: Callable[[float], Any] = asyncio.sleep) -> None:
        self.endpoint = endpoint
        self.limiter = limiter
        self._sleep = sleep
        self._sdk: AsyncOpenAI | None = None
        self._key = ""
        self._dialects: dict[str, Dialect] = {}

    async def complete(self, request: ChatRequest, meter: Meter) -> ChatReply:
        """Ask for one completion. Calls a model.

        Tried again: 429, 5xx, connection errors, timeouts, cut bodies, replies without a choice.

        Raises
        ------
        BudgetExceeded
            The next attempt does not fit the budget; nothing was sent for it.
        CredentialsError
            No key, or the endpoint refused it (401, 403).
        ModelRefused
            The endpoint refused the request (400, 404, 413, 422), or the model declined to answer. `error.too_long` is true
            when the reason is the request's length.
        ModelError
            No usable reply after all attempts; the message has the last reason.
        """
        sdk = self._connected()
        request = _sendable(request)
        prompt_tokens = request.prompt_tokens()
        first = dialect = self._dialects.get(request.model) or Dialect.of(self.endpoint.structured_output)
        started, bill = time.monotonic(), list[Usage]()
        earlier = min(request.failures, self.endpoint.attempts - 1)
        attempts, refusals = earlier, 0
        while True:
            try:
                reply = await self._attempt(sdk, request, dialect.body(request), prompt_tokens, meter, bill)
            except Refused as refused:
                adapted = dialect.after_refusal(request, refused.reason) if refused.status else None
                if adapted is None:
                    raise _with_usage(self._refused(request, refused), bill) from None
                dialect = adapted
                continue
            except Failed as failed:
                if failed.status is not None and says_format(failed.reason):  # some servers refuse a format with 500
                    adapted = dialect.after_refusal(request, failed.reason)
                    if adapted is not None:
                        dialect = adapted
                        continue
                slow, asked = failed.outcome.kind == "slow_down", failed.outcome.retry_after
                attempts, refusals = attempts + (not slow), refusals + slow
                if attempts >= self.endpoint.attempts or refusals >= _MOST_REFUSALS or (asked or 0) > _LONGEST_RETRY_AFTER:
                    raise _with_usage(self._given_up(request, failed, attempts - earlier + refusals), bill) from None
                # Not past the end of the budget: the next reservation then says that the time is up.
                await self._sleep(min(_wait(refusals if slow else attempts, asked), _seconds_left(meter)))
                continue
            except BudgetExceeded as error:
                raise _with_usage(error, bill) from None
            if self._dialects.get(request.model, first) == first:
                self._dialects[request.model] = dialect.after_reply(request)
            seconds = time.monotonic() - started
            made = attempts - earlier + refusals + 1
            return replace(reply, usage=_total(bill), seconds=seconds, attempts=made, failures=attempts)

    async def models(self) -> tuple[str, ...] | None:
        """Return the names of the models that the endpoint lists, or None where it serves no list. Costs nothing.

        Raises
        ------
        CredentialsError
            There is no key.
        Failed
            No reply came.
        """
        import aiohttp
        import httpx2
        import openai

        sdk = self._connected()
        try:
            response = await sdk.get("/models", cast_to=httpx2.Response, stream=True, stream_cls=openai.AsyncStream[Any])
            content = await _body(response, _MOST_BYTES)
        except openai.APIStatusError:
            return None
        except (openai.APIConnectionError, httpx2.HTTPError, httpx2.InvalidURL, aiohttp.ClientError, OSError) as error:
            raise from_connection(error, self.endpoint.timeout, self._key) from None
        return _model_names(content)

    def prepare(self) -> None:
        """Import what a call needs, which takes a second or more, and look whether there is a key.

        Raises
        ------
        CredentialsError
            There is none.
        """
        self._connected()

    async def close(self) -> None:
        """Close the connections. The client may be used again, from the same loop."""
        sdk, self._sdk = self._sdk, None
        if sdk is not None:
            await sdk.close()

    def _connected(self) -> AsyncOpenAI:
        """The SDK with the key that the environment has now: one that was corrected is used by the next call."""
        if self._sdk is None:
            return self._connect()
        key = self.endpoint.key()
        if key != self._key:
            self._key = key
            self._sdk = self._sdk.copy(api_key=key)
        return self._sdk

    def _connect(self) -> AsyncOpenAI:
        # The aiohttp transport makes about twice the calls a second of the default one, and does not slow down with width.
        import httpx2
        from openai import AsyncOpenAI, DefaultAioHttpClient

        self._key = self.endpoint.key()
        timeout = httpx2.Timeout(self.endpoint.timeout, connect=min(30.0, self.endpoint.timeout))
        # The limiter says how many connections there are. None would mean 100 to aiohttp, and queue unseen.
        limits = httpx2.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS, keepalive_expiry=30.0)
        self._sdk = AsyncOpenAI(
            api_key=self._key,
            base_url=self.endpoint.base_url or OFFICIAL,
            max_retries=0,
            timeout=timeout,
            http_client=DefaultAioHttpClient(timeout=timeout, limits=limits, event_hooks={"response": [_cut_error]}),
        )
        return self._sdk

    async def _attempt(
        self, sdk: AsyncOpenAI, request: ChatRequest, body: dict[str, Any], prompt_tokens: int, meter: Meter, bill: list[Usage]
    ) -> ChatReply:
        """One request, from its place in the line to its settled charge."""
        reservation = await self._admitted(request, prompt_tokens, meter)
        # Cancelled: whether the model answered is unknown, so that is charged in full.
        charge: Usage | None = None
        outcome = FAILED
        try:
            timeout = min(self.endpoint.timeout, max(_LEAST_TIMEOUT, _seconds_left(meter)))
            reply = await self._send(sdk, request, body, prompt_tokens, timeout)
            charge, outcome = reply.usage, Outcome("ok", tokens=reply.usage.tokens)
            return reply
        except (Failed, Refused) as error:
            charge, outcome = error.charge, error.outcome
            raise
        except CredentialsError:
            charge = Usage()
            raise
        finally:
            self.limiter.release(outcome)
            bill.append(meter.settle(reservation, charge))

    async def _admitted(self, request: ChatRequest, prompt_tokens: int, meter: Meter) -> Any:
        """Wait for a place in flight and for room in the budget; hold neither while waiting for the other."""
        tokens = prompt_tokens + request.max_tokens
        looks = 0
        while True:
            left = _seconds_left(meter)
            try:
                # a limiter that holds everybody back does not hold them past the end of the budget
                async with asyncio.timeout(None if math.isinf(left) else left):
                    await self.limiter.acquire(tokens)
            except TimeoutError:
                meter.settle(meter.reserve(prompt_tokens, request.max_tokens, request.model), Usage())  # says that the time is up
                continue
            try:
                return meter.reserve(prompt_tokens, request.max_tokens, request.model)
            except BudgetExceeded as error:
                self.limiter.release(FAILED)
                if not error.passing:
                    raise
            except BaseException:
                self.limiter.release(FAILED)
                raise
            await asyncio.sleep(_LOOKS[min(looks, len(_LOOKS) - 1)])
            looks += 1

    async def _send(
        self, sdk: AsyncOpenAI, request: ChatRequest, body: dict[str, Any], prompt_tokens: int, timeout: float
    ) -> ChatReply:
        import aiohttp
        import httpx2
        import openai

        most = _MOST_BYTES + _MOST_BYTES_PER_TOKEN * request.max_tokens
        try:
            async with asyncio.timeout(timeout):  # the whole attempt: a reply that drips is late too
                # `post` skips the SDK's models of request and reply, which cost more than the request itself.
                response = await sdk.post(
                    "/chat/completions", body=body, cast_to=httpx2.Response, stream=True, stream_cls=openai.AsyncStream[Any]
                )
                content = await _body(response, most)
        except openai.APIStatusError as error:
            content = error.response.content
            raise from_status(error.status_code, error.response.headers, content, self.endpoint, self._key) from None
        except (openai.APIConnectionError, httpx2.HTTPError, httpx2.InvalidURL, aiohttp.ClientError, OSError) as error:
            raise from_connection(error, timeout, self._key) from None
        if content is None:
            raise Failed(f"the reply has more than {most:,} bytes, which no reply of {request.max_tokens:,} tokens has.", None)
        return _read(content, request, prompt_tokens, self._key)

    def _refused(self, request: ChatRequest, refused: Refused) -> ModelRefused:
        if refused.status is None:
            return ModelRefused(
                f"Model {request.model!r} declined to answer: {refused.reason} Ask in another way, or leave this part out."
            )
        error = ModelRefused(
            f"The endpoint refused a request to model {request.model!r} (HTTP {refused.status}): {refused.reason} "
            "Asking again is no use: change the model, the size of the part or the settings."
        )
        error.too_long = says_too_long(refused.status, refused.reason)
        error.status = refused.status
        return error

    def _given_up(self, request: ChatRequest, failed: Failed, attempts: int) -> ModelError:
        return ModelError(
            f"Model {request.model!r} gave no usable reply in {counted(attempts, 'attempt')}, "
            f"the last: {failed.reason} "
            "Ask again later, or raise call_attempts or call_timeout."
        )


def _seconds_left(meter: Meter) -> float:
    """Seconds until the budget's deadline."""
    left = meter.seconds_left()
    return math.inf if left is None else left


def _total(bill: list[Usage]) -> Usage:
    return bill[0] if len(bill) == 1 else sum(bill, Usage())


def _with_usage(error: ErrorT, bill: list[Usage]) -> ErrorT:
    """Attach what the attempts were charged, as `error.usage`."""
    error.usage = _total(bill)
    return error


async def _body(response: Any, most: int) -> bytes | None:
    """The body of a reply, or None where it has more bytes than `most`: it is not read further then."""
    parts, size = list[bytes](), 0
    try:
        async for part in response.aiter_bytes():
            size += len(part)
            if size > most:
                return None
            parts.append(part)
    finally:
        await response.aclose()
    return b"".join(parts)


async def _cut_error(response: Any) -> None:
    """Read an error's body only in part: its first words say what is wrong."""
    if response.status_code >= 400:
        import httpx2

        content, parts = response.stream, list[bytes]()
        try:
            async for part in content:
                parts.append(part)
                if sum(map(len, parts)) > _MOST_ERROR_BYTES:
                    break
        finally:
            await content.aclose()
        response.stream = httpx2.ByteStream(b"".join(parts))


def _sendable(request: ChatRequest) -> ChatRequest:
    """The request with what UTF-8 cannot hold (a lone surrogate out of broken data) replaced."""
    try:
        for message in request.messages:
            message["content"].encode()
    except UnicodeEncodeError:
        messages = tuple(m | {"content": m["content"].encode("utf-8", "replace").decode()} for m in request.messages)
        return replace(request, messages=messages)
    return request


def _read(content: bytes, request: ChatRequest, prompt_tokens: int, key: str) -> ChatReply:
    """The reply in a body with status 200, or why it is none."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        if content.lstrip()[:1] == b"<":
            raise Failed("the reply is a web page (HTML), not a completion; look whether base_url is the API's.", Usage()) from None
        raise Failed(f"the reply is no JSON ({len(content)} bytes), it may have been cut.", None) from None
    reported = _usage(body)
    try:
        choice = body["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
    except (KeyError, IndexError, TypeError, AttributeError):
        told = body.get("error") if isinstance(body, dict) else None
        if told is None:
            raise Failed("the reply has no choice.", reported) from None
        slow = isinstance(told, dict) and str(told.get("code")) in ("429", "503")
        reason = f"the reply has an error in place of a choice: {shown(json.dumps(told), key)}"
        raise Failed(reason, reported or Usage(), Outcome("slow_down") if slow else FAILED) from None
    if isinstance(text, list):  # some servers answer in parts
        text = "".join(_part(part) for part in text)
    finish_reason = str(choice.get("finish_reason") or "stop")
    raw = text if isinstance(text, str) else ""
    if reported is None:
        reported = Usage(1, prompt_tokens, min(request.max_tokens, len(raw.encode("utf-8", "replace"))), estimated=1)
    if not raw and (refusal or finish_reason == "content_filter"):
        raise Refused(None, shown(str(refusal or "its content filter stopped the reply"), key), reported)
    text = without_thoughts(raw)
    return ChatReply(text, reported, finish_reason, problem="" if text.strip() else _no_text(message, raw, finish_reason))


def _part(part: Any) -> str:
    """The text of one part of a reply; thoughts and other kinds have none."""
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or part.get("type", "text") not in ("text", "output_text"):
        return ""
    text = part.get("text")
    return text if isinstance(text, str) else ""


def _no_text(message: dict[str, Any], raw: str, finish_reason: str) -> str:
    """Why a reply has no text, in words that a model can act on."""
    calls = message.get("tool_calls") or ([message["function_call"]] if message.get("function_call") else [])
    if calls:
        names = [call.get("function", call).get("name") for call in calls if isinstance(call, dict)]
        called = ", ".join(str(name)[:60] for name in names if name)
        return f"The reply was a tool call{f' ({called})' if called else ''} and no text. There are no tools: reply with text."
    if raw.strip() or any(message.get(name) for name in ("reasoning_content", "reasoning", "reasoning_details", "thinking")):
        ended = " until the completion limit" if finish_reason == "length" else ""
        return f"The reply held only thoughts{ended} and no answer. Think less, and reply with the answer."
    return "The reply is empty."


def _usage(body: Any) -> Usage | None:
    """What the endpoint says the call used, or None when it says nothing usable."""
    found = body.get("usage") if isinstance(body, dict) else None
    if not isinstance(found, dict):
        return None
    prompt, completion = found.get("prompt_tokens"), found.get("completion_tokens")
    if not isinstance(prompt, int) or prompt <= 0 or not isinstance(completion, int) or completion < 0:
        return None
    details = found.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else found.get("prompt_cache_hit_tokens")
    return Usage(1, prompt, completion, min(cached, prompt) if isinstance(cached, int) and cached > 0 else 0)


def _model_names(content: bytes | None) -> tuple[str, ...] | None:
    """The names in a list of models, of the shapes that servers use; None where it is no such list."""
    try:
        body = json.loads(content or b"")
    except (ValueError, RecursionError):
        return None
    entries = body.get("data", body.get("models")) if isinstance(body, dict) else body
    if not isinstance(entries, list):
        return None
    names = (entry.get("id", entry.get("name")) if isinstance(entry, dict) else entry for entry in entries)
    return tuple(name for name in names if isinstance(name, str))


def _wait(failures: int, retry_after: float | None) -> float:
    """Seconds until the next attempt: what the endpoint asked for, else longer each time; a little spread either way."""
    import random

    import tenacity

    if retry_after is not None:
        return retry_after * (1 + 0.1 * random.random())
    nothing: Any = None
    state = tenacity.RetryCallState(retry_object=nothing, fn=None, args=(), kwargs={})
    state.attempt_number = failures
    return tenacity.wait_random_exponential(multiplier=0.5, max=20)(state)
