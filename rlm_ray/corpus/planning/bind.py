"""A plan bound to a corpus: its nodes checked against the columns, once, with what each needs, sees and gives.

All that plans, scans and computes reads the bound plan. It goes to tasks as nodes and columns and is bound there once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.planning.steps import (
    BoundBetween,
    BoundGrep,
    BoundKeep,
    BoundPlaces,
    BoundSelect,
    BoundSlice,
    BoundSplit,
    BoundStep,
    BoundWhere,
    BoundWindow,
    Columns,
)
from rlm_ray.handle.plan import Between, Grep, Keep, Places, Select, Slice, Split, Step, Where, Window

_BINDERS: dict[type[Step], Callable[[Any, Columns, frozenset[str]], BoundStep[Step]]] = {
    Select: BoundSelect.of,
    Where: BoundWhere.of,
    Grep: BoundGrep.of,
    Split: BoundSplit.of,
    Keep: BoundKeep.of,
    Places: BoundPlaces.of,
    Slice: BoundSlice.of,
    Between: BoundBetween.of,
    Window: BoundWindow.of,
}


@dataclass(frozen=True, slots=True)
class BoundPlan:
    """The steps of a plan, bound to the columns of a corpus; see `bind`. Two are equal where nodes and columns are.

    Attributes
    ----------
    nodes : tuple of Step
    schema : dict
        The corpus' columns and type names.
    steps : tuple of BoundStep
    columns : dict
        The columns that come out.
    span : str, optional
        The column that was split.
    """

    nodes: tuple[Step, ...]
    schema: Columns = field(hash=False)
    steps: tuple[BoundStep[Step], ...] = field(compare=False, repr=False)
    columns: Columns = field(compare=False, repr=False)
    span: str | None = field(default=None, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return bind, (self.nodes, self.schema)

    def then(self, *nodes: Step) -> BoundPlan:
        """Return the plan with more steps.

        Raises
        ------
        InputError
            A step does not fit the columns.
        """
        if not nodes:
            return self
        steps, columns, span = list(self.steps), self.columns, self.span
        for node in nodes:
            step = _BINDERS[type(node)](node, columns, frozenset(() if span is None else (span,)))
            steps.append(step)
            columns = step.gives
            if step.makes_spans:
                (span,) = step.looks_at
        return BoundPlan((*self.nodes, *nodes), self.schema, tuple(steps), columns, span)

    def only(self, wanted: Callable[[BoundStep[Step]], bool]) -> BoundPlan:
        """Return the plan with those of its steps alone."""
        return bind([step.node for step in self.steps if wanted(step)], self.schema)

    @property
    def leaves_everything(self) -> bool:
        """Whether every record is left."""
        return all(step.leaves_everything for step in self.steps)

    @property
    def filters_columns(self) -> bool:
        """Whether a step looks at columns to tell which records to leave."""
        return any(step.predicate is not None for step in self.steps)

    def needed(self, out: Iterable[str]) -> list[str]:
        """Return the columns that the steps look at, or that are to come out."""
        names = set(out).union(*(step.looks_at for step in self.steps))
        return [name for name in self.schema if name in names]

    def may_hold(self, shard: Shard) -> bool:
        """Return whether a shard may hold a record, by its number alone."""
        return all(step.may_hold(shard) for step in self.steps)

    def position_range(self, shard: Shard) -> tuple[int, int]:
        """Return the positions `[low, high)` of a shard that places ahead of any window leave."""
        low, high = shard.positions
        for step in self.steps:
            if step.counts_records:
                break
            low, high = step.positions(shard, low, high)
        return low, high

    def row_range(self, shard: Shard) -> tuple[int, int] | None:
        """Return the rows that plain steps leave of a shard whose number of records is known; None where a scan must say.

        Those that are deleted are among them; see `deletions.live`.
        """
        return row_range(self.steps, shard)

    def is_range(self, index: int) -> bool:
        """Return whether the steps leave just the lines of a range of bytes of a shard."""
        return all(step.is_range(index) for step in self.steps)

    def leaves_all_but_filters(self, shard: Shard) -> bool:
        """Return whether nothing but filters on columns narrows a shard."""
        return all(step.predicate is not None or step.leaves_all_of(shard) for step in self.steps)


def row_range(steps: Sequence[BoundStep[Step]], shard: Shard) -> tuple[int, int] | None:
    """Return what `BoundPlan.row_range` does, of some steps."""
    if shard.rows is None:
        return None
    low, high = (0, 1) if shard.traits.whole_objects else (shard.start, shard.stop)
    constants = dict(shard.partitions)
    for step in steps:
        narrowed = step.rows(shard, constants, low, high)
        if narrowed is None:
            return None
        low, high = narrowed
    return low, max(low, high)


def bind(steps: Sequence[Step], schema: Columns) -> BoundPlan:
    """Bind steps to a corpus' columns. Reads nothing; compiles the patterns.

    Raises
    ------
    InputError
        A column that is not there, a value that does not compare, a pattern that does not compile.

    Examples
    --------
    >>> plan = bind([Where((("level", "==", "ERROR"),)), Select(("host",))], {"level": "string", "host": "string", "n": "int64"})
    >>> plan.columns, plan.needed(plan.columns)
    ({'host': 'string'}, ['level', 'host'])
    """
    return BoundPlan((), schema, (), schema).then(*steps)
