"""The first messages of a run: system prompt, question, metadata. Their size does not depend on the size of the context."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rlm_ray.handle.values import Description
from rlm_ray.recursion.loop.history import cut_middle
from rlm_ray.text import counted
from rlm_ray.types.json import JsonObject, JsonSchema, Record

if TYPE_CHECKING:
    from jinja2 import Template

#: Raised with every change of a prompt, since answers to another prompt are not reused.
PROMPT_VERSION = 1

METADATA_CHARS = 6_000
QUESTION_CHARS = 20_000
SAMPLE_CHARS = 500

_FORMS = {
    "line": 'a line, {"text": …}',
    "event": 'an event of a log, {"text": …}: a line with those that belong to it',
    "document": 'a document, {"path": …, "text": …}',
    "row": "a row, a dict of its columns",
}


@functools.cache
def _template(name: str) -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # not HTML: the prompt is plain text, and nothing of the corpus is ever a template
    environment = Environment(
        loader=PackageLoader("rlm_ray.recursion.loop"),
        undefined=StrictUndefined,
        trim_blocks=False,
        autoescape=False,
        keep_trailing_newline=False,
    )
    environment.filters["counted"] = counted
    return environment.get_template(name)


def system(settings: Any, *, text: bool, names: Sequence[str], unit: str, depth: int) -> str:
    """Return the system prompt: what the REPL has, when to use what, every limit as a number."""
    return _template("system.md").render(
        text=text,
        sql=settings.isolation != "noopen",
        several=len(names) > 1,
        names=names,
        one=names[0] if len(names) > 1 else "context",
        record_form=_FORMS.get(unit, "a dict of its columns"),
        depth=depth,
        depth_left=max(0, settings.max_depth - depth),
        call_chars=round(settings.call_tokens * settings.bytes_per_token),
        **{
            name: getattr(settings, name)
            for name in (
                "output_chars", "chunk_tokens", "max_turns", "max_calls", "max_tokens", "max_usd", "max_seconds", "call_tokens",
                "completion_tokens", "records_per_call", "cell_seconds", "max_depth",
            )
        },
    )  # fmt: skip


def task(
    question: str,
    contexts: dict[str, str],
    *,
    schema: JsonSchema | None,
    depth: int,
    parent: bool,
    fits: str | None,
    printable: bool = False,
    text: bool,
    left: str,
) -> str:
    """Return the first user message."""
    name = "context" if text else next(iter(contexts))
    each = max(200, 2 * METADATA_CHARS // max(2, len(contexts)))
    return _template("task.md").render(
        question=cut_middle(question, QUESTION_CHARS),
        contexts={name: cut_middle(text_, each) for name, text_ in contexts.items()},
        schema=json.dumps(schema, ensure_ascii=False) if schema else None,
        depth=depth,
        parent=parent,
        fits=fits if len(contexts) == 1 else None,
        fits_name=name,
        fits_read=("print(context)" if text else f"print({name}.text())") if printable else None,
        left=left,
    )


def metadata(info: JsonObject, samples: Sequence[Record]) -> str:
    """Return the description of one corpus for the root: kind, columns, sizes, partitions and a few records, cut to size."""
    known = {
        key: info[key]
        for key in ("kind", "unit", "objects", "shards", "nbytes", "records", "estimate", "schema", "partitions", "conflicts")
        if info.get(key)
    }
    if "estimate" in known:
        known["estimate"] = f"about {counted(known['estimate'], 'record')} (an estimate)"
    if failed := info.get("failed"):
        known["failed"] = [
            f"{counted(len(failed), 'object')} cannot be read and {'is' if len(failed) == 1 else 'are'} not part of it",
            *[f"{item['object']}: {item['reason']}" for item in failed[:3]],
        ]
    lines = [repr(Description(known))]
    if samples:
        lines.append("first records:")
        lines += [f"  {_sample(record)}" for record in samples]
    return cut_middle("\n".join(lines), METADATA_CHARS)


def text_metadata(text: str) -> str:
    """Return the description of a context that is a str, for the root."""
    lines = text.count("\n") + 1
    length = f"{counted(len(text), 'character')} in {counted(lines, 'line')}"
    return f"a str of {length}\nit begins: {cut_middle(text[:SAMPLE_CHARS], SAMPLE_CHARS)!r}"


def _sample(record: Record) -> str:
    shown = {key: value if not isinstance(value, str) else cut_middle(value, SAMPLE_CHARS) for key, value in record.items()}
    return cut_middle(json.dumps(shown, ensure_ascii=False, default=str), 2 * SAMPLE_CHARS)
