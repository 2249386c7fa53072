from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from rlm_ray.errors import BudgetExceeded, CredentialsError, ModelError, ModelRefused
from rlm_ray.models.client import ChatClient, ChatReply, ChatRequest, Endpoint, Usage
from rlm_ray.models.limiter import LocalLimiter
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.budget.meter import BudgetMeter
from rlm_ray.testing import Faults, ModelServer
from tests.models.conftest import completion

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


def request(text: str = "hello", **more: Any) -> ChatRequest:
    return ChatRequest("leaf", ({"role": "user", "content": text},), **{"max_tokens": 50} | more)


class Caller:
    """A client on a loop of its own, that waits for nothing between attempts and remembers how long it would have."""

    def __init__(self, base_url: str | None, meter: BudgetMeter | None = None, concurrency: int = 16, **endpoint: Any) -> None:
        self.waits: list[float] = []
        self.meter = meter or BudgetMeter(Budget.start(calls=10_000))
        self.endpoint = Endpoint(base_url, **endpoint)
        self.limiter = LocalLimiter(concurrency)

    def ask(self, *requests: ChatRequest, at_once: bool = False) -> list[Any]:
        """Replies, or the exceptions in their places."""

        async def wait(seconds: float) -> None:
            self.waits.append(seconds)

        async def main() -> list[Any]:
            client = ChatClient(self.endpoint, self.limiter, sleep=wait)
            try:
                calls = [client.complete(one, self.meter) for one in requests]
                if at_once:
                    return await asyncio.gather(*calls, return_exceptions=True)
                return [(await asyncio.gather(call, return_exceptions=True))[0] for call in calls]
            finally:
                await client.close()

        return asyncio.run(main())

    def one(self, wanted: ChatRequest) -> ChatReply:
        (reply,) = self.ask(wanted)
        if isinstance(reply, BaseException):
            raise reply
        return reply


def answering(*replies: Callable[[dict[str, Any]], web.StreamResponse] | dict[str, Any] | int) -> Any:
    """Answers the first request with the first reply and so on; the last one for all that follow."""
    left = list(replies)

    async def answer(body: dict[str, Any], request: web.Request) -> web.StreamResponse:
        reply = left.pop(0) if len(left) > 1 else left[0]
        if callable(reply):
            return reply(body)
        if isinstance(reply, int):
            return web.json_response({"error": {"message": f"status {reply}"}}, status=reply)
        return web.json_response(reply)

    return answer


def test_reply_and_usage() -> None:
    with ModelServer(leaf=lambda prompt, schema: prompt.upper()) as server:
        caller = Caller(server.base_url)
        reply = caller.one(request("hello"))
    assert (reply.text, reply.finish_reason, reply.attempts) == ("HELLO", "stop", 1)
    assert reply.usage == Usage(1, 6, 2, 0, None)
    assert caller.meter.budget.spent.calls == 1
    assert not caller.meter.budget.reserved
    assert caller.limiter.in_flight == 0


def test_body_as_endpoints_know_it(raw_server: Any) -> None:
    server = raw_server(answering(completion()))
    Caller(server.base_url).ask(request(temperature=0.5, schema=SCHEMA), request())
    typed, bare = server.bodies
    assert typed["response_format"]["json_schema"] == {"name": "answer", "schema": SCHEMA, "strict": True}
    assert (typed["temperature"], typed["max_tokens"]) == (0.5, 50)
    assert set(bare) == {"model", "messages", "max_tokens"}


def test_attempts_are_counted_and_charged(raw_server: Any) -> None:
    cut = lambda body: web.Response(body=b'{"choices": [{"mess', content_type="application/json")  # noqa: E731
    server = raw_server(answering(500, cut, {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 0}}, completion()))
    caller = Caller(server.base_url)
    reply = caller.one(request())
    assert (reply.attempts, len(caller.waits)) == (4, 3)
    # the 500 cost nothing, the cut reply is charged in full, the empty one as reported
    full = request().prompt_tokens()
    assert reply.usage == Usage(3, full + 7 + 10, 50 + 2, 0, None, 1)
    assert caller.meter.budget.spent[:2] == (3, full + 7 + 10 + 52)


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        (Faults(error=1), "HTTP 500"),
        (Faults(cut=1), "the connection broke"),
        (Faults(garbled=1), "no JSON"),
        (Faults(hang=1), "no reply within 0.05 s"),
    ],
)
def test_gives_up_after_its_attempts(faults: Faults, reason: str) -> None:
    with ModelServer(faults=faults) as server:
        caller = Caller(server.base_url, attempts=3, timeout=0.05 if faults.hang else 30)
        with pytest.raises(ModelError, match=f"3 attempts.*{reason}"):
            caller.one(request())
        assert server.count == 3
    assert not caller.meter.budget.reserved


def test_cannot_connect_costs_nothing() -> None:
    with ModelServer() as server:
        url = server.base_url
    caller = Caller(url, attempts=2)
    with pytest.raises(ModelError, match="Connect") as caught:
        caller.one(request())
    assert url not in str(caught.value)  # the words may reach a model's prompt
    assert caller.meter.budget.spent == (0, 0, 0)


