"""`Chunks`: what `Corpus.chunks` returns. Imports only the standard library, because root code's process imports it."""

from __future__ import annotations

from collections.abc import Iterator

from rlm_ray.handle.plan import Between, Where
from rlm_ray.handle.values import size

TYPE_CHECKING = False  # see rlm_ray/__init__.py
if TYPE_CHECKING:
    from typing import Any

    from rlm_ray.handle.corpus import Corpus


class Chunks:
    """A sequence of Corpus that each fit one model call. Holds ranges, no data."""

    __slots__ = ("_base", "_by", "_ranges")

    def __init__(self, base: Corpus, by: str | None, ranges: list[list[Any]]) -> None:
        self._base = base
        self._by = by
        self._ranges = ranges

    def __len__(self) -> int:
        return len(self._ranges)

    def __getitem__(self, key: int | slice) -> Any:
        if isinstance(key, slice):
            return Chunks(self._base, self._by, self._ranges[key])
        start, stop, nbytes, records, *value = self._ranges[key]
        corpus = self._base
        if self._by is not None and value:
            corpus = corpus.then(Where(((self._by, "==", value[0]),)))
        between = Between(start and tuple(start), stop and tuple(stop))
        return corpus.then(between, nbytes=nbytes) if records is None else corpus.then(between, nbytes=nbytes, records=records)

    def __iter__(self) -> Iterator[Corpus]:
        return (self[index] for index in range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        return Chunks, (self._base, self._by, self._ranges)

    def __repr__(self) -> str:
        total = sum(piece[2] or 0 for piece in self._ranges)
        return f"<{len(self):,} chunks of {size(total)} in all; each is a Corpus>"
