"""A plan: which records a handle stands for, as a chain of frozen nodes.

A plan holds no data and no code. It goes to JSON and back (it crosses the wall around root code, so reading
one back checks every field), and equal plans have equal fingerprints, in every process and on every day.

The first node is where records come from, the others narrow or cut them, in order. Records have a defined order:
object name, then position. A **place** is `(shard, position, char)`: the shard's index, the record's position in its
object (row number, or byte offset of a line's start) and, for spans, the first character.
"""

from __future__ import annotations

import json

from rlm_ray.errors import InputError

TYPE_CHECKING = False  # see rlm_ray/__init__.py
if TYPE_CHECKING:
    from typing import Any, ClassVar, TypeAlias, dataclass_transform
else:

    def dataclass_transform(**_):  # noqa: D103
        return lambda kind: kind


Place: TypeAlias = tuple[int, int, int]
Scalar: TypeAlias = str | int | float | bool | None

OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "in", "not in")
MAX_NODES = 200
MAX_PATTERN = 10_000
MAX_VALUES = 100_000
MAX_PLACES = 10_000


@dataclass_transform(frozen_default=True)
class Record:
    """A value with the fields that its class annotates, as a frozen dataclass is.

    Not made by `dataclasses`: every process of root code imports this module when it starts, and that module with what it
    imports, and the classes it compiles, would take a third of that start.
    """

    _names: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        annotated = cls.__dict__.get("__annotations__", {})  # noqa: RUF063 - `inspect` is what is not to be imported
        cls._names = tuple(name for name, kind in annotated.items() if "ClassVar" not in kind)

    def __init__(self, *values: Any, **named: Any) -> None:
        names, own = self._names, self.__dict__
        given = dict(zip(names, values, strict=False)) | named
        if len(given) != len(values) + len(named) or not given.keys() <= set(names):
            raise TypeError(f"{type(self).__name__} has the fields {', '.join(names)}, each given once, and no others")
        if len(given) < len(names) and (missing := [name for name in names if name not in given and not hasattr(type(self), name)]):
            raise TypeError(f"{type(self).__name__} needs {', '.join(missing)}")
        own.update(given)
        self.__post_init__()

    def __post_init__(self) -> None:
        """Check the fields."""

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self._names)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        told = zip(self._names, self._values(), strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in told)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._values()

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be set: make another one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be deleted: make another one")


class Step(Record):
    """One step of a plan: its fields are JSON values or tuples of them."""

    kind: ClassVar[str]

    def to_json(self) -> dict[str, Any]:
        """Return the node as a JSON mapping, its kind under `node`."""
        return {"node": self.kind} | dict(zip(self._names, self._values(), strict=True))


class Source(Step):
    """All records of a corpus of this run, by its name."""

    kind: ClassVar[str] = "source"
    corpus: str

    def __post_init__(self) -> None:
        _check(isinstance(self.corpus, str) and 0 < len(self.corpus) <= 200, "corpus", self.corpus)


class Result(Step):
    """All rows of a result of this run: what a batch of sub-calls or a `map` returned."""

    kind: ClassVar[str] = "result"
    id: str

    def __post_init__(self) -> None:
        _check(_is_id(self.id), "id", self.id)


class Select(Step):
    """Only these columns, in this order."""

    kind: ClassVar[str] = "select"
    columns: tuple[str, ...]

    def __post_init__(self) -> None:
        named = isinstance(self.columns, tuple) and len(self.columns) > 0 and all(isinstance(name, str) for name in self.columns)
        _check(named, "columns", self.columns)


class Where(Step):
    """Records for which every condition `(column, operator, value)` holds. Null fulfils only `== None`."""

    kind: ClassVar[str] = "where"
    conditions: tuple[tuple[str, str, Any], ...]

    def __post_init__(self) -> None:
        _check(isinstance(self.conditions, tuple), "conditions", self.conditions)
        for condition in self.conditions:
            _check(isinstance(condition, tuple) and len(condition) == 3, "condition", condition)
            column, operator, value = condition
            _check(isinstance(column, str), "column", column)
            _check(operator in OPERATORS, "operator", operator)
            if operator in ("in", "not in"):
                _check(isinstance(value, tuple) and len(value) <= MAX_VALUES and all(map(_is_scalar, value)), "values", value)
            else:
                _check(_is_scalar(value), "value", value)


class Grep(Step):
    """Records in which a Rust regular expression is found: in `column`, or in any column, as shown."""

    kind: ClassVar[str] = "grep"
    pattern: str
    column: str | None = None
    ignore_case: bool = False
    invert: bool = False

    def __post_init__(self) -> None:
        _check(isinstance(self.pattern, str) and len(self.pattern) <= MAX_PATTERN, "pattern", self.pattern)
        _check(self.column is None or isinstance(self.column, str), "column", self.column)
        _check(isinstance(self.ignore_case, bool) and isinstance(self.invert, bool), "flag", (self.ignore_case, self.invert))


class Slice(Step):
    """Records `start` to `stop` (exclusive; None is the end) of what comes before, counted in order."""

    kind: ClassVar[str] = "slice"
    start: int
    stop: int | None = None

    def __post_init__(self) -> None:
        _check(_is_count(self.start), "start", self.start)
        _check(self.stop is None or _is_count(self.stop), "stop", self.stop)


