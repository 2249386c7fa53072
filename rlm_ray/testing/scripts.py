"""Scripted models: who replies, and with what.

A *root script* stands for a model that writes code: a list of replies, one per turn, or a function of the messages.
A *leaf* stands for a model that reads: a function of the prompt and of the JSON Schema that came with it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from rlm_ray.errors import InputError
from rlm_ray.text import counted
from rlm_ray.types.json import JsonSchema

Message = Mapping[str, Any]
RootScript = Sequence[str] | Callable[[list[Message]], str | Awaitable[str]]
Roots = RootScript | Mapping[str, RootScript]
Leaf = Callable[[str, dict[str, Any] | None], str | Awaitable[str]]


class ScriptEnded(InputError):
    """A root was asked for more turns than its script has."""


def text_of(message: Message) -> str:
    """Return a message's text, whether it is one string or a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or () if isinstance(part, dict))


def tokens_of(text: str) -> int:
    """Count tokens as this server does: four UTF-8 bytes are one.

    Examples
    --------
    >>> tokens_of("twelve bytes")
    3
    """
    return -(-len(text.encode("utf-8", "replace")) // 4)


def prompt_of(messages: Sequence[Message]) -> str:
    """Return what a leaf is given to read: every message but the assistant's own, in order.

    Examples
    --------
    >>> prompt_of([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}])
    'Be brief.\\n\\nHello'
    """
    return "\n\n".join(text_of(message) for message in messages if message.get("role") != "assistant")


def writes_code(messages: Sequence[Message]) -> bool:
    """Whether the request is a root's: its first message teaches the REPL's fence.

    Examples
    --------
    >>> writes_code([{"role": "system", "content": "Write Python in ```repl blocks."}, {"role": "user", "content": "How many?"}])
    True
    >>> writes_code([{"role": "user", "content": "Is this line an incident?"}])
    False
    """
    return bool(messages) and messages[0].get("role") in ("system", "developer") and "```repl" in text_of(messages[0])


def pick(roots: Roots, messages: Sequence[Message]) -> RootScript:
    """Return the script of this conversation.

    A mapping's keys are looked for in the messages before the first reply (the question is there); the longest key that
    occurs wins, and `""` is for all others. That is how the roots of recursive calls get scripts of their own.
    """
    if not isinstance(roots, Mapping):
        return roots
    opening = []
    for message in messages:
        if message.get("role") == "assistant":
            break
        opening.append(text_of(message))
    text = "\n".join(opening)
    found = [key for key in roots if key in text]
    if not found:
        raise ScriptEnded(f"No root script fits this question; there are scripts for {sorted(roots)}. Add one under the key ''.")
    return roots[max(found, key=len)]


def turn(script: Sequence[str], messages: Sequence[Message]) -> str:
    """Return the reply of the turn that this request is, counted by the assistant messages in it.

    So a script keeps no state: any number of runs can share a server, and a resumed run gets the turn it is at.

    Examples
    --------
    >>> turn(["first", "second"], [{"role": "user", "content": "q"}, {"role": "assistant", "content": "first"}])
    'second'
    """
    at = sum(message.get("role") == "assistant" for message in messages)
    if at >= len(script):
        raise ScriptEnded(
            f"The scripted root has {counted(len(script), 'reply', 'replies')} and was asked for reply {at + 1}. Set Final "
            "earlier, or add one."
        )
    return script[at]


def echo(prompt: str, schema: JsonSchema | None = None) -> str:
    """A leaf that replies with its prompt."""
    return prompt
