"""The steps of a bound plan: a node, with the columns that it sees, and what it means for shards, positions and records.

Each kind of node has a class here; whoever plans or reads asks the step, and no one asks of which kind it is.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import polars

from rlm_ray.corpus.catalog import deletions
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.meaning.comparing import holds
from rlm_ray.corpus.meaning.types import is_text
from rlm_ray.corpus.planning import expressions
from rlm_ray.errors import InputError
from rlm_ray.handle.plan import Between, Grep, Keep, Place, Places, Select, Slice, Split, Step, Where, Window

#: Separators of `split` that have a name.
FIXED_SEPARATORS = {"line": re.compile(r"\r?\n"), "paragraph": re.compile(r"\r?\n(?:[ \t]*\r?\n)+")}
#: Columns of a result that a Select leaves: where each row is from, and what failed.
_ALWAYS = ("_address", "_error")
_END = 1 << 62

Columns = dict[str, str]
#: Values that the path of an object gives to columns.
Constants = Mapping[str, object]
N = TypeVar("N", bound=Step, covariant=True)


@dataclass(frozen=True, slots=True, eq=False)
class BoundStep(Generic[N]):
    """A step, of no kind that narrows anything.

    Attributes
    ----------
    node : Step
    sees : dict
        The columns before it, with their types.
    gives : dict
        The columns behind it.
    looks_at : tuple of str
        The columns that it needs.
    predicate : polars.Expr, optional
        Of a filter on columns: whether it leaves a record.
    conditions : tuple
        Conditions that hold for all records that it leaves, on columns as they are stored.
    """

    node: N
    sees: Columns
    gives: Columns
    looks_at: tuple[str, ...] = ()
    predicate: polars.Expr | None = None
    conditions: tuple[tuple[str, str, Any], ...] = ()

    #: It leaves every record, and only takes columns away.
    leaves_everything: ClassVar[bool] = False
    #: It needs `_char` and `_char_end` of records.
    needs_characters: ClassVar[bool] = False
    #: It narrows places, and looks at no record's values.
    narrows_places: ClassVar[bool] = False
    #: It looks at records to tell which to leave.
    is_filter: ClassVar[bool] = False
    #: It makes spans of the one column that it looks at.
    makes_spans: ClassVar[bool] = False
    #: Positions behind it are no longer those of the shard.
    counts_records: ClassVar[bool] = False

    def shards(self, first: int, behind: int) -> tuple[int, int]:
        """Narrow a range of shards to those that may hold a record."""
        return first, behind

    def may_hold(self, shard: Shard) -> bool:
        """Return whether a shard may hold a record that the step leaves, by its number."""
        return True

    def positions(self, shard: Shard, low: int, high: int) -> tuple[int, int]:
        """Narrow positions of a shard."""
        return low, high

    def rows(self, shard: Shard, constants: Constants, low: int, high: int) -> tuple[int, int] | None:
        """Narrow rows of a shard; None where only a scan tells which rows are left."""
        return None

    def leaves_all_of(self, shard: Shard) -> bool:
        """Return whether the step leaves each record of a shard, whatever it is."""
        return False

    def is_range(self, index: int) -> bool:
        """Return whether the step leaves whole records of a range of a shard."""
        return False

    def keeps_ranges(self, constants: Constants) -> bool:
        """Return whether what the step leaves of a shard is a range, by its place and by what the object's path says."""
        return False

    def is_counted(self, constants: Constants) -> bool:
        """Return whether what the step leaves of a shard is known from a count of its records."""
        return self.keeps_ranges(constants)

    def reads_ahead_of(self, shard: Shard) -> bool:
        """Return whether the first record that the step leaves is found without reading those before it."""
        return False

    def ends_in(self, index: int) -> bool:
        """Return whether the step ends with a record inside a shard."""
        return False


class BoundSelect(BoundStep[Select]):
    """Takes columns away."""

    leaves_everything = True

    @classmethod
    def of(cls, node: Select, sees: Columns, split: frozenset[str]) -> BoundSelect:
        """Bind the node."""
        kept = {name: expressions.column_type(name, sees) for name in node.columns}
        return cls(node, sees, kept | {name: sees[name] for name in _ALWAYS if name in sees and name not in kept})

    def rows(self, shard: Shard, constants: Constants, low: int, high: int) -> tuple[int, int] | None:
        """See `BoundStep`."""
        return low, high

    def leaves_all_of(self, shard: Shard) -> bool:
        """See `BoundStep`."""
        return True

    def is_range(self, index: int) -> bool:
        """See `BoundStep`."""
        return True

    def keeps_ranges(self, constants: Constants) -> bool:
        """See `BoundStep`."""
        return True

    def reads_ahead_of(self, shard: Shard) -> bool:
        """See `BoundStep`."""
        return True