class Split(Step):
    """Records become spans of one text column: lines, paragraphs, or what a regular expression separates.

    A span longer than `max_chars` is cut. Spans keep the other columns.
    """

    kind: ClassVar[str] = "split"
    column: str
    by: str = "paragraph"
    max_chars: int | None = None

    def __post_init__(self) -> None:
        _check(isinstance(self.column, str), "column", self.column)
        _check(isinstance(self.by, str) and 0 < len(self.by) <= MAX_PATTERN, "by", self.by)
        _check(self.max_chars is None or (_is_count(self.max_chars) and self.max_chars > 0), "max_chars", self.max_chars)


class Keep(Step):
    """Only the records whose places a `filter` kept; the places are a selection in the run directory."""

    kind: ClassVar[str] = "keep"
    selection: str

    def __post_init__(self) -> None:
        _check(_is_id(self.selection), "selection", self.selection)


class Places(Step):
    """Only the records at these places, in their order: those that were drawn at random."""

    kind: ClassVar[str] = "places"
    places: tuple[Place, ...]

    def __post_init__(self) -> None:
        fine = isinstance(self.places, tuple) and len(self.places) <= MAX_PLACES and all(map(_is_place, self.places))
        _check(fine, "places", self.places)
        _check(all(first < second for first, second in zip(self.places, self.places[1:], strict=False)), "order of places", "")


class Between(Step):
    """Records whose place is at or after `start` and before `stop`; None is open."""

    kind: ClassVar[str] = "between"
    start: Place | None = None
    stop: Place | None = None

    def __post_init__(self) -> None:
        for place in (self.start, self.stop):
            _check(place is None or _is_place(place), "place", place)


class Window(Step):
    """A `Slice` made local: of what comes before, `skip` records of shard `first` are left out, and shard `last` gives
    only its first `take` (counted before the skip). Made by `planning.slicing`, never by root code."""

    kind: ClassVar[str] = "window"
    first: int
    skip: int
    last: int | None = None
    take: int = 0

    def __post_init__(self) -> None:
        _check(all(map(_is_count, (self.first, self.skip, self.take))), "window", (self.first, self.skip, self.take))
        _check(self.last is None or _is_count(self.last), "last", self.last)


_KINDS: dict[str, type[Step]] = {
    kind.kind: kind for kind in (Source, Result, Select, Where, Grep, Slice, Split, Keep, Places, Between, Window)
}
_ORIGINS = (Source, Result)


class Plan(Record):
    """A chain of nodes.

    Examples
    --------
    >>> plan = Plan((Source("context"),)).then(Grep("timeout"))
    >>> Plan.from_json(plan.to_json()) == plan
    True
    """

    nodes: tuple[Step, ...]

    def __post_init__(self) -> None:
        _check(0 < len(self.nodes) <= MAX_NODES, "number of nodes", len(self.nodes))
        _check(isinstance(self.nodes[0], _ORIGINS), "first node", self.nodes[0])
        _check(not any(isinstance(node, _ORIGINS) for node in self.nodes[1:]), "node", "a second origin")

    @property
    def origin(self) -> Source | Result:
        """Where the records come from."""
        return self.nodes[0]  # type: ignore[return-value]

    @property
    def steps(self) -> tuple[Step, ...]:
        """The nodes after the origin."""
        return self.nodes[1:]

    def then(self, node: Step) -> Plan:
        """Return the plan with one more step."""
        return Plan((*self.nodes, node))

    def to_json(self) -> list[dict[str, Any]]:
        """Return the plan as JSON values."""
        return [node.to_json() for node in self.nodes]

    @classmethod
    def from_json(cls, value: Any) -> Plan:
        """Read a plan back. Takes nothing for granted: the value may come from root code.

        Raises
        ------
        InputError
            The value is no plan.
        """
        if not isinstance(value, list) or len(value) > MAX_NODES:
            raise InputError(f"{value!r:.100} is no plan. Pass a Corpus.")
        return cls(tuple(_node(item) for item in value))

    def fingerprint(self) -> str:
        """Return 32 hexadecimal digits that are equal for equal plans."""
        import hashlib  # 4 ms, in a process that seldom asks

        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:32]


def _node(value: Any) -> Step:
    if not isinstance(value, dict) or not isinstance(value.get("node"), str) or value["node"] not in _KINDS:
        raise InputError(f"{value!r:.100} is no step of a plan. Pass a Corpus.")
    kind = _KINDS[value["node"]]
    names = set(kind._names)
    given = {key: _tuples(item) for key, item in value.items() if key != "node"}
    if not given.keys() <= names:
        raise InputError(f"A {value['node']} step has no {sorted(given.keys() - names)}. Pass a Corpus.")
    try:
        return kind(**given)
    except TypeError as error:
        raise InputError(f"This {value['node']} step of a plan does not work: {error}. Pass a Corpus.") from None


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def _is_place(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 3 and all(map(_is_count, value))


def _is_id(value: Any) -> bool:
    # ids become file names: nothing but what we make ourselves
    return (
        isinstance(value, str)
        and 0 < len(value) <= 200
        and all(part.isalnum() and part.isascii() for part in value.replace("_", "-").split("-"))
    )


def _check(fine: bool, what: str, value: Any) -> None:
    if not fine:
        raise InputError(f"{what} = {value!r:.200} cannot be part of a plan. Check the verb's arguments.")
