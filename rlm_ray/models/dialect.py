"""Learns from refusals which parts of the chat completions API a model behind an endpoint supports."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from rlm_ray.models.contract import ChatRequest, StructuredOutput
from rlm_ray.models.failures import says_too_long

_ABOUT_FORMAT = re.compile(r"response_?format|json_?schema|json_?object|structured|guided|grammar", re.IGNORECASE)
_ABOUT_COUNTS = re.compile(r"\b(min|max)_?items\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How to write a request.

    Attributes
    ----------
    structured : {"json_schema", "json_object", "none"}
        What is sent as `response_format` for a typed reply. Steps down when it is refused.
    limit : {"max_tokens", "max_completion_tokens"}
        Name of the completion limit: most servers know the first, newer official models insist on the second.
    insist : bool
        `structured` never steps down.
    proven : bool
        A typed request was answered in this form, so a refusal is about something else.
    counts : bool
        `minItems` and `maxItems` are sent; some servers refuse schemas with them.
    cache_key : bool
        `prompt_cache_key` is sent; servers that check the names of parameters may refuse it.
    """

    structured: Literal["json_schema", "json_object", "none"] = "json_schema"
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    insist: bool = False
    proven: bool = False
    counts: bool = True
    cache_key: bool = True

    @classmethod
    def of(cls, wanted: StructuredOutput) -> Dialect:
        """The first guess, as the settings want it."""
        return cls(structured="none" if wanted == "json" else "json_schema", insist=wanted == "json_schema")

    def body(self, request: ChatRequest) -> dict[str, Any]:
        """The request as JSON values.

        Examples
        --------
        >>> Dialect().body(ChatRequest("m", ({"role": "user", "content": "hi"},), max_tokens=5))
        {'model': 'm', 'messages': [{'role': 'user', 'content': 'hi'}], 'max_tokens': 5}
        """
        body: dict[str, Any] = {"model": request.model, "messages": list(request.messages), self.limit: request.max_tokens}
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.cache_key and self.cache_key:
            body["prompt_cache_key"] = request.cache_key
        if request.schema is not None and self.structured == "json_schema":
            schema = request.schema if self.counts else without_counts(request.schema)
            form = {"name": request.schema_name, "schema": schema, "strict": is_strict(schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        elif request.schema is not None and self.structured == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body

    def after_refusal(self, request: ChatRequest, reason: str) -> Dialect | None:
        """Another way to write the refused request, or None: it is the request itself that was refused."""
        if self.limit == "max_tokens" and "max_completion_tokens" in reason:
            return replace(self, limit="max_completion_tokens")
        if self.cache_key and request.cache_key and "prompt_cache_key" in reason:
            return replace(self, cache_key=False)
        if request.schema is None or self.insist or self.structured == "none" or says_too_long(None, reason):
            return None
        if self.counts and self.structured == "json_schema" and _ABOUT_COUNTS.search(reason):
            return replace(self, counts=False)
        if self.proven and not says_format(reason):
            return None
        return replace(self, structured="json_object" if self.structured == "json_schema" else "none", proven=False)

    def after_reply(self, request: ChatRequest) -> Dialect:
        """What a reply to a request in this form has proven."""
        return self if request.schema is None or self.proven else replace(self, proven=True)


def says_format(reason: str) -> bool:
    """Whether words of a server are about the form in which a typed reply was asked for."""
    return _ABOUT_FORMAT.search(reason) is not None


def without_counts(schema: Any) -> Any:
    """The schema without the numbers of items that an array must have.

    Examples
    --------
    >>> without_counts({"type": "array", "minItems": 2, "maxItems": 2})
    {'type': 'array'}
    """
    if isinstance(schema, list):
        return [without_counts(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    array = schema.get("type") == "array"
    return {name: without_counts(item) for name, item in schema.items() if not (array and name in ("minItems", "maxItems"))}


def is_strict(schema: Any) -> bool:
    """Whether every object in the schema requires all of its properties and allows no others, as strict mode wants.

    Examples
    --------
    >>> is_strict({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False})
    True
    >>> is_strict({"type": "object", "properties": {"a": {"type": "string"}}})
    False
    """
    if isinstance(schema, list):
        return all(is_strict(item) for item in schema)
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        names = set(schema.get("properties", {}))
        if schema.get("additionalProperties") is not False or names != set(schema.get("required", ())):
            return False
        return all(is_strict(item) for item in schema.get("properties", {}).values())
    return all(is_strict(schema[key]) for key in ("items", "anyOf", "oneOf", "allOf") if key in schema)