class BoundWhere(BoundStep[Where]):
    """Leaves records by conditions on columns."""

    is_filter = True

    @classmethod
    def of(cls, node: Where, sees: Columns, split: frozenset[str]) -> BoundWhere:
        """Bind the node; spans of a column are no longer what is stored in it."""
        stored = tuple(condition for condition in node.conditions if condition[0] not in split)
        columns = tuple(dict.fromkeys(column for column, _, _ in node.conditions))
        return cls(node, sees, sees, columns, expressions.where(node, sees), stored)

    def rows(self, shard: Shard, constants: Constants, low: int, high: int) -> tuple[int, int] | None:
        """See `BoundStep`."""
        if not self.keeps_ranges(constants):
            return None
        fulfilled = all(holds(constants[column], operator, value) for column, operator, value in self.node.conditions)
        return (low, high) if fulfilled else (low, low)

    def keeps_ranges(self, constants: Constants) -> bool:
        """See `BoundStep`."""
        return all(column in constants for column in self.looks_at)


class BoundGrep(BoundStep[Grep]):
    """Leaves records in which a pattern is found."""

    is_filter = True

    @classmethod
    def of(cls, node: Grep, sees: Columns, split: frozenset[str]) -> BoundGrep:
        """Bind the node; compiles the pattern."""
        expressions.check_pattern(node.pattern, node.ignore_case)
        columns = tuple(expressions.grep_columns(node, sees))
        return cls(node, sees, sees, columns, expressions.grep(node, sees))


class BoundSplit(BoundStep[Split]):
    """Makes spans of records."""

    makes_spans = True
    needs_characters = True

    @classmethod
    def of(cls, node: Split, sees: Columns, split: frozenset[str]) -> BoundSplit:
        """Bind the node; compiles the separator."""
        if node.by not in FIXED_SEPARATORS:
            expressions.check_pattern(node.by)
        kind = expressions.column_type(node.column, sees)
        if not is_text(kind):
            raise InputError(f"Column {node.column!r} is {kind}, not text, and cannot be split. Name a text column.")
        if node.by not in FIXED_SEPARATORS and expressions.matches_empty(node.by):
            raise InputError(f"The separator {node.by!r:.200} also matches the empty text. Give one that always takes a character.")
        for column in split - {node.column}:
            raise InputError(f"Spans of {column!r} cannot be split again by {node.column!r}. Split {column!r} further.")
        return cls(node, sees, sees | {node.column: "string"}, (node.column,))


class BoundKeep(BoundStep[Keep]):
    """Leaves the records of a selection."""

    is_filter = True
    needs_characters = True

    @classmethod
    def of(cls, node: Keep, sees: Columns, split: frozenset[str]) -> BoundKeep:
        """Bind the node."""
        return cls(node, sees, sees)


class BoundPlaces(BoundStep[Places]):
    """Leaves the records at some places."""

    is_filter = True
    needs_characters = True
    narrows_places = True

    @classmethod
    def of(cls, node: Places, sees: Columns, split: frozenset[str]) -> BoundPlaces:
        """Bind the node."""
        return cls(node, sees, sees)

    def shards(self, first: int, behind: int) -> tuple[int, int]:
        """See `BoundStep`."""
        places = self.node.places
        return (max(first, places[0][0]), min(behind, places[-1][0] + 1)) if places else (first, first)

    def may_hold(self, shard: Shard) -> bool:
        """See `BoundStep`."""
        return bool(self.places_in(shard.index))

    def positions(self, shard: Shard, low: int, high: int) -> tuple[int, int]:
        """See `BoundStep`."""
        places = self.places_in(shard.index)
        return (max(low, places[0][1]), min(high, places[-1][1] + 1)) if places else (low, low)

    def reads_ahead_of(self, shard: Shard) -> bool:
        """See `BoundStep`."""
        return True

    def places_in(self, index: int) -> tuple[Place, ...]:
        """Return the places of a shard, in order."""
        places = self.node.places
        return places[bisect_left(places, (index, 0, 0)) : bisect_left(places, (index + 1, 0, 0))]


class BoundSlice(BoundStep[Slice]):
    """Leaves records by their number; a plan that is scanned has a Window in its place."""

    @classmethod
    def of(cls, node: Slice, sees: Columns, split: frozenset[str]) -> BoundSlice:
        """Bind the node."""
        return cls(node, sees, sees)


