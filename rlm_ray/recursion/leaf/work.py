"""What the two ways of asking share: the batch's state, one call, and the votes of an item."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Protocol

from rlm_ray.errors import BudgetExceeded, ModelError
from rlm_ray.models.contract import ChatReply, ChatRequest, Meter, Usage
from rlm_ray.recursion.leaf.quoting import Own, place_of
from rlm_ray.recursion.leaf.values import Item, LeafSpec, Row
from rlm_ray.subcalls import keys, quotes
from rlm_ray.subcalls.pack import tokens
from rlm_ray.subcalls.prompts import Messages
from rlm_ray.subcalls.schema import AnswerSchema
from rlm_ray.subcalls.votes import Votes, differ, majority
from rlm_ray.types.json import JsonObject

#: Askings after which an answer that is there but not valid is an error row.
TRIES = 3
#: The same for replies in which nothing can be read at all.
BROKEN_TRIES = 5
#: Replies at the start of a batch after which it stops where none of them was usable; and calls in flight until one is.
FIRST_REPLIES, FIRST_IN_FLIGHT = 8, 4
#: Tokens of a batch's instruction from which on one call goes first, so that the others find it in the endpoint's cache: the least
#: that providers keep.
LONG_PREFIX = 1_024
#: Characters of such a reply that its error shows.
_SHOWN_REPLY = 200
_DEFERRED = "not asked: an equal record of another group was not answered."
#: Items that are taken without a pause, so that others on the loop get their turn.
_TURN = 64


class Client(Protocol):
    """What a group needs of `models.client.ChatClient`."""

    async def complete(self, request: ChatRequest, meter: Meter) -> ChatReply:
        """Ask for one completion."""


@dataclass(slots=True)
class Target:
    """What one row will be about: an item, or a piece of it."""

    item: Item
    text_hash: str
    piece: int | None = None
    pieces: int | None = None


@dataclass(slots=True)
class Result:
    """How one vote on a target ended."""

    answer: dict[str, Any] | None = None
    error: str | None = None
    unasked: bool = False
    reused: bool = False
    call: str = ""
    deferred: bool = False


@dataclass(slots=True)
class Tally:
    """The votes on one target, as they come in.

    Attributes
    ----------
    equal : list of Target
        Further targets with the same content, which get the same answer or share the error.
    """

    target: Target
    key: str
    results: list[Result | None]
    replaced: bool = False  # by tallies of its pieces
    equal: list[Target] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Decided:
    """How a content ended, for the targets with the same content that come later."""

    result: Result
    agreed: float | None
    calls: tuple[str, ...]


class Group:
    """State of one group of leaf calls.

    Attributes
    ----------
    stopped : str or None
        Why nothing more is asked: the budget's words.
    unusable : str or None
        Why nothing more is asked: no reply so far was usable. Holds the last one and its fault.
    """

    def __init__(
        self,
        spec: LeafSpec,
        *,
        client: Client,
        meter: Meter,
        known: Callable[[str], dict[str, Any] | None],
        on_row: Callable[[Row], None],
        on_vote: Callable[[Row], None] | None,
        failed: Mapping[str, str] = MappingProxyType({}),
        deferred: Callable[[str], bool] = lambda content: False,
    ) -> None:
        self.spec = spec
        self.votes = Votes.of(spec.votes)
        self.schema = AnswerSchema.of(spec.schema)
        self._quotes = quotes.has_quotes(self.schema)
        self.known = known
        self.stopped: str | None = None
        self.unusable: str | None = None
        self._any_usable = False
        self._cache_key = spec.question[:32] if tokens(spec.prompt, spec.bytes_per_token) >= LONG_PREFIX else ""
        self._cold = bool(self._cache_key)  # no call of the batch has come back
        self._unusable_replies = 0
        self._failed_calls = 0
        self._client = client
        self._meter = meter
        self._on_row = on_row
        self._on_vote = on_vote
        self._unbilled = Usage()
        self._times: list[tuple[float, float]] = []
        self._failed = failed
        self._deferred = deferred
        self._questions = (spec.question_of(spec.prompt, 0), spec.question_of(spec.prompt, 1))
        self._under_way: dict[str, Tally] = {}
        self._decided: dict[str, Decided] = {}

    # keys

    def key(self, target: Target, vote: int) -> str:
        """Key of the answer (vote 0) or of one vote on a target."""
        spec, prompt = self.spec, target.item.prompt
        question = self._questions[vote > 0] if prompt is None else spec.question_of(prompt, vote)
        own = "" if spec.shared else target.item.version_key
        return keys.call_key(question, target.text_hash, vote, target.piece, target.pieces, own)

    # answers

    def checked(self, answer: JsonObject, own_words: Own) -> JsonObject:
        """Return an answer with its quotes in the record's own characters; a ValueError where one does not stand there."""
        return quotes.checked(answer, self.schema, own_words) if self._quotes else answer

    # calls

    def begin(self, trusted: bool, unusable: str | None) -> None:
        """Take over what another group of the batch found out: a usable reply, or why the batch was stopped."""
        self._any_usable, self.unusable = trusted, unusable
        self._cold = self._cold and not trusted

    def most_in_flight(self, most: int) -> int:
        """Return how many calls may be in flight: one until the endpoint can have a long instruction in its cache; few until one
        reply was usable, or so many calls had none."""
        if self._cold:
            return 1
        return most if self._any_usable or self._failed_calls >= FIRST_REPLIES else min(most, FIRST_IN_FLIGHT)

    def judge(self, reply: str, fault: str | None) -> None:
        """Count a reply: usable where it has no fault. The first replies being all unusable stops the batch."""
        if fault is None:
            self._any_usable, self.unusable = True, None
            return
        self._unusable_replies += 1
        if not self._any_usable and self._unusable_replies >= FIRST_REPLIES:
            shown = json.dumps(reply[:_SHOWN_REPLY], ensure_ascii=False) + (" …" if len(reply) > _SHOWN_REPLY else "")
            self.unusable = (
                f"The batch was stopped: its first {self._unusable_replies} replies were all unusable. {fault} "
                f"The last reply was: {shown}. Change the prompt, the schema or the model."
            )

    async def ask(self, messages: Messages, schema: dict[str, Any] | None, name: str, failures: int = 0) -> ChatReply:
        """One call. Its usage is billed to the next row.

        Parameters
        ----------
        failures : int
            Attempts that failed when the same was asked before.

        Raises
        ------
        BudgetExceeded
            The group is stopped: nothing more is asked.
        """
        if self.stopped is not None:
            raise BudgetExceeded(self.stopped)
        spec = self.spec
        if spec.structured_output == "json":
            schema = None
        request = ChatRequest(
            spec.model, messages, spec.completion_tokens, spec.temperature, schema, name, failures, self._cache_key
        )
        begun, at = time.monotonic(), time.time()
        try:
            reply = await self._client.complete(request, self._meter)
        except Exception as error:
            usage = error.usage if isinstance(error, BudgetExceeded | ModelError) else None
            if usage is not None:
                self._unbilled += usage
            if usage is not None and usage.calls:
                self._times.append((at, time.monotonic() - begun))
            if isinstance(error, BudgetExceeded):
                self.stopped = str(error)
            self._failed_calls += 1
            raise
        finally:
            self._cold = False
        self._unbilled += reply.usage
        self._times.append((at, time.monotonic() - begun))
        return reply

    # rows

    def open(self, target: Target) -> tuple[Tally | None, list[int]]:
        """Begin a target: its tally and the votes to ask for; no tally where the ledger or an equal target answers it whole."""
        most = self.votes.most
        key = self.key(target, 0)
        if (tally := self._under_way.get(key)) is not None and not tally.replaced:
            tally.equal.append(target)
            return None, []
        if (decided := self._decided.get(key)) is not None:
            self._equal_row(target, key, decided)
            return None, []
        found = self.known(key)
        if found is not None:
            self._row(target, key, Result(found, reused=True), 1.0 if most > 1 else None)
            return None, []
        if (error := self._failed.get(key)) is not None:
            self._row(target, key, Result(error=error, reused=True))
            return None, []
        if self._deferred(target.text_hash):
            self._row(target, key, Result(error=_DEFERRED, unasked=True, reused=True, deferred=True))
            return None, []
        tally = self._under_way[key] = Tally(target, key, [None] * most)
        if most == 1:
            return tally, [0]
        return tally, self._missing(tally, range(1, self.votes.first + 1)) or self._settle(tally)

    def close(self, tally: Tally, vote: int, result: Result) -> list[int]:
        """Enter the result of one vote; with the last one the row goes out. Returns the votes that must now be asked for."""
        if vote and self._on_vote is not None and not result.reused:
            target = tally.target
            row = self._make(target, self.key(target, vote), result)
            self._on_vote(replace(row, vote=vote))
        if tally.replaced:
            return []
        tally.results[max(0, vote - 1)] = result
        if any(found is None for found in tally.results[: self.votes.first if vote <= self.votes.first else None]):
            return []
        return self._settle(tally)

    def refuse(self, target: Target, reason: str) -> None:
        """An error row for a target that is not asked about at all."""
        self._row(target, self.key(target, 0), Result(error=reason))

    def replace(self, tally: Tally) -> list[Item]:
        """Give a tally up for those of its pieces; returns the items that are to be opened in its place."""
        tally.replaced = True
        self._under_way.pop(tally.key, None)
        return [target.item for target in (tally.target, *tally.equal)]

    def _missing(self, tally: Tally, votes: Iterable[int]) -> list[int]:
        """Enter the votes that the ledger has; return the others."""
        missing = []
        for vote in votes:
            found = self.known(self.key(tally.target, vote))
            if found is None:
                missing.append(vote)
            else:
                tally.results[vote - 1] = Result(found, reused=True)
        return missing

    def _settle(self, tally: Tally) -> list[int]:
        """The first votes or all of them are there: the row goes out, or more votes are needed because those differ."""
        votes = self.votes
        first = [result for result in tally.results[: votes.first] if result is not None]
        if tally.results[-1] is None and not any(result.unasked for result in first) and differ([one.answer for one in first]):
            missing = self._missing(tally, range(votes.first + 1, votes.most + 1))
            if missing:
                return missing
        self._decide(tally)
        return []

    def _decide(self, tally: Tally) -> None:
        results = [result for result in tally.results if result is not None]
        answers = [result.answer for result in results]
        unasked = any(result.unasked for result in results)
        if self.votes.most == 1:
            decided = Decided(results[0], None, _calls(results))
        elif unasked or not any(answer is not None for answer in answers):
            worst = next((result for result in results if result.unasked), results[0])
            decided = Decided(Result(error=worst.error, unasked=unasked), None, ())
        else:
            winner, agreed = majority(answers, self.schema)
            found = Result(winner, reused=all(result.reused for result in results))
            decided = Decided(found, agreed, _calls(results))
        self._row(tally.target, tally.key, decided.result, decided.agreed, decided.calls)
        self._under_way.pop(tally.key, None)
        self._decided[tally.key] = decided
        for target in tally.equal:
            self._equal_row(target, tally.key, decided)

    def _equal_row(self, target: Target, key: str, decided: Decided) -> None:
        result = replace(decided.result, reused=True)
        self._on_row(replace(self._make(target, key, result, decided.agreed, decided.calls), equal=True))

    def _row(self, target: Target, key: str, result: Result, agreed: float | None = None, calls: tuple[str, ...] = ()) -> None:
        self._on_row(self._make(target, key, result, agreed, calls))

    def _make(self, target: Target, key: str, result: Result, agreed: float | None = None, calls: tuple[str, ...] = ()) -> Row:
        usage, times = (Usage(), []) if result.reused else (self._unbilled, self._times)
        if not result.reused:
            self._unbilled, self._times = Usage(), []
        item = target.item
        quote = quotes.first_quote(result.answer, self.schema) if self._quotes and result.answer is not None else None
        return Row(
            item.index,
            key,
            result.answer,
            result.error,
            item.address if quote is None else place_of(quote, item.records) or item.address,
            target.piece,
            target.pieces,
            result.unasked,
            usage,
            result.reused,
            target.text_hash,
            0,
            agreed,
            tuple(times),
            calls,
            deferred=result.deferred,
            quote=quote,
        )


