"""Removes the reasoning from a reply: it is never run as code and is never an answer.

Servers without a reasoning parser leave the thoughts in the text, with both tags or, where the chat template opens them, with the
closing tag alone.
"""

from __future__ import annotations

import json
import re

_OPEN = r"<(?:seed:)?(?:think|thinking|thought|thoughts|reasoning)>|\[THINK\]|◁think▷|<\|channel\|>analysis<\|message\|>"
_CLOSE = r"</(?:seed:)?(?:think|thinking|thought|thoughts|reasoning)>|\[/THINK\]|◁/think▷|<\|channel\|>final<\|message\|>"
_TAG = re.compile(f"(?P<open>{_OPEN})|(?P<close>{_CLOSE})", re.IGNORECASE)
_FENCE = re.compile(r"^[ \t]*(?:`{3,}|~{3,})", re.MULTILINE)
_QUOTES = "\"'`\\"


def without_thoughts(text: str) -> str:
    """Return the text without its reasoning. Tags inside of data (JSON, a string, a fenced cell) are left alone.

    Examples
    --------
    >>> without_thoughts("<think>is it?</think>\\nyes")
    'yes'
    >>> without_thoughts("It may be so.</think>yes")
    'yes'
    >>> without_thoughts('{"quote": "a </think> tag"}')
    '{"quote": "a </think> tag"}'
    >>> without_thoughts("<think>never ended")
    ''
    """
    if _TAG.search(text) is None or _is_json(text):
        return text
    tags = [match for match in _TAG.finditer(text) if _is_real(text, match)]
    closing = [match for match in tags if match["close"]]
    if closing:
        last = closing[-1]
        opening = next((match for match in tags if match["open"] and match.start() < last.start()), None)
        before = "" if opening is None else text[: opening.start()]
        text = before + text[last.end() :].lstrip()
    unended = next((match for match in _TAG.finditer(text) if match["open"] and _is_real(text, match)), None)
    return text if unended is None else text[: unended.start()]


def _is_json(text: str) -> bool:
    if text.lstrip()[:1] not in ("{", "["):
        return False
    try:
        json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return False
    return True


def _is_real(text: str, tag: re.Match[str]) -> bool:
    """Whether a tag is one of the model's own, not a part of what it quotes."""
    line = text[text.rfind("\n", 0, tag.start()) + 1 : tag.start()]
    if not line.strip():
        return True
    if text.lstrip()[:1] in ("{", "[") and not tag["open"] and "\n" not in text[tag.end() : tag.end() + 1]:
        return False
    if line[-1:] in _QUOTES or text[tag.end() : tag.end() + 1] in tuple(_QUOTES):
        return False
    return len(_FENCE.findall(text, 0, tag.start())) % 2 == 0