class BoundBetween(BoundStep[Between]):
    """Leaves records between two places."""

    needs_characters = True
    narrows_places = True

    @classmethod
    def of(cls, node: Between, sees: Columns, split: frozenset[str]) -> BoundBetween:
        """Bind the node."""
        return cls(node, sees, sees)

    def shards(self, first: int, behind: int) -> tuple[int, int]:
        """See `BoundStep`."""
        start, stop = self.node.start, self.node.stop
        return max(first, start[0] if start is not None else 0), min(behind, stop[0] + 1 if stop is not None else behind)

    def may_hold(self, shard: Shard) -> bool:
        """See `BoundStep`."""
        start, stop = self.node.start, self.node.stop
        return (start is None or start[0] <= shard.index) and (stop is None or stop > (shard.index, 0, 0))

    def positions(self, shard: Shard, low: int, high: int) -> tuple[int, int]:
        """See `BoundStep`."""
        start, stop = self.node.start, self.node.stop
        if start is not None and start[0] >= shard.index:
            low = max(low, start[1]) if start[0] == shard.index else _END
        if stop is not None and stop[0] <= shard.index:
            # the record that holds the place begins before it
            high = min(high, stop[1] + (stop[2] > 0)) if stop[0] == shard.index else 0
        return low, high

    def rows(self, shard: Shard, constants: Constants, low: int, high: int) -> tuple[int, int] | None:
        """See `BoundStep`."""
        start, stop = self.node.start, self.node.stop
        if start is not None and start[0] >= shard.index:
            # a place behind the first character of a record leaves the record out
            low = max(low, start[1] + (start[2] > 0)) if start[0] == shard.index else high
        if stop is not None and stop[0] <= shard.index:
            high = min(high, stop[1] + (stop[2] > 0)) if stop[0] == shard.index else low
        return low, high

    def leaves_all_of(self, shard: Shard) -> bool:
        """See `BoundStep`."""
        start, stop = self.node.start, self.node.stop
        return (start is None or start[0] < shard.index) and (stop is None or stop[0] > shard.index)

    def is_range(self, index: int) -> bool:
        """See `BoundStep`."""
        return not any(place is not None and place[0] == index and place[2] > 0 for place in (self.node.start, self.node.stop))

    def keeps_ranges(self, constants: Constants) -> bool:
        """See `BoundStep`."""
        return True

    def reads_ahead_of(self, shard: Shard) -> bool:
        """See `BoundStep`."""
        return True

    def within(self, index: int) -> polars.Expr:
        """Return whether a record of a shard is between the places, as an expression."""
        start, stop = self.node.start, self.node.stop
        tests = [polars.lit(True)]
        if start is not None and start[0] >= index:
            tests.append(_from(start) if start[0] == index else polars.lit(False))
        if stop is not None and stop[0] <= index:
            tests.append(~_from(stop) if stop[0] == index else polars.lit(False))
        return polars.all_horizontal(tests)


def _from(place: Place) -> polars.Expr:
    position, char = polars.col("_pos"), polars.col("_char")
    return (position > place[1]) | ((position == place[1]) & (char >= place[2]))


class BoundWindow(BoundStep[Window]):
    """Leaves records by their number in the shard, counted behind the steps before it."""

    narrows_places = True
    counts_records = True

    @classmethod
    def of(cls, node: Window, sees: Columns, split: frozenset[str]) -> BoundWindow:
        """Bind the node."""
        return cls(node, sees, sees)

    def shards(self, first: int, behind: int) -> tuple[int, int]:
        """See `BoundStep`."""
        return max(first, self.node.first), min(behind, self.node.last + 1 if self.node.last is not None else behind)

    def may_hold(self, shard: Shard) -> bool:
        """See `BoundStep`."""
        return self.node.first <= shard.index and (self.node.last is None or shard.index <= self.node.last)

    def rows(self, shard: Shard, constants: Constants, low: int, high: int) -> tuple[int, int] | None:
        """See `BoundStep`."""
        if not self.may_hold(shard):
            return low, low
        if shard.index == self.node.last:
            high = min(high, deletions.row_of(shard, low, self.node.take))
        if shard.index == self.node.first:
            low = deletions.row_of(shard, low, self.node.skip)
        return low, high

    def is_counted(self, constants: Constants) -> bool:
        """See `BoundStep`."""
        return True

    def reads_ahead_of(self, shard: Shard) -> bool:
        """See `BoundStep`: in text the records before a window are read to be counted."""
        return shard.in_rows

    def ends_in(self, index: int) -> bool:
        """See `BoundStep`."""
        return self.node.last == index

    def range_in(self, index: int) -> tuple[int, int]:
        """Return the numbers `[first, stop)` of the records of a shard that it leaves."""
        return self.node.skip if index == self.node.first else 0, self.node.take if index == self.node.last else _END
