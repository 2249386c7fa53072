"""Leaf calls with one answer each: bare prompts, and one answer per chunk (llm_map)."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from rlm_ray.errors import BudgetExceeded, ModelError, ModelRefused
from rlm_ray.recursion.leaf.quoting import in_chunk
from rlm_ray.recursion.leaf.values import Item
from rlm_ray.recursion.leaf.work import BROKEN_TRIES, TRIES, Group, Result, Source, Tally, Target
from rlm_ray.subcalls import prompts
from rlm_ray.subcalls.keys import digest
from rlm_ray.subcalls.pack import pieces, tokens
from rlm_ray.subcalls.render import clean, join, render_all
from rlm_ray.subcalls.replies import read_answer, values_in
from rlm_ray.text import counted

#: Tokens that must be left for the data beside the prompt.
_LEAST_ROOM = 16
#: How much smaller the pieces are of a chunk that the endpoint finds too long, and the least bytes of one.
_SMALLER = 4
_LEAST_PIECE = 500


@dataclass(slots=True)
class Ask:
    """One call to make: a vote on a target, with the text that is shown of it."""

    tally: Tally
    vote: int
    messages: prompts.Messages
    key: str
    shown: str


class Singles:
    """Makes asks out of items and answers them."""

    def __init__(self, group: Group, source: Source) -> None:
        self._group = group
        self._source = source
        self._ready: deque[Ask] = deque()
        self._most_bytes = sys.maxsize
        spec = group.spec
        self._overhead = tokens(prompts.single("", "", group.schema, (99, 99))[0]["content"], spec.bytes_per_token)

    async def next(self) -> Ask | None:
        """The next call to make, or None when there are none left."""
        while not self._ready:
            item = await self._source.next()
            if item is None:
                return self._ready.popleft() if self._ready else None
            self._ready.extend(self._asks(item))
        return self._ready.popleft()

    def more(self) -> bool:
        """Whether asks are ready."""
        return bool(self._ready)

    async def run(self, ask: Ask) -> None:
        """Make one call, and settle what it answers."""
        result = await self._answer(ask)
        if result is None:
            self._split(ask)
        else:
            self._close(ask, result)

    def _close(self, ask: Ask, result: Result) -> None:
        """Enter a result; further votes that it makes needful are asked for next."""
        more = self._group.close(ask.tally, ask.vote, result)
        self._ready += [Ask(ask.tally, vote, ask.messages, self._group.key(ask.tally.target, vote), ask.shown) for vote in more]

    def _asks(self, item: Item) -> list[Ask]:
        """The calls for one item: one per piece and vote that the ledger cannot answer."""
        spec = self._group.spec
        prompt = clean(item.prompt if item.prompt is not None else spec.prompt)
        room = spec.call_tokens - self._overhead - tokens(prompt, spec.bytes_per_token)
        if spec.kind == "prompts" and not item.records:
            if room < 0:
                return self._refuse(item, prompt, _too_large("prompt", room, spec.call_tokens))
            return self._open(item, prompt, [None])
        if not item.records:
            return self._refuse(item, "", "The chunk has no records, so nothing was asked.")
        if room < _LEAST_ROOM:
            return self._refuse(item, prompt, _too_large("prompt", room - _LEAST_ROOM, spec.call_tokens))
        rendered = render_all(item.records)
        whole = join(rendered)
        if spec.kind == "prompts":
            size = tokens(whole, spec.bytes_per_token)
            if size > room:
                return self._refuse(item, whole, _too_large("part", room - size, spec.call_tokens))
            return self._open(item, prompt, [whole])
        most = min(int(room * spec.bytes_per_token), self._most_bytes)
        return self._open(item, prompt, [whole] if len(whole.encode()) <= most else pieces(rendered, most))

    def _open(self, item: Item, prompt: str, texts: Sequence[str | None]) -> list[Ask]:
        asks = []
        for number, text in enumerate(texts, 1):
            piece = (number, len(texts)) if len(texts) > 1 else None
            target = Target(item, digest(text if text is not None else prompt), *(piece or (None, None)))
            tally, votes = self._group.open(target)
            if tally is None or not votes:
                continue
            messages = prompts.single(prompt, text, self._group.schema, piece)
            asks += [
                Ask(tally, vote, messages, tally.key if vote == 0 else self._group.key(target, vote), text or "") for vote in votes
            ]
        return asks

    def _refuse(self, item: Item, content: str, problem: str) -> list[Ask]:
        self._group.refuse(Target(item, digest(content)), problem)
        return []

    def _split(self, ask: Ask) -> None:
        """The endpoint finds a whole chunk too long: ask about pieces, and make those of later chunks as small."""
        if ask.tally.replaced:
            return  # another of its votes was refused before
        items = self._group.replace(ask.tally)
        rendered = render_all(items[0].records)
        self._most_bytes = max(_LEAST_PIECE, min(self._most_bytes, len(join(rendered).encode()) // _SMALLER))
        for item in items:
            prompt = clean(item.prompt if item.prompt is not None else self._group.spec.prompt)
            self._ready.extend(self._open(item, prompt, pieces(rendered, self._most_bytes)))

    async def _answer(self, ask: Ask) -> Result | None:
        """Ask until the answer is valid, the error fed back each time; None: the chunk is too long for the endpoint."""
        group, schema = self._group, self._group.schema
        form = schema.json_schema if schema.typed else None
        messages, tries, broken, failures = ask.messages, 0, 0, 0
        while True:
            if group.unusable is not None:
                return Result(error=group.unusable)
            try:
                reply = await group.ask(messages, form, "answer", failures)
            except BudgetExceeded as error:
                return Result(error=f"not asked: budget: {error}", unasked=True)
            except ModelError as error:
                target = ask.tally.target
                divisible = group.spec.kind == "chunks" and target.piece is None and len(messages[0]["content"]) > 2 * _LEAST_PIECE
                return None if divisible and isinstance(error, ModelRefused) and error.too_long else Result(error=str(error))
            cut = reply.finish_reason == "length"
            try:
                if cut and not schema.typed:
                    raise ValueError(prompts.too_long(group.spec.completion_tokens))
                own = in_chunk(ask.tally.target.item.records, ask.shown)
                answer = group.checked(read_answer(reply.text, schema), own)
            except ValueError as error:
                reason = reply.problem or (prompts.too_long(group.spec.completion_tokens) if cut else str(error))
            else:
                group.judge(reply.text, None)
                return Result(answer, call=ask.key)
            group.judge(reply.text, reason)
            failures = reply.failures
            if schema.typed and not cut and not values_in(reply.text):
                broken += 1
            else:
                tries += 1
            if tries >= TRIES or broken >= BROKEN_TRIES or tries + broken >= BROKEN_TRIES:
                return Result(error=f"The reply was not valid after {counted(tries + broken, 'asking')}. {reason}")
            messages = prompts.retry_messages(ask.messages, reply.text, reason)


def _too_large(what: str, room: int, call_tokens: int) -> str:
    return (
        f"The {what} is too large for one call: about {call_tokens - room:,} tokens, and a call takes {call_tokens:,}. "
        "Nothing was asked. Use chunks, split the text, or raise call_tokens."
    )
