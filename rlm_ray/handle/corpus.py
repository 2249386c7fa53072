"""`Corpus`: a lazy, immutable selection of records. The one class that root code and a person in a notebook share.

Narrowing builds a plan; looking and computing ask a backend. In the sandbox the backend is the channel to the parent,
outside it is the cluster. This file knows neither, reads nothing, and imports only the standard library, because root
code's process imports it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rlm_ray.errors import InputError, RlmRayError
from rlm_ray.handle import reflexes
from rlm_ray.handle.arguments import count_of, error_choice, hashable, literal, pickled, quoted
from rlm_ray.handle.chunks import Chunks
from rlm_ray.handle.display import shown_html, shown_line, shown_reading, shown_step
from rlm_ray.handle.excerpts import Excerpts, compile_pattern
from rlm_ray.handle.plan import Grep, Plan, Result, Select, Slice, Source, Split, Where
from rlm_ray.handle.tabular import Tabular
from rlm_ray.handle.values import Counts, Description, Estimate

TYPE_CHECKING = False  # see rlm_ray/__init__.py
if TYPE_CHECKING:
    from typing import Any, Protocol

    from rlm_ray.handle.tabular import Table
    from rlm_ray.types.json import JsonObject, JsonSchema, Record
else:
    Protocol = object

PAGE_RECORDS = 2_000
#: Records that a notebook shows.
FIRST_ROWS = 5


class Backend(Protocol):
    """Answers a handle: `call` sends a verb with JSON arguments and returns a JSON value and bytes.

    A backend stays in its process: a pickle holds None in its place, unless the pickler knows the backend by name, as the one
    for a REPL's variables does.
    """

    def call(self, verb: str, args: dict[str, Any], blob: bytes = b"") -> tuple[Any, bytes]:
        """Ask, wait and return the reply; raises the error that the reply carries."""

    def table(self, plan: Plan, schema: dict[str, str]) -> Table:
        """Return the records of a plan as a table; an InputError in the sandbox, which holds no data."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()


