"""Whatever a model answers, every item comes to exactly its rows, and what was spent is accounted for."""

from __future__ import annotations

import asyncio
import json
import random
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_ray.errors import ModelError, ModelRefused
from rlm_ray.models.client import ChatReply, ChatRequest, Usage
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.budget.meter import BudgetMeter
from rlm_ray.recursion.leaf.group import Item, LeafSpec, Row, run_group

LABELS = {"label": ["even", "odd"]}
WAYS = ("right", "part", "wrong", "twice", "cut", "nothing", "words", "failed", "refused", "long")


class Moody:
    """A model that answers in one of several ways, drawn from a seed; rightly more often than not."""

    def __init__(self, seed: int, ways: list[str]) -> None:
        self.random = random.Random(seed)
        self.ways = ways

    async def complete(self, request: ChatRequest, meter: Any) -> ChatReply:
        reservation = meter.reserve(request.prompt_tokens(), request.max_tokens, request.model)
        for _ in range(self.random.randrange(3)):
            await asyncio.sleep(0)
        way = "right" if self.random.random() < 0.4 else self.random.choice(self.ways)
        if way in ("failed", "refused", "long"):
            meter.settle(reservation, Usage())
            error = ModelError("failed") if way == "failed" else ModelRefused(way)
            error.too_long = way == "long"
            raise error
        text, finish = self.say(request.messages[0]["content"], way)
        return ChatReply(text, meter.settle(reservation, Usage(1, 7, 3)), finish)

    def say(self, prompt: str, way: str) -> tuple[str, str]:
        if way in ("nothing", "words"):
            return ("" if way == "nothing" else "I would rather not."), "stop"
        records = re.findall(r"^\[(\d+)\] (\d+)$", prompt, re.MULTILINE)
        if not records:
            label = "both" if way == "wrong" else "even"
            return json.dumps({"label": label}), "length" if way == "cut" else "stop"
        said = [{"n": int(n), "label": "odd" if int(value) % 2 else "even"} for n, value in records]
        if way == "part":
            said = [one for one in said if self.random.random() < 0.5]
        elif way == "wrong":
            said[0] = said[0] | {"label": "both"}
        elif way == "twice":
            said.append(said[0] | {"label": "odd" if said[0]["label"] == "even" else "even"})
        text = json.dumps({"answers": said})
        return (text[: len(text) // 2], "length") if way == "cut" else (text, "stop")


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    ways=st.lists(st.sampled_from(WAYS), min_size=1, max_size=4),
    kind=st.sampled_from(["records", "chunks"]),
    count=st.integers(0, 60),
    votes=st.sampled_from([1, 1, 3, "2+1"]),
    concurrency=st.integers(1, 8),
    per_call=st.integers(1, 20),
    calls=st.one_of(st.none(), st.integers(0, 40)),
)
def test_exactly_the_rows_that_are_due(
    seed: int, ways: list[str], kind: Any, count: int, votes: int | str, concurrency: int, per_call: int, calls: int | None
) -> None:
    spec = LeafSpec(kind, "Even or odd?", "m", LABELS, votes, call_tokens=900, records_per_call=per_call, concurrency=concurrency)
    size = (lambda n: 0) if kind == "records" else (lambda n: 60 * (n % 9))
    items = [Item(n, f"v{n}", ({"text": str(n) + " word" * size(n)},), f"a{n}") for n in range(count)]
    rows: list[Row] = []
    cast: list[Row] = []
    meter = BudgetMeter(Budget.start(calls=calls))

    async def main() -> None:
        group = run_group(spec, items, client=Moody(seed, ways), meter=meter, on_row=rows.append, on_vote=cast.append)
        await asyncio.wait_for(group, 60)

    asyncio.run(main())
    assert sorted({row.index for row in rows}) == list(range(count))
    for number in range(count):
        own = [row for row in rows if row.index == number]
        if own[0].piece is None:
            assert len(own) == 1
        else:
            assert sorted(row.piece or 0 for row in own) == list(range(1, len(own) + 1))
            assert {row.pieces for row in own} == {len(own)}
    for row in rows:
        assert (row.answer is None) == (row.error is not None)
        assert row.address == f"a{row.index}"
        if kind == "records" and row.answer is not None and votes == 1:
            assert row.answer == {"label": "odd" if row.index % 2 else "even"}
    spent = meter.budget.spent
    assert not meter.budget.reserved
    total = sum((row.usage for row in (*rows, *cast)), Usage())
    assert (total.calls, total.tokens) == (spent.calls, spent.tokens)
    if calls is not None:
        assert spent.calls <= calls
    assert any(row.unasked for row in rows) <= (calls is not None)
