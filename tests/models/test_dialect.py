from __future__ import annotations

from dataclasses import replace

import pytest

from rlm_ray.models.contract import ChatRequest
from rlm_ray.models.dialect import Dialect, is_strict

PLAIN = ChatRequest("m", ({"role": "user", "content": "hi"},))
TYPED = ChatRequest("m", PLAIN.messages, schema={"type": "object", "properties": {}})
ABOUT_FORMAT = "response_format: type json_schema is not supported"


def test_steps_down_one_form_at_a_time() -> None:
    first = Dialect.of("auto")
    second = first.after_refusal(TYPED, ABOUT_FORMAT)
    assert second is not None
    assert second.body(TYPED)["response_format"] == {"type": "json_object"}
    third = second.after_refusal(TYPED, ABOUT_FORMAT)
    assert third is not None
    assert "response_format" not in third.body(TYPED)
    assert third.after_refusal(TYPED, ABOUT_FORMAT) is None


def test_a_refusal_without_a_hint_is_about_the_form_until_the_form_has_worked() -> None:
    first = Dialect.of("auto")
    assert first.after_refusal(TYPED, "Bad request.") is not None
    proven = first.after_reply(TYPED)
    assert proven.after_refusal(TYPED, "Bad request.") is None
    assert proven.after_refusal(TYPED, ABOUT_FORMAT) is not None
    assert first.after_reply(PLAIN) == first


@pytest.mark.parametrize("reason", ["maximum context length is 8192 tokens", "The prompt is too long: 9000 tokens"])
def test_a_request_that_is_too_long_is_not_written_in_another_form(reason: str) -> None:
    assert Dialect.of("auto").after_refusal(TYPED, reason) is None


def test_untyped_requests_have_no_form_to_change() -> None:
    assert Dialect.of("auto").after_refusal(PLAIN, ABOUT_FORMAT) is None


def test_the_name_of_the_limit() -> None:
    other = Dialect.of("auto").after_refusal(PLAIN, "Use 'max_completion_tokens' instead.")
    assert other is not None
    assert other.body(PLAIN)["max_completion_tokens"] == PLAIN.max_tokens
    assert "max_tokens" not in other.body(PLAIN)
    assert other.after_refusal(PLAIN, "max_completion_tokens is too high") is None


def test_the_key_of_a_cache() -> None:
    keyed = replace(PLAIN, cache_key="k")
    assert "prompt_cache_key" not in Dialect.of("auto").body(PLAIN)
    assert Dialect.of("auto").body(keyed)["prompt_cache_key"] == "k"
    reason = "Unrecognized request argument supplied: prompt_cache_key"
    assert Dialect.of("auto").after_refusal(PLAIN, reason) is None
    other = Dialect.of("auto").after_refusal(keyed, reason)
    assert other is not None
    assert "prompt_cache_key" not in other.body(keyed)
    assert other.after_refusal(keyed, reason) is None


def test_strict_only_where_the_schema_allows_it() -> None:
    inner = {"type": "object", "properties": {"b": {"type": "string"}}, "required": ["b"], "additionalProperties": False}
    assert is_strict({"type": "array", "items": inner})
    assert not is_strict({"type": "array", "items": inner | {"required": []}})
    assert not is_strict({"anyOf": [inner, {"type": "object", "properties": {}}]})
