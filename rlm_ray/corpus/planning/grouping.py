"""Puts neighbouring shards into groups, one for each task. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

_T = TypeVar("_T")


def group(shards: Sequence[_T], target_bytes: int) -> Iterator[list[_T]]:
    """Put neighbouring small shards (or works) together, so that a task has about `target_bytes` to read."""
    held: list[_T] = []
    nbytes = 0
    for item in shards:
        shard: Any = getattr(item, "shard", item)
        if held and nbytes + shard.nbytes > target_bytes:
            yield held
            held, nbytes = [], 0
        held.append(item)
        nbytes += shard.nbytes
    if held:
        yield held
