"""The answer of a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, cast

from rlm_ray.corpus.operations.operations import shown_text
from rlm_ray.errors import InputError
from rlm_ray.handle.values import cell_text, facts_html, rows_html
from rlm_ray.text import counted
from rlm_ray.types.json import JsonObject, Record
from rlm_ray.types.run import AnswerRecord, Citation, Coverage, Failure, RefusedCitation, SourceRecord, SureRecord
from rlm_ray.types.usage import RunUsage

if TYPE_CHECKING:
    from rlm_ray.handle.corpus import Corpus

#: Characters, rows and citations of an answer that a notebook shows.
SHOWN = 4_000
SHOWN_ROWS = 20
SHOWN_CITATIONS = 5
#: Reads the record of a citation, with what stands around it.
ReadSource = Callable[[Citation], SourceRecord]


class CitedRecord(dict[str, Any]):
    """A citation of an answer: a dict with `address` and `quote`, whose record is read from the lake when it is asked for.

    Examples
    --------
    >>> cited = CitedRecord({"address": "s3://lake/a.log@1#byte=0-9", "quote": "disk full"})
    >>> cited.quote, cited["quote"]
    ('disk full', 'disk full')
    """

    def __init__(self, citation: Citation, read: ReadSource | None = None) -> None:
        super().__init__(address=citation["address"], quote=citation["quote"])
        self._read = read

    @property
    def address(self) -> str:
        """Where the record is."""
        return cast(str, self["address"])

    @property
    def quote(self) -> str | None:
        """The words that matter, as the record has them; None where none were given."""
        return cast("str | None", self["quote"])

    @property
    def record(self) -> Record:
        """The record. Reads it from the lake.

        Raises
        ------
        InputError
            It is a row of a result, or there is no such record any more.
        ObjectChanged, ObjectUnreadable
            The object is no longer what was read.
        """
        return self.source()["record"]

    @property
    def text(self) -> str:
        """The record as text; see `record`."""
        return shown_text({**self.record})

    def source(self) -> SourceRecord:
        """Return the record with what stands around it: `record`, `before`, `behind`. Reads it from the lake."""
        if self._read is None:
            raise InputError("This citation is no part of an answer, so nothing says where its corpus is. Use answer.citations.")
        return self._read({"address": self.address, "quote": self.quote})

    def __reduce__(self) -> tuple[Any, ...]:
        return CitedRecord, ({"address": self.address, "quote": self.quote}, self._read)


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """The answer to a question, what it rests on and what it cost.

    Attributes
    ----------
    value : Any
        JSON value; None where there is no answer, and where the answer is `table`.
    table : Corpus or None
        The answer where it is a table: a handle over its rows in the run directory.
    citations : list of CitedRecord
        `address`, and `quote` where one was given: it was looked for in the record, and found. `.text` and `.record` read the
        record.
    refused : list of dict
        Citations whose quote is not at their address: `address`, `quote`, `reason`. No part of the answer.
    coverage : dict
        What models were `shown`, in characters and records, with text of no record as `unattributed`; and what was read, and by
        whom: `bytes` and `records` by class. See `ledger.coverage`.
    usage : RunUsage
        `calls`, `prompt_tokens`, `completion_tokens`, `cached_tokens`, `usd` (None: unknown), `seconds`; the whole tree.
        `by_model`: a dict for each depth and model with these and `failed`, `retries` and `slowest`, of this session's calls
        whose process reported them (`seconds` are those of the calls there, added up). Each is an attribute and a key:
        `answer.usage.calls` is `answer.usage["calls"]`.
    complete : bool
        False where a limit ended the run, shards failed, or a function or sub-calls failed on what the answer may rest on.
    stop_reason : str
        "answered", "unread" (an answer was set though nothing was read), or what ended the run: "turns", "budget", "time",
        "security", "model".
    failures : list of dict
        What the answer may lack, each with a `reason`: shards that could not be read (`object`, `shard`), and verbs that
        failed on some of what they were given (`verb`, `what`, `failed`, `of`, the first `error` and its `address`).
    sure : list of dict
        How sure the answer is, as far as it is known: a `sentence` for each estimate, and for each batch of which some records
        were read a second time.
    run : str
        The run directory; `rlm_ray.load(answer)` has its turns, its calls and its report.
    isolation : str
        The level of the walls that root code ran behind.
    events : dict
        Security events: denials, restarts, protocol errors.
    denied : dict
        Operations that the walls denied, with their number. The sandboxes report them, so this is a hint.
    model : type, optional
        What was given as `schema`, where that was a pydantic model: the type of `parsed`.
    """

    value: Any
    complete: bool
    stop_reason: str
    run: str
    usage: RunUsage
    coverage: Coverage = field(default_factory=lambda: cast(Coverage, {}))
    citations: list[CitedRecord] = field(default_factory=list)
    refused: list[RefusedCitation] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    sure: list[SureRecord] = field(default_factory=list)
    isolation: str = "strict"
    events: dict[str, int] = field(default_factory=dict)
    denied: dict[str, int] = field(default_factory=dict)
    message: str = ""
    turns: int = 0
    table: Corpus | None = None
    model: Any = None

    @property
    def parsed(self) -> Any:
        """The value as the pydantic model that was given as `schema`, or a list of them; the value where none was given."""
        return self.value if self.model is None else self.parse(self.model)

    def parse(self, model: Any) -> Any:
        """Return the value, or the rows of a table, in a type that pydantic knows: a model, `list[Model]`, a dataclass.

        Raises
        ------
        InputError
            The value is of another shape.
        """
        from pydantic import TypeAdapter, ValidationError

        value = self.value if self.table is None else [dict(row) for row in self.table]
        try:
            return TypeAdapter(model).validate_python(value)
        except ValidationError as error:
            raise InputError(f"The answer is no {model}: {error}. Look at answer.value.") from None

    @property
    def text(self) -> str:
        """The value as text: itself where it is a str, else JSON. Of a table, what it is."""
        if self.table is not None:
            return repr(self.table)
        return as_text(self.value)

    @property
    def answered(self) -> bool:
        """Whether there is an answer at all."""
        return self.value is not None or self.table is not None

    def __repr__(self) -> str:
        """Show in a REPL the answer, whether it is complete, and what it cost."""
        usage, text = self.usage, self.text
        state = "complete" if self.complete else f"in part: {self.stop_reason}" if self.answered else f"none: {self.stop_reason}"
        dollars = "" if usage.usd is None else f", ${usage.usd:.4f}"
        shown = text if len(text) <= SHOWN else f"{text[:SHOWN]} … [{counted(len(text) - SHOWN, 'more character')} in .value]"
        return f"{shown if self.answered else '(no answer)'}\n[{state}; {counted(usage.calls, 'call')}{dollars}; run: {self.run}]"

    def _repr_html_(self) -> str:
        """Show in a notebook the answer as a text, a list of facts or a table, then what it rests on and what it cost."""
        usage = self.usage
        state = "complete" if self.complete else f"in part: {self.stop_reason}" if self.answered else f"none: {self.stop_reason}"
        facts = {
            "state": state,
            "why": self.message if not self.complete else "",
            "cost": f"{counted(usage.calls, 'call')}, {counted(usage.tokens, 'token')}, "
            + ("price unknown" if usage.usd is None else f"${usage.usd:.4f}")
            + f", {usage.seconds:.1f} s",
            "shown to models": counted(characters, "character")
            if (characters := shown_characters(self.coverage)) is not None
            else "",
            "citations": f"{len(self.citations):,}" + (f", {len(self.refused):,} refused" if self.refused else ""),
            "cannot be read": counted(unread, "shard") if (unread := sum("object" in item for item in self.failures)) else "",
            "failed": "\n".join(item["reason"] for item in self.failures if "verb" in item),
            "how sure": "\n".join(item["sentence"] for item in self.sure),
            "run": self.run,
        }
        cited = [{"quote": item.quote or "", "address": item.address} for item in self.citations[:SHOWN_CITATIONS]]
        shown = [self._value_html(), facts_html("", facts)]
        return "".join([*shown, rows_html(cited, len(self.citations), "citation")] if cited else shown)

    def _value_html(self) -> str:
        value: Any = self.value
        if self.table is not None:
            return rows_html(self.table.head(SHOWN_ROWS), self.table.count(), "row")
        if not self.answered:
            return "<p><b>(no answer)</b></p>"
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            return rows_html(value[:SHOWN_ROWS], len(value), "row")
        if isinstance(value, dict) and value:
            return facts_html("Answer", {str(name): cell_text(item) or "null" for name, item in value.items()})
        text = self.text
        shown = text if len(text) <= SHOWN else f"{text[:SHOWN]} … [{counted(len(text) - SHOWN, 'more character')} in .value]"
        return f'<p style="white-space:pre-wrap"><b>{escape(shown)}</b></p>'

    def to_json(self) -> AnswerRecord:
        """Return what `--json` prints. Of a table, `value` is what it is and where its segments are."""
        value = (
            self.value
            if self.table is None
            else {"table": self.table.plan.to_json(), "info": self.table.info, "rows": self.table.count()}
        )
        return {
            "value": value,
            "complete": self.complete,
            "stop_reason": self.stop_reason,
            "usage": self.usage.to_json(),
            "coverage": self.coverage,
            "citations": [{"address": item.address, "quote": item.quote} for item in self.citations],
            "refused": self.refused,
            "failures": self.failures,
            "sure": self.sure,
            "isolation": self.isolation,
            "events": self.events,
            "denied": self.denied,
            "turns": self.turns,
            "message": self.message,
            "run": self.run,
        }

    @classmethod
    def from_json(cls, value: AnswerRecord, table: Corpus | None = None, read: ReadSource | None = None) -> Answer:
        """Read back what `to_json` gave; `read` reads the record of a citation."""
        cited = [CitedRecord(item, read) for item in value["citations"]]
        fields = cast(JsonObject, value) | {"usage": RunUsage.from_json(value["usage"]), "citations": cited}
        return cls(**(fields | {"value": None if table is not None else value["value"]}), table=table)

    def rows(self) -> Iterator[Record]:
        """Iterate over the rows of a table, or over a value that is a list of dicts."""
        yield from self.table if self.table is not None else self.value or ()


def partial_because(stop_reason: str, failures: Sequence[Any]) -> str:
    """Return why an answer is not complete, in a word or two: a limit, or failures.

    Examples
    --------
    >>> partial_because("turns", []), partial_because("answered", [{}])
    ('turns', '1 failure')
    """
    return counted(len(failures), "failure") if stop_reason == "answered" and failures else stop_reason


def shown_characters(coverage: Coverage) -> int | None:
    """Return how many characters sub-calls were shown in all; None for a run of a version that did not count them.

    Examples
    --------
    >>> derived = {"calls": 1, "records": 1, "characters": 5}
    >>> shown_characters({"shown": {"characters": 30, "derived": derived}, "unattributed": {"characters": 7}})
    42
    """
    if "shown" not in coverage:
        return None
    shown = coverage["shown"]
    return int(shown["characters"] + shown["derived"]["characters"] + coverage["unattributed"]["characters"])


def as_text(value: Any) -> str:
    """Return a JSON value as text.

    Examples
    --------
    >>> as_text("yes"), as_text({"n": 1})
    ('yes', '{"n": 1}')
    """
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
