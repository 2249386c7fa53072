"""What a plan's steps mean before anything is read: the columns that come out, those that are needed, and positions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.meaning.types import is_text
from rlm_ray.corpus.planning import expressions
from rlm_ray.corpus.planning.expressions import column_type, matches_empty
from rlm_ray.errors import InputError
from rlm_ray.handle.plan import Between, Grep, Node, Select, Split, Where, Window

#: Separators of `split` that have a name.
FIXED_SEPARATORS = {"line": re.compile(r"\r?\n"), "paragraph": re.compile(r"\r?\n(?:[ \t]*\r?\n)+")}


def check(steps: Sequence[Node], schema: dict[str, str]) -> dict[str, str]:
    """Check steps against a corpus' columns and return the columns that come out. Reads nothing; compiles the patterns.

    Raises
    ------
    InputError
        A column that is not there, a value that does not compare, a pattern that does not compile.
    """
    span: str | None = None
    for step in steps:
        if isinstance(step, Select):
            schema = selected(step, schema)
        elif isinstance(step, Where):
            expressions.where(step, schema)
        elif isinstance(step, Grep):
            expressions.grep_columns(step, schema)
            expressions.check_pattern(step.pattern, step.ignore_case)
        elif isinstance(step, Split):
            if step.by not in ("line", "paragraph"):
                expressions.check_pattern(step.by)
            check_split(step, schema)
            if span is not None and span != step.column:
                raise InputError(f"Spans of {span!r} cannot be split again by {step.column!r}. Split {span!r} further.")
            span = step.column
            schema = schema | {step.column: "string"}
    return schema


def selected(step: Select, schema: dict[str, str]) -> dict[str, str]:
    """Return the columns that a Select leaves: its own, and of a result where each row is from and what failed.

    Raises
    ------
    InputError
        A column that is not there.
    """
    kept = {name: expressions.column_type(name, schema) for name in step.columns}
    return kept | {name: schema[name] for name in ("_address", "_error") if name in schema and name not in kept}


def span_column(steps: Sequence[Node]) -> str | None:
    """Return the column that was split, if one was."""
    return next((step.column for step in steps if isinstance(step, Split)), None)


def position_range(steps: Sequence[Node], shard: Shard) -> tuple[int, int]:
    """Return the positions `[low, high)` of a shard that Betweens ahead of any Window leave."""
    low, high = shard.positions
    for step in steps:
        if isinstance(step, Window):
            break
        if isinstance(step, Between):
            if step.start is not None:
                low = 1 << 62 if step.start[0] > shard.index else max(low, step.start[1]) if step.start[0] == shard.index else low
            if step.stop is not None:
                last = step.stop[1] + (step.stop[2] > 0)
                high = 0 if step.stop[0] < shard.index else min(high, last) if step.stop[0] == shard.index else high
    return low, high


def is_range(steps: Sequence[Node], index: int) -> bool:
    """Return whether the steps leave just the lines of a range of bytes."""
    places = [place for step in steps if isinstance(step, Between) for place in (step.start, step.stop) if place is not None]
    behind = any(place[0] == index and place[2] > 0 for place in places)
    return not behind and all(isinstance(step, Select | Between) for step in steps)


def is_covered(step: Between, shard: Shard) -> bool:
    """Return whether a Between takes the whole shard."""
    after_start = step.start is None or step.start[0] < shard.index
    return after_start and (step.stop is None or step.stop[0] > shard.index)


def window_holds(steps: Sequence[Node], index: int) -> bool:
    """Return whether a shard is in all windows."""
    return all(step.first <= index and (step.last is None or index <= step.last) for step in steps if isinstance(step, Window))


def with_schemas(steps: Sequence[Node], schema: dict[str, str]) -> list[tuple[Node, dict[str, str]]]:
    """Return each step but Select, with the columns that it sees."""
    seen = []
    for step in steps:
        if isinstance(step, Select):
            schema = selected(step, schema)
        else:
            seen.append((step, schema))
    return seen


def needed(steps: Sequence[Node], out: Sequence[str], schema: dict[str, str]) -> list[str]:
    """Return the columns that the steps look at, or that are to come out."""
    names = set(out)
    for step, there in with_schemas(steps, schema):
        if isinstance(step, Where):
            names.update(column for column, _, _ in step.conditions)
        elif isinstance(step, Grep):
            names.update(expressions.grep_columns(step, there))
        elif isinstance(step, Split):
            names.add(step.column)
    return [name for name in schema if name in names]


def check_split(step: Split, schema: dict[str, str]) -> None:
    """Check a split against the columns before it.

    Raises
    ------
    InputError
        No such column, no text, or a separator that also matches the empty text.
    """
    kind = column_type(step.column, schema)
    if not is_text(kind):
        raise InputError(f"Column {step.column!r} is {kind}, not text, and cannot be split. Name a text column.")
    if step.by not in FIXED_SEPARATORS and matches_empty(step.by):
        raise InputError(f"The separator {step.by!r:.200} also matches the empty text. Give one that always takes a character.")