class Corpus(Tabular):
    """A lazy selection of records: lines, documents, rows, or spans of them.

    Made by `rlm_ray.open`, by narrowing another, and by sub-calls. Immutable; costs the same for a megabyte and for
    ten terabytes, since it holds a plan and no data. Records have a defined order: object name, then position.

    Attributes
    ----------
    plan : Plan
        Which records these are.
    """

    __slots__ = ("_backend", "_count", "_info", "plan")

    def __init__(self, plan: Plan, info: dict[str, Any], backend: Backend | None) -> None:
        self.plan = plan
        self._info = info
        self._backend = backend
        self._count: int | None = None

    # know: no data is read

    @property
    def schema(self) -> dict[str, str]:
        """Columns and their types, as readable names. No data is read."""
        schema: dict[str, str] = dict(self._info.get("schema", {}))
        for step in self.plan.steps:
            if isinstance(step, Select):
                schema = {name: schema[name] for name in step.columns if name in schema}
        return schema

    @property
    def columns(self) -> list[str]:
        """Names of the columns. No data is read."""
        return list(self.schema)

    @property
    def nbytes(self) -> int:
        """Bytes of text or of uncompressed columns; of a filtered handle, at most. No data is read."""
        return int(self._info.get("nbytes") or 0)

    @property
    def shards(self) -> int:
        """Number of shards that a scan would start from. No data is read."""
        return int(self._info.get("shards") or 0)

    @property
    def info(self) -> dict[str, Any]:
        """What is known without reading, as JSON: kind, schema, sizes, URIs, failed objects. See `describe` for people."""
        return dict(self._info)

    @property
    def backend(self) -> Backend | None:
        """What answers this handle; None in a function that runs over shards."""
        return self._backend

    def describe(self) -> Description:
        """Return what is known without reading: kind, columns, sizes, partitions, failed objects, the narrowing, and what it
        would read at most, by listing and footers.
        """
        info = {key: value for key, value in self._info.items() if value not in (None, [], {})}
        info["schema"] = self.schema
        if self.plan.steps:
            info["narrowed by"] = [shown_step(step.to_json()) for step in self.plan.steps]
            info.pop("records", None)
            info.pop("estimate", None)
            if self._backend is not None and isinstance(self.plan.origin, Source):
                info["would read"] = shown_reading(self._ask("reading"))
        if self._count is not None:
            info["records"] = self._count
        return Description(info)

    # look: bounded

    def head(self, n: int = 5) -> list[dict[str, Any]]:
        """Return the first `n` records, each a dict with its `_address`. Reads from the first shard until it has them."""
        found: list[dict[str, Any]] = self._ask("head", n=count_of(n, "n"))
        return found

    def sample(self, n: int = 20, seed: int = 0) -> list[dict[str, Any]]:
        """Return `n` records drawn uniformly, in order. The same seed draws the same records.

        Reads what it draws where footers give the counts, else counts first.
        """
        found: list[dict[str, Any]] = self._ask("sample", n=count_of(n, "n"), seed=int(seed))
        return found

    def draw(self, n: int, seed: int = 0, skip: int = 0) -> Corpus:
        """Return `n` records drawn at random, without repetition, as a Corpus: the way to ask models about a sample.

        A longer sample of the same seed begins with the shorter one; `skip` leaves out the first of it. Counts the records
        where footers do not; calls no model.

        Raises
        ------
        InputError
            More than 10,000 at once.
        """
        return self._result(self._ask("draw", n=count_of(n, "n"), seed=int(seed), skip=count_of(skip, "skip")))

    def text(self, max_chars: int = 20_000) -> str:
        """Return the records as text, up to `max_chars` characters; what was cut is said at the end."""
        text: str = self._ask("text", max_chars=count_of(max_chars, "max_chars"))
        return text

    def __getitem__(self, key: int | slice) -> Any:
        if isinstance(key, bool) or not isinstance(key, int | slice):
            raise InputError(
                f"A Corpus is indexed by a record's number or a slice, not {key!r:.80}. For a column use .select({key!r:.40})."
            )
        if isinstance(key, int):
            return self._ask("record", index=key if key >= 0 else self._from_end(key))
        if key.step not in (None, 1):
            raise InputError(f"A Corpus has no slices with step {key.step!r}. Take [a:b], or .sample(n).")
        start = 0 if key.start is None else key.start
        start = start if start >= 0 else max(0, self.count() + start)
        stop = key.stop if key.stop is None or key.stop >= 0 else max(0, self.count() + key.stop)
        return self.then(Slice(start, stop if stop is None else max(start, stop)))

    def _from_end(self, index: int) -> int:
        count = self.count()
        if count + index < 0:
            raise IndexError(f"record {index} of {count}")
        return count + index

    def __iter__(self) -> Iterator[dict[str, Any]]:
        after: Any = None
        while True:
            page = self._ask("page", after=after, n=PAGE_RECORDS)
            yield from page["records"]
            after = page["after"]
            if after is None:
                return

    def __len__(self) -> int:
        return self.count()

    def __bool__(self) -> bool:
        # truth never reads: `if context:` would otherwise scan a lake
        return True

    def count(self) -> int:
        """Return the exact number of records: from footers where they know it, else by one scan, then remembered."""
        if self._count is None:
            self._count = int(self._ask("count"))
        return self._count

    # narrow: lazy

    def select(self, *columns: str) -> Corpus:
        """Keep these columns, in this order.

        Raises
        ------
        InputError
            A column that is not there.
        """
        names = tuple(columns[0]) if len(columns) == 1 and isinstance(columns[0], list | tuple) else columns
        return self.then(Select(tuple(self._column(name) for name in names)))

    def where(self, conditions: list[tuple[str, str, Any]] | tuple[str, str, Any], *more: tuple[str, str, Any]) -> Corpus:
        """Keep records for which all conditions hold.

        Parameters
        ----------
        conditions : list of (column, operator, value)
            Operators: == != < <= > >= in, not in. Null fulfils only `== None`. A text is compared with a timestamp
            as that timestamp.
        """
        if not isinstance(conditions, list | tuple):
            raise InputError(
                f"{conditions!r:.100} is no condition. Give (column, operator, value), as in .where(('level', '==', 'ERROR')), "
                "or SQL to .sql()."
            )
        given = (
            [conditions]
            if isinstance(conditions, tuple) and len(conditions) == 3 and isinstance(conditions[0], str)
            else list(conditions)
        )
        checked = []
        for condition in [*given, *more]:
            if not isinstance(condition, list | tuple) or len(condition) != 3:
                raise InputError(
                    f"{condition!r:.100} is no condition. Give (column, operator, value), as in ('level', '==', 'ERROR')."
                )
            column, operator, value = condition
            if operator == "==" and isinstance(value, list | tuple | set):
                operator = "in"
            checked.append((self._column(column), operator, literal(value)))
        return self.then(Where(tuple(checked))) if checked else self

    def grep(self, pattern: str, column: str | None = None, ignore_case: bool = False, invert: bool = False) -> Corpus:
        """Keep records in which a regular expression is found: in `column`, or in any column, as shown.

        Rust syntax: linear time, no look-around, no back-references. The pattern is compiled at once, so that a wrong
        one is an error here.
        """
        if column is not None:
            self._column(column)
        node = Grep(pattern, column, bool(ignore_case), bool(invert))
        self._backed().call("check_pattern", {"pattern": pattern, "ignore_case": node.ignore_case})
        return self.then(node)

    def split(self, column: str = "text", by: str = "paragraph", max_chars: int | None = None) -> Corpus:
        """Turn records into spans of a text column: the way into a long document.

        Parameters
        ----------
        column : str
            Column with the text.
        by : {"line", "paragraph"} or regular expression
            What separates spans.
        max_chars : int, optional
            Longer spans are cut at this length.
        """
        if by not in ("line", "paragraph"):
            self._backed().call("check_pattern", {"pattern": by, "ignore_case": False})
        return self.then(Split(self._column(column), by, max_chars))

    # compute over the shards, when called

    def count_by(self, *columns: str | int, limit: int = 1000) -> Counts:
        """Return a dict of value to number of records, most frequent first, of at most `limit` values. One scan.

        Of several columns the keys are tuples, and the count is SQL over the shards.
        """
        *given, last = columns or ("",)
        if isinstance(last, int):
            limit = last
        else:
            given.append(last)
        names = [self._column(str(name)) for name in given]
        if len(names) == 1:
            reply = self._ask("count_by", column=names[0], limit=count_of(limit, "limit"))
            return Counts({hashable(value): count for value, count in reply["counts"]}, reply["distinct"])
        if not names:
            raise InputError("count_by needs a column, as in .count_by('level').")
        keys = ", ".join(map(quoted, names))
        shown = f"select {keys}, sum(records_::bigint)::bigint records_, count(*) over () values_ from context group by {keys}"
        rows = list(
            self.sql(
                f"select {keys}, count(*) records_ from context group by {keys}",
                combine=f"{shown} order by records_ desc, {keys} limit {count_of(limit, 'limit')}",
            )
        )
        counts = {tuple(hashable(row.get(name)) for name in names): row["records_"] for row in rows}
        return Counts(counts, rows[0]["values_"] if rows else 0)

    def distinct(self, *columns: str, limit: int = 1000) -> list[Any]:
        """Return the different values of a column, most frequent first; of several columns, tuples. One scan.

        Raises
        ------
        InputError
            There are more than `limit`: a list that ends early would be taken for all of them.
        """
        counts = self.count_by(*columns, limit=limit)
        if counts.distinct > len(counts):
            raise InputError(
                f"{', '.join(columns)} has {counts.distinct:,} different values, more than limit={limit:,}. Give a larger limit, "
                "or narrow first."
            )
        return list(counts)

    def sort(self, column: str, descending: bool = False, limit: int = 1000) -> Corpus:
        """Return the first `limit` records in the order of a column, nulls last, as a result. SQL over the shards."""
        end = (
            f"order by {quoted(self._column(column))} {'desc' if descending else 'asc'} nulls last limit {count_of(limit, 'limit')}"
        )
        return self.sql(f"select * from context {end}", combine=f"select * from context {end}")

    def excerpts(self, pattern: str, width: int = 100, column: str | None = None) -> Corpus:
        """Return a row for each place where a pattern is found, with `width` characters on each side.

        A look at how words are used that shows no whole records. Runs as a function in the sandbox.

        Returns
        -------
        Corpus
            Columns `found`, `excerpt` and `column`; each row has its record's `_address`. At most 50 of one record.

        Raises
        ------
        InputError
            The pattern does not compile, here or for `grep`.
        """
        compile_pattern(pattern)
        return self.grep(pattern, column).map(Excerpts(pattern, count_of(width, "width"), column))

    def map(self, fn: Callable[[dict[str, Any]], Any], on_error: str = "raise") -> Corpus:
        """Run `fn(record)` on every record, sandboxed on the shards. It returns a dict, a list of dicts or None.

        Returns a Corpus of what came back, each with its record's `_address`. A record on which it fails is a row of `.failed`
        alone; failing on more than the run's `max_failed_share` raises, unless `on_error="keep"`.

        Raises
        ------
        FunctionFailed
            `fn` failed on too many records.
        """
        return self._result(self._ask("map", blob=pickled(fn), **_named(fn, on_error)))

    def filter(self, fn: Callable[[dict[str, Any]], bool], on_error: str = "raise") -> Corpus:
        """Keep the records for which `fn(record)` is true; run, and raising, like `map`. Records keep addresses and columns."""
        return self._result(self._ask("filter", blob=pickled(fn), **_named(fn, on_error)))

    def aggregate(
        self, fn: Callable[[list[dict[str, Any]]], Any], combine: Callable[[Any, Any], Any], on_error: str = "raise"
    ) -> Any:
        """Return `combine` folded over `fn(records)` of every batch of records.

        Parameters
        ----------
        fn : callable
            Gets a list of records, returns a JSON value.
        combine : callable
            Gets two such values, returns one; must be associative. None where there is no record at all.
        on_error : {"raise", "keep"}
            "keep": leave out a batch of records on which `fn` fails.
        """
        first, second = pickled(fn), pickled(combine)
        return self._ask("aggregate", blob=first + second, combine_at=len(first), **_named(fn, on_error))["value"]

    def sql(self, query: str, combine: str | None = None) -> Corpus:
        """Run one read-only statement of DuckDB's SQL over the records, which are the table `context`.

        The query runs over each shard on its own (large shards in pieces of some 32 MB), in a sandbox beside the data,
        and the result is the union of what the shards gave: without `combine` a count is a count per shard. Nested
        columns are JSON text; `_address` is a column that can be selected, so that rows keep their source.

        Parameters
        ----------
        query : str
            As in ``select host, count(*) n from context group by host``.
        combine : str, optional
            Runs once over that union, which it too sees as `context`:
            ``select host, sum(n) n from context group by host``.

        Returns
        -------
        Corpus
            A row for each row of the result. Reads the columns that the query needs; calls no model.

        Raises
        ------
        InputError
            The query does not fit the columns, fails, takes too long or gives too much; or the isolation level cannot
            run SQL.
        """
        return self._result(self._ask("sql", query=query, combine=combine))

    # a model's judgement, by a sample

    def estimate(
        self,
        question: str,
        schema: JsonSchema,
        within: float | None = None,
        delta: float = 0.05,
        calls: int | None = None,
        by: str | None = None,
        min: float = 0.0,
        max: float | None = None,
        model: str | None = None,
        seed: int = 0,
    ) -> Estimate:
        """Say how many records have each label, and how sure that is, from a random sample that a model reads.

        The intervals are about what the model would say of all records, and hold also when the sample ends early. A reading
        that failed counts against both limits.

        Parameters
        ----------
        question : str
            As in `llm_each`.
        schema : dict
            One column: labels, "boolean", or a number, for which `max` is needed.
        within : float, optional
            Stop when each share is known to plus or minus this; else all calls are made.
        delta : float
            Probability that any interval is wrong.
        calls : int, optional
            Model calls to take at most, each with up to `records_per_call` records; 1,000 readings where not given.
        by : str, optional
            Column: the same for each of its values, at most 200. `delta` is for all groups together.
        min, max : float
            Least and largest number that one record can have.
        seed : int
            Another seed is another sample.

        Returns
        -------
        Estimate
            Prints as a sentence; `.counts` has number, low and high by label.

        Raises
        ------
        InputError
            A schema of several columns or of free text; a number outside `min` to `max`.
        BudgetExceeded
            The calls left do not suffice for the first readings.
        """
        if not isinstance(question, str):
            raise InputError(f"A question is a str, not {type(question).__name__}.")
        how: JsonObject = {"within": within, "delta": delta, "calls": calls, "min": min, "max": max, "seed": int(seed)}
        by = by if by is None else self._column(by)
        return Estimate(self._ask("estimate", question=question, schema=schema, model=model, by=by, **how))

    # split into model calls

    def chunks(self, tokens: int | None = None, by: str | None = None, overlap: int = 0) -> Chunks:
        """Cut into handles that each fit one model call.

        Parameters
        ----------
        tokens : int, optional
            Size of a chunk; the run's default where not given.
        by : str, optional
            Column whose values are kept apart: a chunk has records of one value only.
        overlap : int
            Tokens of the chunk before that are repeated.

        Returns
        -------
        Chunks
            A sequence of Corpus. Plain ranges are cut without reading data; over a filter, a split or `by`, one scan
            of the lengths comes first.
        """
        if by is not None:
            self._column(by)
        reply = self._ask(
            "chunks", tokens=None if tokens is None else count_of(tokens, "tokens"), by=by, overlap=count_of(overlap, "overlap")
        )
        return Chunks(self, by, reply)

    # results of sub-calls

    @property
    def ok(self) -> Corpus:
        """Rows of a result that did not fail: those that a result shows, counts and hands on by itself."""
        return self.then(Where(((self._column("_error"), "==", None),)))

    @property
    def failed(self) -> Corpus:
        """Rows of a result that failed; `_error` says why. No other way of reading a result has them."""
        if (rows := self._info.get("failed_rows")) is not None:
            return self._result(rows).failed
        return self.then(Where(((self._column("_error"), "!=", None),)))

    @property
    def progress(self) -> dict[str, Any]:
        """How far a result is that is still being worked on; does not wait."""
        if not isinstance(self.plan.origin, Result):
            raise InputError("Only what llm_map, llm_each, rlm_map and map return has progress.")
        progress: dict[str, Any] = self._backed().call("progress", {"id": self.plan.origin.id})[0]
        return progress

    @property
    def so_far(self) -> Corpus:
        """The rows of a result that are there now, as a result of its own; does not wait. See `progress`.

        Of `llm_map` and `llm_each` these are the rows of the groups that have ended, of `rlm_map` those of each part.
        """
        if not isinstance(self.plan.origin, Result) or self.plan.steps:
            raise InputError("Only what llm_map, llm_each and rlm_map return has rows so far: take them first, then narrow.")
        return self._result(self._backed().call("so_far", {"id": self.plan.origin.id})[0])

    def then(self, node: Any, **info: Any) -> Corpus:
        """Return the handle with one more node of its plan, as the narrowing verbs do; `info` replaces known facts."""
        kept = {key: value for key, value in self._info.items() if key not in ("records", "estimate")}
        return Corpus(self.plan.then(node), kept | info, self._backend)

    # plumbing

    def _table(self) -> Table:
        return self._backed().table(self.plan, self.schema)

    def _backed(self) -> Backend:
        if self._backend is None:
            raise InputError(
                "This Corpus has no data here: a function that runs over shards cannot use a handle. Pass what it needs as values."
            )
        return self._backend

    def _ask(self, verb: str, blob: bytes = b"", **args: Any) -> Any:
        return self._backed().call(verb, {"plan": self.plan.to_json()} | args, blob)[0]

    def _result(self, reply: dict[str, Any]) -> Corpus:
        return Corpus(Plan.from_json(reply["plan"]), reply["info"], self._backend)

    def _column(self, name: str) -> str:
        schema = self.schema
        if name not in schema and name not in ("_error", "_address"):
            raise InputError(f"There is no column {name!r:.80}. The columns are: {', '.join(schema)}.")
        if name == "_error" and self._info.get("kind") != "result":
            raise InputError("Only the results of sub-calls and of map have failed rows.")
        return name

    def __getattr__(self, name: str) -> Any:
        # only for what is not there: a name that another library has is answered by the line that does it here
        raise AttributeError(reflexes.answer(name), name=name, obj=self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.plan.to_json(), self._info, self._backend)

    def __copy__(self) -> Corpus:
        return self

    def __deepcopy__(self, memo: object) -> Corpus:
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Corpus) and self.plan == other.plan

    def __hash__(self) -> int:
        return hash(self.plan)

    def _repr_html_(self) -> str:
        """Show in a notebook what is known without reading, and the first records where looking costs little."""
        rows, problem = self._first_rows()
        return shown_html(self.describe(), self.shards, self.nbytes, rows, problem)

    def _first_rows(self) -> tuple[Sequence[Record], str]:
        """Return the first records where that reads little and waits for nothing; else why there are none."""
        if self._backend is None or any(step.to_json()["node"] != "select" for step in self.plan.steps):
            return [], "not looked at, since that may read much: .head(5)"
        try:
            if isinstance(self.plan.origin, Result) and not self.progress["finished"]:
                return [], "not all there yet: .so_far"
            return self.head(FIRST_ROWS), ""
        except RlmRayError as error:
            return [], f"cannot be read: {error}"

    def __repr__(self) -> str:
        return shown_line(self.plan, self._info, list(self.schema), self.shards, self.nbytes, self._count)


def _named(fn: Callable[..., Any], on_error: str) -> dict[str, str]:
    """Return what goes with a function: its name, and `on_error` where it is not the usual."""
    return {"fn": str(getattr(fn, "__name__", type(fn).__name__))[:100]} | error_choice(on_error)


def _restore(plan: list[dict[str, Any]], info: dict[str, Any], backend: Backend | None) -> Corpus:
    return Corpus(Plan.from_json(plan), info, backend)
