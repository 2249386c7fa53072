"""Leaf calls about many records each (llm_each): pack, ask, read, and ask again for exactly what is missing."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from rlm_ray.errors import BudgetExceeded, ModelError, ModelRefused
from rlm_ray.models.contract import ChatReply
from rlm_ray.recursion.leaf.quoting import in_record
from rlm_ray.recursion.leaf.values import Item
from rlm_ray.recursion.leaf.work import BROKEN_TRIES, TRIES, Group, Result, Source, Tally, Target
from rlm_ray.subcalls.keys import digest
from rlm_ray.subcalls.numbered import PackReply, number_key, pack_line, pack_messages, pack_schema, read_pack
from rlm_ray.subcalls.pack import tokens
from rlm_ray.subcalls.prompts import too_long
from rlm_ray.subcalls.render import clean
from rlm_ray.text import counted

#: Different notes on what was wrong that a prompt repeats.
_MOST_NOTES = 5
#: One reply makes packs smaller by this factor at most.
_SHRINK = 8


@dataclass(slots=True)
class Ask:
    """One record to ask about, for one vote.

    Attributes
    ----------
    tries, broken : int
        Askings without a valid answer, and askings of which nothing could be read.
    most : int
        Most records of a pack that it may be in: less after a pack that was too large.
    note : str
        What was wrong with its last answer.
    failures : int
        Attempts that failed, over all askings.
    """

    tally: Tally
    vote: int
    text: str
    tokens: int
    tries: int = 0
    broken: int = 0
    most: int = 1_000_000
    note: str = ""
    failures: int = 0


class Packs:
    """Packs the records of a source, lazily: in memory is what is in flight, and one pack more."""

    def __init__(self, group: Group, source: Source) -> None:
        self._group = group
        self._source = source
        self._fresh: list[deque[Ask]] = [deque() for _ in range(group.votes.most)]
        self._waiting = [0] * group.votes.most  # tokens of the fresh, by vote
        self._in_flight = 0
        self._to_ask: deque[Ask] = deque()
        self._filling = asyncio.Lock()
        self._limit = group.spec.records_per_call
        spec = group.spec
        self._prompt = clean(spec.prompt)
        overhead = tokens(pack_messages(self._prompt, [], group.schema, ("x" * 600,))[0]["content"], spec.bytes_per_token)
        self._room = spec.call_tokens - overhead

    async def next(self) -> list[Ask] | None:
        """The next pack, or None when there is none now."""
        if not self._to_ask:
            async with self._filling:
                while not self._to_ask and not self._full():
                    item = await self._source.next()
                    if item is None:
                        break
                    self._open(item)
        if self._to_ask:
            return self._take(self._to_ask)
        # votes that are asked for because others differ are waited for, so that their packs are no smaller than others
        ready = [n for n in range(len(self._fresh)) if n < self._group.votes.first or self._packed(n) or not self._in_flight]
        vote = max(ready, key=lambda n: (len(self._fresh[n]), -n))
        if not self._fresh[vote]:
            return None
        pack = self._take(self._fresh[vote])
        self._waiting[vote] -= sum(ask.tokens for ask in pack)
        return pack

    def _full(self) -> bool:
        """Whether some vote has a pack's worth of records waiting."""
        return any(map(self._packed, range(len(self._fresh))))

    def _packed(self, vote: int) -> bool:
        return len(self._fresh[vote]) >= self._limit or self._waiting[vote] >= self._room

    def more(self) -> bool:
        """Whether there are records to ask again, or more votes to ask for."""
        return bool(self._to_ask) or any(map(self._packed, range(self._group.votes.first, self._group.votes.most)))

    async def run(self, pack: list[Ask]) -> None:
        """Ask about one pack and settle each of its records: answered, to be asked again, or failed."""
        self._in_flight += 1
        try:
            await self._ask(pack)
        finally:
            self._in_flight -= 1

    async def _ask(self, pack: list[Ask]) -> None:
        group = self._group
        if group.unusable is not None:
            for ask in pack:
                self._close(ask, Result(error=group.unusable))
            return
        notes = tuple(dict.fromkeys(ask.note for ask in pack if ask.note))[:_MOST_NOTES]
        texts = [ask.text for ask in pack]
        key = number_key(group.schema, texts)
        messages = pack_messages(self._prompt, texts, group.schema, tuple(note[:120] for note in notes), key)
        try:
            reply = await group.ask(
                messages, pack_schema(group.schema, len(pack), key), "answers", max(ask.failures for ask in pack)
            )
        except BudgetExceeded as error:
            for ask in pack:
                self._close(ask, Result(error=f"not asked: budget: {error}", unasked=True))
            return
        except ModelRefused as error:
            if error.too_long:
                self._adapt(len(pack), complete=False)
            self._refused(pack, str(error))
            return
        except ModelError as error:
            for ask in pack:  # it had all its attempts
                self._close(ask, Result(error=str(error)))
            return
        for ask in pack:
            ask.failures = reply.failures
        self._read(pack, reply, key, digest(f"{pack[0].vote}:{pack[0].tally.key}:{messages[-1]['content']}"))

    def _read(self, pack: list[Ask], reply: ChatReply, key: str, call: str) -> None:
        count, group = len(pack), self._group
        said = read_pack(
            reply.text,
            count,
            group.schema,
            key,
            lambda number, answer: group.checked(
                answer, in_record(group.spec.visible(pack[number - 1].tally.target.item.records[0]))
            ),
        )
        cut = reply.finish_reason == "length"
        if said.answers:
            self._group.judge(reply.text, None)
        elif reply.problem or not cut or count == 1:
            self._group.judge(reply.text, _fault(said, reply))
        self._adapt(count, complete=not cut and not said.missing, managed=len(said.answers) + len(said.invalid))
        for number, ask in enumerate(pack, 1):
            if said.suspect:
                ask.most = max(1, count // 2)
                self._once_more(ask, said.suspect)
            elif number in said.answers:
                self._close(ask, Result(said.answers[number], call=call))
            elif number in said.invalid:
                self._once_more(ask, said.invalid[number])
            elif cut and count > 1:
                # Not the record's fault; each cut makes its next pack smaller, so this ends.
                ask.most = count // 2
                self._to_ask.append(ask)
            elif cut:
                self._once_more(ask, too_long(self._group.spec.completion_tokens))
            elif said.unreadable:
                ask.most = max(1, count // 2)
                self._once_more(ask, _fault(said, reply), broken=True)
            else:
                self._once_more(ask, "Some records had no answer.")

    def _close(self, ask: Ask, result: Result) -> None:
        """Enter a result, and queue the votes that it makes needful."""
        self._queue(ask.tally, self._group.close(ask.tally, ask.vote, result), ask.text, ask.tokens)

    def _queue(self, tally: Tally, votes: list[int], text: str, size: int) -> None:
        for vote in votes:
            self._fresh[max(0, vote - 1)].append(Ask(tally, vote, text, size))
            self._waiting[max(0, vote - 1)] += size

    def _once_more(self, ask: Ask, reason: str, *, broken: bool = False) -> None:
        if self._group.unusable is not None:
            self._close(ask, Result(error=self._group.unusable))
            return
        ask.broken += broken
        ask.tries += not broken
        if ask.tries >= TRIES or ask.tries + ask.broken >= BROKEN_TRIES:
            error = f"No valid answer after {counted(ask.tries + ask.broken, 'asking')}. {reason}"
            self._close(ask, Result(error=error))
            return
        ask.note = reason
        self._to_ask.append(ask)

    def _refused(self, pack: list[Ask], reason: str) -> None:
        """The endpoint refused the pack: find the record that it does not take, or make packs that fit."""
        if len(pack) == 1:
            self._close(pack[0], Result(error=reason))
            return
        for ask in pack:
            ask.most = len(pack) // 2
            self._to_ask.append(ask)

    def _adapt(self, count: int, *, complete: bool, managed: int = 0) -> None:
        """Halve the packs when a reply is cut or incomplete, or make them as large as the part that it managed; grow them back
        by steps. Equal packs in flight count once."""
        if not complete:
            managed = max(managed, count // _SHRINK) if managed else count
            self._limit = min(self._limit, max(1, min(count // 2, managed)))
        elif count >= self._limit:
            self._limit = min(self._group.spec.records_per_call, count + max(1, count // 8))

    def _take(self, queue: deque[Ask]) -> list[Ask]:
        """A pack from the front of a queue: one vote, within the tokens and every record's own limit."""
        first = queue.popleft()
        pack, size, most = [first], first.tokens, min(first.most, self._limit)
        while queue and queue[0].vote == first.vote:
            ask = queue[0]
            if len(pack) >= min(most, ask.most) or size + ask.tokens > self._room:
                break
            most = min(most, ask.most)
            size += ask.tokens
            pack.append(queue.popleft())
        return pack

    def _open(self, item: Item) -> None:
        """Queue one record, unless the ledger answers it or no call can hold it."""
        group, spec = self._group, self._group.spec
        text = spec.shown(item.records[0]) if item.records else ""
        target = Target(item, digest(text))
        size = tokens(pack_line(spec.records_per_call, text), spec.bytes_per_token) + 1
        if size > self._room:
            group.refuse(
                target,
                f"The record is too large for one call: about {size:,} tokens, and a call takes {max(0, self._room):,} beside the "
                "prompt. Nothing was asked. Split it first (context.split), use llm_map over chunks, or raise call_tokens.",
            )
            return
        tally, votes = group.open(target)
        if tally is not None:
            self._queue(tally, votes, text, size)


def _fault(said: PackReply, reply: ChatReply) -> str:
    """Why a reply has no answer for any record of its pack."""
    if reply.problem or said.suspect:
        return reply.problem or said.suspect
    if said.unreadable:
        return "The reply held no answers as JSON."
    return next(iter(said.invalid.values()), "No record had an answer.")
