"""Steps carried out on the frames of one shard, one after the other, by what the reader did not take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars
import pyarrow

from rlm_ray.corpus.planning.steps import (
    BoundBetween,
    BoundGrep,
    BoundKeep,
    BoundPlaces,
    BoundSplit,
    BoundStep,
    BoundWhere,
    BoundWindow,
)
from rlm_ray.corpus.reading.spans import split
from rlm_ray.errors import InputError
from rlm_ray.handle.plan import Step

#: `(selection, shard index) -> table of pos and char`.
Selections = Callable[[str, int], pyarrow.Table]


class Applied:
    """A step over the frames of a shard, in order: called with each, it returns what it leaves of it.

    Attributes
    ----------
    is_over : bool
        No further frame leaves anything.
    """

    def __init__(self, step: Any, index: int, encoding: str | None, selections: Selections | None) -> None:
        self.is_over = False

    def __call__(self, frame: polars.DataFrame) -> polars.DataFrame:
        """Return the records of a frame that the step keeps."""
        raise NotImplementedError


class _Filter(Applied):
    def __init__(self, step: BoundWhere | BoundGrep, index: int, encoding: str | None, selections: Selections | None) -> None:
        super().__init__(step, index, encoding, selections)
        self._predicate = step.predicate

    def __call__(self, frame: polars.DataFrame) -> polars.DataFrame:
        return frame if self._predicate is None else frame.filter(self._predicate)


class _Between(Applied):
    def __init__(self, step: BoundBetween, index: int, encoding: str | None, selections: Selections | None) -> None:
        super().__init__(step, index, encoding, selections)
        self._within = step.within(index)

    def __call__(self, frame: polars.DataFrame) -> polars.DataFrame:
        return frame.filter(self._within)


class _Split(Applied):
    def __init__(self, step: BoundSplit, index: int, encoding: str | None, selections: Selections | None) -> None:
        super().__init__(step, index, encoding, selections)
        self._node = step.node
        self._encoding = encoding if step.node.column == "text" else None

    def __call__(self, frame: polars.DataFrame) -> polars.DataFrame:
        return split(frame, self._node, self._encoding)


class _Keep(Applied):
    def __init__(self, step: BoundKeep, index: int, encoding: str | None, selections: Selections | None) -> None:
        super().__init__(step, index, encoding, selections)
        self._selection, self._index, self._selections = step.node.selection, index, selections

    def __call__(self, frame: polars.DataFrame) -> polars.DataFrame:
        if self._selections is None:
            raise InputError(f"Selection {self._selection} belongs to a run, and this scan has none. Filter again.")
        chosen = polars.DataFrame(self._selections(self._selection, self._index).select(["pos", "char"]))
        return frame.join(chosen, left_on=["_pos", "_char"], right_on=["pos", "char"], how="semi", maintain_order="left")


class _Places(Applied):
    def __init__(self, step: BoundPlaces, index: int, encoding: str | None, selections: Selections | None) -> None:
        super().__init__(step, index, encoding, selections)
        places = step.places_in(index)
        self._left = len(places)
        types = {"pos": polars.Int64, "char": polars.Int64}
        self._places = polars.DataFrame([place[1:] for place in places], schema=types, orient="row")

    def __call__(self, frame: polars.DataFrame) -> polars.DataFrame:
        found = frame.join(self._places, left_on=["_pos", "_char"], right_on=["pos", "char"], how="semi", maintain_order="left")
        self._left -= found.height
        self.is_over = self._left <= 0
        return found


class _Window(Applied):
    def __init__(self, step: BoundWindow, index: int, encoding: str | None, selections: Selections | None) -> None:
        super().__init__(step, index, encoding, selections)
        self._first, self._stop = step.range_in(index)
        self._seen = 0

    def __call__(self, frame: polars.DataFrame) -> polars.DataFrame:
        before = self._seen
        self._seen += frame.height
        self.is_over = self._seen >= self._stop
        return frame.slice(max(0, self._first - before), max(0, self._stop - max(self._first, before)))


_APPLIED: dict[type[BoundStep[Any]], Callable[..., Applied]] = {
    BoundWhere: _Filter,
    BoundGrep: _Filter,
    BoundBetween: _Between,
    BoundSplit: _Split,
    BoundKeep: _Keep,
    BoundPlaces: _Places,
    BoundWindow: _Window,
}


def started(step: BoundStep[Step], index: int, encoding: str | None, selections: Selections | None) -> Applied:
    """Return a step as it is carried out on a shard's frames.

    Parameters
    ----------
    index : int
        Of the shard.
    encoding : str, optional
        Spans of the text get their places in bytes of it.
    selections : callable, optional
        What a `Keep` looks its selection up in.
    """
    return _APPLIED[type(step)](step, index, encoding, selections)
