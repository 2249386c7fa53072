"""What goes into a group of leaf calls and what comes out: plain values, picklable."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from rlm_ray.models.contract import Usage
from rlm_ray.subcalls import keys
from rlm_ray.subcalls.render import render
from rlm_ray.subcalls.votes import Votes
from rlm_ray.types.json import Record

if TYPE_CHECKING:
    from rlm_ray.settings import Settings

Times = tuple[tuple[float, float], ...]
Kind = Literal["prompts", "chunks", "records"]


@dataclass(frozen=True, slots=True)
class LeafSpec:
    """What a batch of leaf calls asks.

    Attributes
    ----------
    kind : {"prompts", "chunks", "records"}
        `prompts`: one answer per prompt, its records (where it has some) below it, in one call. `chunks` (llm_map): one
        answer per chunk, or per piece of a chunk that is too large. `records` (llm_each): one answer per record, many
        records packed into each call.
    prompt : str
        The instruction; an item may have its own.
    schema : dict or None
        As written by root code; see `subcalls.schema`.
    votes : int or str
        Answers per item, of which the majority counts; "2+1": a third only where two differ.
    completion_tokens, call_tokens : int
        Most completion tokens of a call, and most prompt tokens (estimated).
    records_per_call : int
        Most records in one call.
    bytes_per_token : float
        For the estimate.
    concurrency : int
        Calls in flight.
    structured_output : {"auto", "json_schema", "json"}
        With `json` no `response_format` is sent.
    shared : bool
        Equal contents are asked about once; else each record by itself.
    show : tuple of str, optional
        The columns of a record that the model is shown; all where None.
    """

    kind: Kind
    prompt: str
    model: str
    schema: dict[str, Any] | None = None
    votes: int | str = 1
    completion_tokens: int = 2_048
    call_tokens: int = 24_000
    records_per_call: int = 50
    bytes_per_token: float = 4.0
    temperature: float | None = None
    concurrency: int = 512
    structured_output: Literal["auto", "json_schema", "json"] = "auto"
    shared: bool = True
    show: tuple[str, ...] | None = None

    @classmethod
    def of(
        cls,
        settings: Settings,
        kind: Kind,
        prompt: str,
        model: str,
        schema: dict[str, Any] | None = None,
        votes: int | str = 1,
        show: tuple[str, ...] | None = None,
    ) -> LeafSpec:
        """A batch with the sizes of `settings`."""
        return cls(
            kind,
            prompt,
            model,
            schema,
            votes,
            completion_tokens=settings.completion_tokens,
            call_tokens=settings.call_tokens,
            records_per_call=settings.records_per_call,
            bytes_per_token=settings.bytes_per_token,
            temperature=settings.temperature,
            concurrency=settings.concurrency,
            structured_output=settings.structured_output,
            shared=settings.share_answers,
            show=show,
        )

    def shown(self, record: Record) -> str:
        """Return a record as the text that the model is shown."""
        return render(self.visible(record))

    def visible(self, record: Record) -> Record:
        """Return what the model is shown of a record."""
        return record if self.show is None else {name: record.get(name) for name in self.show}

    @property
    def question(self) -> str:
        """The part of a key that names the question, the answers of single calls and of votes apart."""
        return self.question_of(self.prompt, 0)

    def question_of(self, prompt: str, vote: int) -> str:
        """Return the part of a key that names the question, with the prompt of an item."""
        # The votes are a parameter of the answer: a majority of three is not the answer of one call.
        kind = self.kind if vote or Votes.of(self.votes).most == 1 else f"{self.kind} votes={self.votes}"
        return keys.question_key(kind, self.model, prompt, keys.canonical(self.schema), self.temperature)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to ask about.

    Attributes
    ----------
    index : int
        Its place in the batch; comes back in its rows.
    version_key : str
        What it is and in which version. Goes into the key where equal contents are asked about apart.
    records : tuple of dict
        One record (`records`), the chunk's records (`chunks`), or none for a bare prompt.
    address : str, optional
        Comes back in its rows.
    prompt : str, optional
        In place of the batch's.
    """

    index: int
    version_key: str = ""
    records: tuple[dict[str, Any], ...] = ()
    address: str | None = None
    prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One answer, or why there is none.

    Attributes
    ----------
    index, address
        Of the item.
    piece, pieces : int or None
        Which piece of how many, from 1, where a chunk was too large for one call.
    key : str
        For the ledger.
    answer : dict or None
        By column; None exactly when there is an error.
    error : str or None
    unasked : bool
        The budget ended before it was answered.
    usage : Usage
        What was spent since the last row of the same group (the last vote, where votes go out too). For packed records
        only the sum over rows has a meaning.
    reused : bool
        The ledger or an equal call of this group answered; nothing was spent.
    prompt_hash : str
        Digest of what the model read of the item.
    vote : int
        0 for the item's answer; else which vote (rows given to `on_vote`).
    votes : float or None
        Share of the votes that agree with the answer, where there were several.
    times : tuple of (float, float)
        Of the calls of `usage`: when each began, in seconds since 1970, and how many seconds it took, retries included.
    calls : tuple of str
        Names of the calls that gave the answer, one for each vote; records of one pack have the same. Empty where the ledger
        answered.
    equal : bool
        An equal item of this group was answered, or failed, in its place.
    deferred : bool
        Another group of the batch asks about the same content: this one is to run again when that has ended.
    quote : str or None
        The first quote of the answer, in the record's own characters; of a chunk, `address` is that of the record that has it.
    """

    index: int
    key: str
    answer: dict[str, Any] | None = None
    error: str | None = None
    address: str | None = None
    piece: int | None = None
    pieces: int | None = None
    unasked: bool = False
    usage: Usage = field(default_factory=Usage)
    reused: bool = False
    prompt_hash: str = ""
    vote: int = 0
    votes: float | None = None
    times: Times = field(default=(), compare=False)
    calls: tuple[str, ...] = field(default=(), compare=False)
    equal: bool = False
    deferred: bool = False
    quote: str | None = None