def test_refusals_for_room_are_waited_out(raw_server: Any) -> None:
    def busy(body: dict[str, Any]) -> web.Response:
        return web.json_response({"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "0.02"})

    server = raw_server(answering(*[busy] * 8, 503, completion()))
    caller = Caller(server.base_url, attempts=2)
    reply = caller.one(request())
    assert (reply.text, reply.attempts) == ("ok", 10)
    assert all(0.02 <= wait <= 0.03 for wait in caller.waits[:8])
    assert caller.meter.budget.spent.calls == 1
    assert caller.limiter.refusals == 9


def test_no_endless_retry_after(raw_server: Any) -> None:
    busy = lambda body: web.json_response({}, status=429, headers={"Retry-After": "86400"})  # noqa: E731
    with pytest.raises(ModelError, match="429"):
        Caller(raw_server(answering(busy)).base_url).one(request())


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_refused_requests_are_not_repeated(raw_server: Any, status: int) -> None:
    server = raw_server(
        answering(lambda body: web.json_response({"error": {"message": "no such thing " + "x" * 5000}}, status=status))
    )
    caller = Caller(server.base_url)
    with pytest.raises(ModelRefused, match=f"HTTP {status}.*no such thing") as caught:
        caller.one(request())
    assert len(str(caught.value)) < 900
    assert len(server.bodies) == 1
    assert caller.meter.budget.spent == (0, 0, 0)


def test_a_request_that_is_too_long_says_so(raw_server: Any) -> None:
    error = {"error": {"message": "This model's maximum context length is 8192 tokens."}}
    server = raw_server(answering(lambda body: web.json_response(error, status=400), 413, 404))
    told = Caller(server.base_url).ask(request(schema=SCHEMA), request(), request())
    assert [reply.too_long for reply in told] == [True, True, False]
    assert len(server.bodies) == 3


@pytest.mark.parametrize("status", [401, 403])
def test_refused_key(raw_server: Any, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret-0123456789")
    server = raw_server(
        answering(lambda body: web.json_response({"error": {"message": "Bad key sk-very-secret-0123456789"}}, status=status))
    )
    with pytest.raises(CredentialsError) as caught:
        Caller(server.base_url, api_key_env="MY_KEY").one(request())
    assert "MY_KEY" in str(caught.value)
    assert server.base_url in str(caught.value)
    assert "very-secret" not in str(caught.value)
    assert server.headers[0]["Authorization"] == "Bearer sk-very-secret-0123456789"


def test_no_quota_ends_the_run(raw_server: Any) -> None:
    error = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
    with pytest.raises(CredentialsError, match="no quota left"):
        Caller(raw_server(answering(lambda body: web.json_response(error, status=429))).base_url).one(request())


def test_missing_key(monkeypatch: pytest.MonkeyPatch, raw_server: Any) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(CredentialsError, match="NO_SUCH_KEY"):
        Caller(None, api_key_env="NO_SUCH_KEY").one(request())
    server = raw_server(answering(completion()))
    assert Caller(server.base_url, api_key_env="NO_SUCH_KEY").one(request()).text == "ok"
    assert server.headers[0]["Authorization"] == "Bearer none"


def test_without_response_format() -> None:
    """An endpoint that knows no response_format is asked in words, and remembered."""
    with ModelServer(leaf=lambda prompt, schema: json.dumps(schema), faults=Faults(response_format=False)) as server:
        replies = Caller(server.base_url).ask(request(schema=SCHEMA), request("again", schema=SCHEMA))
        assert [reply.text for reply in replies] == ["null", "null"]
        assert server.stats()["statuses"] == {"400": 2, "200": 2}


def test_insists_or_never_sends_response_format() -> None:
    with ModelServer(faults=Faults(response_format=False)) as server:
        with pytest.raises(ModelRefused):
            Caller(server.base_url, structured_output="json_schema").one(request(schema=SCHEMA))
        Caller(server.base_url, structured_output="json").one(request(schema=SCHEMA))
        assert server.stats()["statuses"] == {"400": 1, "200": 1}


def test_max_completion_tokens_is_learnt(raw_server: Any) -> None:
    async def answer(body: dict[str, Any], request: web.Request) -> web.StreamResponse:
        if "max_tokens" in body:
            message = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
            return web.json_response({"error": {"message": message}}, status=400)
        return web.json_response(completion())

    server = raw_server(answer)
    replies = Caller(server.base_url).ask(request(), request(), replace(request(), model="other"))
    assert [reply.text for reply in replies] == ["ok"] * 3
    assert ["max_tokens" in body for body in server.bodies] == [True, False, False, True, False]


def test_a_refused_cache_key_is_left_out(raw_server: Any) -> None:
    async def answer(body: dict[str, Any], request: web.Request) -> web.StreamResponse:
        if "prompt_cache_key" in body:
            message = {"type": "extra_forbidden", "loc": ["body", "prompt_cache_key"], "msg": "Extra inputs are not permitted"}
            return web.json_response({"object": "error", "message": {"detail": [message]}}, status=422)
        return web.json_response(completion())

    server = raw_server(answer)
    keyed = replace(request(), cache_key="question")
    assert [reply.text for reply in Caller(server.base_url).ask(keyed, keyed)] == ["ok"] * 2
    assert ["prompt_cache_key" in body for body in server.bodies] == [True, False, False]


def test_usage_is_estimated_when_missing() -> None:
    with ModelServer(faults=Faults(usage=False), leaf=lambda prompt, schema: "four") as server:
        usage = Caller(server.base_url).one(request()).usage
    assert usage == Usage(1, request().prompt_tokens(), 4, 0, None, estimated=1)


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 0, "completion_tokens": 0}, {"prompt_tokens": "9"}, [1]])
def test_unusable_usage(raw_server: Any, usage: Any) -> None:
    reply = Caller(raw_server(answering(completion(usage=usage))).base_url).one(request())
    assert reply.usage.estimated == 1