def _calls(results: Iterable[Result]) -> tuple[str, ...]:
    return tuple(result.call for result in results if result.call)


@dataclass(slots=True)
class Source:
    """Items one by one, from an iterable or an async iterable, for several workers."""

    items: Iterable[Item] | AsyncIterable[Item]
    ended: bool = False
    _taken: int = 0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _iterator: Iterator[Item] | None = None
    _async_iterator: AsyncIterator[Item] | None = None

    async def next(self) -> Item | None:
        """The next item, or None at the end."""
        if isinstance(self.items, AsyncIterable):
            async with self._lock:
                return await self._next_async(self.items)
        if self.ended:
            return None
        if self._iterator is None:
            self._iterator = iter(self.items)
        self._taken += 1
        if self._taken % _TURN == 0:
            await asyncio.sleep(0)
        try:
            return next(self._iterator)
        except StopIteration:
            self.ended = True
            return None

    async def _next_async(self, items: AsyncIterable[Item]) -> Item | None:
        if self.ended:
            return None
        if self._async_iterator is None:
            self._async_iterator = aiter(items)
        try:
            return await anext(self._async_iterator)
        except StopAsyncIteration:
            self.ended = True
            return None

    async def close(self) -> None:
        """Close an async source that was not read to its end."""
        close = getattr(self._async_iterator, "aclose", None)
        if close is not None:
            await close()
