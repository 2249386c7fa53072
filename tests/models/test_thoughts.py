"""Thoughts leave a reply before anybody reads it; what only quotes their tags stays."""

import pytest

from rlm_ray.models.failures import retry_after
from rlm_ray.models.thoughts import without_thoughts

DRAFT = "```repl\nFinal = 1\n```\n"
CODE = "```repl\nFinal = 2\n```\n"


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        (f"<think>A guess:\n{DRAFT}No.</think>\n{CODE}", CODE),
        (f"A guess:\n{DRAFT}No.</think>\n{CODE}", CODE),
        (f"[THINK]{DRAFT}[/THINK]{CODE}", CODE),
        (f"<think>never ended\n{DRAFT}", ""),
        ('```repl\nprint(context.grep("</think>"))\n```', '```repl\nprint(context.grep("</think>"))\n```'),
        ('{"quote": "a </think> tag"}', '{"quote": "a </think> tag"}'),
    ],
)
def test_thoughts_are_left_out(reply: str, right: str) -> None:
    assert without_thoughts(reply) == right


@pytest.mark.parametrize(
    ("headers", "right"),
    [
        ({"Retry-After": "1.5"}, 1.5),
        ({"llm_provider-retry-after": "2"}, 2.0),
        ({"retry-after-ms": "150", "retry-after": "9"}, 0.15),
        ({"x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-reset-tokens": "120ms"}, 0.12),
        ({"x-ratelimit-reset-tokens": "1s", "x-ratelimit-remaining-tokens": "5"}, None),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
    ],
)
def test_every_form_of_retry_after(headers: dict[str, str], right: float | None) -> None:
    assert retry_after(headers) == right