def test_cached_tokens(raw_server: Any) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 64}}
    reply = Caller(raw_server(answering(completion(usage=usage))).base_url).one(request())
    assert reply.usage.cached_tokens == 64


def test_content_in_parts_and_empty(raw_server: Any) -> None:
    server = raw_server(answering(completion([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), completion(None)))
    first, second = Caller(server.base_url).ask(request(), request())
    assert (first.text, second.text) == ("ab", "")


def test_a_model_that_declines(raw_server: Any) -> None:
    server = raw_server(answering(completion(None, message={"refusal": "I cannot help with that."})))
    caller = Caller(server.base_url)
    with pytest.raises(ModelRefused, match=r"declined.*cannot help"):
        caller.one(request())
    assert len(server.bodies) == 1
    assert caller.meter.budget.spent.calls == 1


def test_an_error_with_status_200(raw_server: Any) -> None:
    server = raw_server(answering({"error": {"code": 429, "message": "later"}}, completion()))
    caller = Caller(server.base_url)
    assert caller.one(request()).text == "ok"
    assert caller.limiter.refusals == 1


def test_a_reply_that_drips_is_late(raw_server: Any) -> None:
    async def answer(body: dict[str, Any], request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.01)

    with pytest.raises(ModelError, match=r"no reply within 0.2 s"):
        Caller(raw_server(answer).base_url, timeout=0.2, attempts=1).one(request())


def test_lone_surrogates_are_replaced(raw_server: Any) -> None:
    server = raw_server(answering(completion()))
    Caller(server.base_url).one(request("broken \ud800 text"))
    assert server.bodies[0]["messages"][0]["content"] == "broken ? text"


def test_nothing_is_sent_when_the_budget_is_out() -> None:
    with ModelServer() as server:
        caller = Caller(server.base_url, BudgetMeter(Budget.start(calls=1)))
        first, second = caller.ask(request("a"), request("b"))
        assert first.text == "a"
        assert isinstance(second, BudgetExceeded)
        assert server.count == 1


def test_waits_for_room_that_comes_back() -> None:
    """Two calls whose estimates do not fit together, but whose actuals do, are made one after the other."""
    most = request().prompt_tokens() + 50
    with ModelServer(leaf=lambda prompt, schema: "x") as server:
        caller = Caller(server.base_url, BudgetMeter(Budget.start(tokens=most + 30)))
        replies = caller.ask(request("hell1"), request("hell2"), at_once=True)
        assert [reply.text for reply in replies] == ["x", "x"]
        assert server.most_in_flight == 1


def test_cancelled_calls_are_charged_and_give_their_place_back() -> None:
    with ModelServer() as server:
        server.hold()
        meter, limiter = BudgetMeter(Budget.start(calls=5)), LocalLimiter(2)

        async def main() -> None:
            client = ChatClient(Endpoint(server.base_url), limiter)
            task = asyncio.create_task(client.complete(request(), meter))
            await asyncio.to_thread(server.wait_for, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await client.close()

        asyncio.run(main())
        server.release()
    assert limiter.in_flight == 0
    assert meter.budget.spent.calls == 1
    assert meter.budget.usage.estimated == 1


def test_as_many_in_flight_as_the_limiter_allows() -> None:
    """More than the hundred connections that an HTTP library allows unasked."""
    with ModelServer(leaf=lambda prompt, schema: "x") as server:
        server.hold()
        caller = Caller(server.base_url, concurrency=150)

        async def main() -> None:
            client = ChatClient(caller.endpoint, caller.limiter)
            tasks = [asyncio.create_task(client.complete(request(str(n)), caller.meter)) for n in range(150)]
            await asyncio.to_thread(server.wait_for, 150)
            server.release()
            await asyncio.gather(*tasks)
            await client.close()

        asyncio.run(main())
        assert server.most_in_flight == 150
