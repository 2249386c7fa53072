from __future__ import annotations

import asyncio
import json
import re
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from rlm_ray.errors import BudgetExceeded, CredentialsError, InputError, ModelError, ModelRefused
from rlm_ray.models.client import ChatClient, ChatReply, ChatRequest, Endpoint, Usage
from rlm_ray.models.limiter import LocalLimiter
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.budget.meter import BudgetMeter
from rlm_ray.recursion.leaf.group import Item, LeafSpec, Row, run_group
from rlm_ray.recursion.leaf.work import FIRST_REPLIES
from rlm_ray.testing import Faults, ModelServer

PARITY = {"label": ["even", "odd"]}
RECORDS = LeafSpec("records", "Is the number even or odd?", "leaf", PARITY, records_per_call=20)
CHUNKS = LeafSpec("chunks", "Is the number of characters even or odd?", "leaf", PARITY)
PROMPTS = LeafSpec("prompts", "", "leaf")


def parity(number: int) -> str:
    return "odd" if number % 2 else "even"


def numbers(count: int, start: int = 0) -> Iterator[Item]:
    return (Item(n, f"a{n}", ({"text": str(n), "_address": f"a{n}"},), f"a{n}") for n in range(start, start + count))


def data_of(prompt: str) -> str:
    """What is between the fence's lines of the first message."""
    found = re.search(r"^----- data \w+ -----\n(.*?)\n----- end", prompt, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def records_of(prompt: str) -> list[tuple[int, str]]:
    return [(int(number), text) for number, text in re.findall(r"^\[(\d+)\] (.*)$", data_of(prompt), re.MULTILINE)]


def answers(pairs: Iterable[tuple[int, str]]) -> str:
    return json.dumps({"answers": [{"n": number, "label": label} for number, label in pairs]})


def honest(prompt: str, schema: dict[str, Any] | None = None) -> str:
    """Answers packs and chunks of `PARITY` rightly."""
    if "in square brackets" in prompt:
        return answers((number, parity(int(text))) for number, text in records_of(prompt))
    return json.dumps({"label": parity(len(data_of(prompt)))})


Reply = Callable[[str, ChatRequest], str | ChatReply | Exception]


class Scripted:
    """A client that answers with a function of the request, without a network; counts what is in flight."""

    def __init__(
        self, reply: Callable[[str, ChatRequest], str | ChatReply | Exception] = lambda prompt, request: honest(prompt)
    ) -> None:
        self.reply = reply
        self.prompts: list[str] = []
        self.requests: list[ChatRequest] = []
        self.in_flight = self.most_in_flight = 0

    async def complete(self, request: ChatRequest, meter: Any) -> ChatReply:
        reservation = meter.reserve(request.prompt_tokens(), request.max_tokens, request.model)
        self.requests.append(request)
        prompt = request.messages[0]["content"]
        self.prompts.append("\n".join(message["content"] for message in request.messages))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        said = self.reply(prompt, request)
        if isinstance(said, Exception):
            meter.settle(reservation, Usage())
            raise said
        reply = said if isinstance(said, ChatReply) else ChatReply(said)
        return replace(reply, usage=meter.settle(reservation, Usage(1, 10, 5)))


def run(spec: LeafSpec, items: Any, client: Any = None, budget: Budget | None = None, **more: Any) -> tuple[list[Row], BudgetMeter]:
    rows: list[Row] = []
    meter = BudgetMeter(budget or Budget.start(calls=100_000))
    asyncio.run(run_group(spec, items, client=client or Scripted(), meter=meter, on_row=rows.append, **more))
    assert not meter.budget.reserved
    votes = getattr(more.get("on_vote"), "__self__", [])  # usage is on the first row that goes out, a vote's too
    total = sum((row.usage for row in (*rows, *votes)), Usage())
    if rows:
        assert (total.calls, total.tokens) == (meter.budget.spent.calls, meter.budget.spent.tokens)
    return sorted(rows, key=lambda row: (row.index, row.piece or 0)), meter


def right(rows: list[Row], count: int) -> None:
    """Exactly one row per record, each with its own answer."""
    assert [row.index for row in rows] == list(range(count))
    assert [row.address for row in rows] == [f"a{n}" for n in range(count)]
    assert [(row.answer, row.error) for row in rows] == [({"label": parity(n)}, None) for n in range(count)]


# one answer per record


def test_records_are_packed_and_each_has_its_row() -> None:
    client = Scripted()
    rows, meter = run(RECORDS, numbers(205), client)
    right(rows, 205)
    assert meter.budget.spent.calls == 11
    assert len({row.key for row in rows}) == 205
    assert "_address" not in client.prompts[0]


def test_records_are_read_lazily() -> None:
    taken = 0
    spread: list[int] = []

    def source() -> Iterator[Item]:
        nonlocal taken
        for item in numbers(2_000):
            taken += 1
            yield item

    done = 0

    def on_row(row: Row) -> None:
        nonlocal done
        done += 1
        spread.append(taken - done)

    spec = LeafSpec("records", "Even?", "leaf", PARITY, records_per_call=10, concurrency=4)
    asyncio.run(run_group(spec, source(), client=Scripted(), meter=BudgetMeter(Budget.start()), on_row=on_row))
    assert done == 2_000
    assert max(spread) <= 10 * (4 + 1) + 4


def test_an_async_source() -> None:
    async def source() -> AsyncIterator[Item]:
        for item in numbers(50):
            await asyncio.sleep(0)
            yield item

    rows, _ = run(RECORDS, source())
    right(rows, 50)


def test_no_more_in_flight_than_allowed() -> None:
    client = Scripted()
    run(LeafSpec("records", "Even?", "leaf", PARITY, records_per_call=1, concurrency=7), numbers(100), client)
    assert client.most_in_flight == 7


@pytest.mark.parametrize(("words", "first", "trusted"), [(1_500, True, False), (1_500, False, True), (10, False, False)])
def test_a_long_instruction_is_in_the_endpoints_cache_before_the_others_go_out(words: int, first: bool, trusted: bool) -> None:
    client = Scripted()
    together: list[int] = []

    def reply(prompt: str, request: ChatRequest) -> str:
        together.append(len(client.requests))
        return honest(prompt)

    client.reply = reply
    prompt = "Even? " + "as the rule says " * (words // 4)
    spec = LeafSpec("records", prompt, "leaf", PARITY, records_per_call=1, concurrency=4)
    rows, _ = run(spec, numbers(40), client, trusted=trusted)
    right(rows, 40)
    assert (together[0] == 1) == first
    assert client.most_in_flight == 4
    keys = {request.cache_key for request in client.requests}
    assert len(keys) == 1
    assert bool(keys.pop()) == (words > 1_000)
    begins = {request.messages[0]["content"].partition("----- data ")[0] for request in client.requests}
    assert len(begins) == 1


def test_exactly_the_missing_are_asked_again() -> None:
    asked: Counter[str] = Counter()

    def forgetful(prompt: str, request: ChatRequest) -> str:
        said = []
        for number, text in records_of(prompt):
            asked[text] += 1
            if int(text) % 7 or asked[text] > 1:
                said.append((number, parity(int(text))))
        return answers(said)

    rows, _ = run(RECORDS, numbers(100), Scripted(forgetful))
    right(rows, 100)
    assert {text for text, count in asked.items() if count == 2} == {str(n) for n in range(0, 100, 7)}
    assert max(asked.values()) == 2


def test_a_wrong_label_is_asked_again_with_the_reason() -> None:
    def stubborn(prompt: str, request: ChatRequest) -> str:
        wrong = "not accepted" not in prompt
        return answers((number, "both" if wrong and text == "3" else parity(int(text))) for number, text in records_of(prompt))

    client = Scripted(stubborn)
    rows, meter = run(RECORDS, numbers(10), client)
    right(rows, 10)
    assert meter.budget.spent.calls == 2
    assert '"label" is "both"' in client.prompts[1]
    assert records_of(client.prompts[1]) == [(1, "3")]


def test_a_number_answered_twice_counts_as_missing() -> None:
    def twice(prompt: str, request: ChatRequest) -> str:
        pairs = [(number, parity(int(text))) for number, text in records_of(prompt)]
        return answers([*pairs, (1, "odd")] if len(pairs) > 1 else pairs)

    rows, meter = run(RECORDS, numbers(10), Scripted(twice))
    right(rows, 10)
    assert meter.budget.spent.calls == 2


def test_a_record_that_fails_thrice_is_an_error_row() -> None:
    asked: Counter[str] = Counter()

    def never_five(prompt: str, request: ChatRequest) -> str:
        asked.update(text for _, text in records_of(prompt))
        return answers((number, parity(int(text))) for number, text in records_of(prompt) if text != "5")

    rows, _ = run(RECORDS, numbers(10), Scripted(never_five))
    assert [row.index for row in rows] == list(range(10))
    assert [row.index for row in rows if row.error] == [5]
    assert rows[5].answer is None
    assert "3 askings" in str(rows[5].error)
    assert asked["5"] == 3


def test_packs_shrink_when_replies_are_cut_and_grow_back() -> None:
    sizes: list[int] = []
    narrow = True

    def narrow_minded(prompt: str, request: ChatRequest) -> ChatReply:
        nonlocal narrow
        pairs = [(number, parity(int(text))) for number, text in records_of(prompt)]
        sizes.append(len(pairs))
        if len(sizes) > 60:
            narrow = False
        text = answers(pairs)
        return ChatReply(answers(pairs[:4])[:-2], finish_reason="length") if narrow and len(pairs) > 4 else ChatReply(text)

    spec = LeafSpec("records", "Even?", "leaf", PARITY, records_per_call=32, concurrency=1)
    rows, _ = run(spec, numbers(1_000), Scripted(narrow_minded))
    right(rows, 1_000)
    assert sizes[0] == 32
    assert min(sizes[:60]) <= 4
    assert max(sizes[-5:-1]) == 32


def test_packs_shrink_when_replies_are_incomplete() -> None:
    """A model that answers the first four of a pack and forgets the rest is soon asked about as many as it manages."""
    sizes: list[int] = []

    def forgetful(prompt: str, request: ChatRequest) -> str:
        pairs = [(number, parity(int(text))) for number, text in records_of(prompt)]
        sizes.append(len(pairs))
        return answers(pairs[:4])

    rows, _ = run(
        LeafSpec("records", "Even?", "leaf", PARITY, records_per_call=32, concurrency=1), numbers(400), Scripted(forgetful)
    )
    assert sizes[0] == 32
    assert max(sizes[20:]) <= 5, "four come back whole, and one more is tried now and then"
    assert sorted(row.index for row in rows) == list(range(400))
    right(rows, 400)


def test_a_record_whose_answer_is_always_cut_is_an_error_row_and_harms_no_other() -> None:
    def cut_at_nine(prompt: str, request: ChatRequest) -> ChatReply:
        pairs = []
        for number, text in records_of(prompt):
            if text == "9":
                return ChatReply(answers(pairs)[:-2], finish_reason="length")
            pairs.append((number, parity(int(text))))
        return ChatReply(answers(pairs))

    rows, _ = run(RECORDS, numbers(40), Scripted(cut_at_nine))
    assert [row.index for row in rows if row.error] == [9]
    assert "cut off" in str(rows[9].error)


def test_an_unreadable_reply_is_asked_again() -> None:
    broken = iter([True, True, True])

    def shaky(prompt: str, request: ChatRequest) -> str:
        return "I am sorry." if next(broken, False) else honest(prompt)

    rows, _ = run(LeafSpec("records", "Even?", "leaf", PARITY, records_per_call=8, concurrency=1), numbers(30), Scripted(shaky))
    right(rows, 30)


def test_a_refused_pack_is_halved_down_to_the_record_that_is_refused() -> None:
    def squeamish(prompt: str, request: ChatRequest) -> str | Exception:
        return ModelRefused("not that") if any(text == "13" for _, text in records_of(prompt)) else honest(prompt)

    rows, _ = run(RECORDS, numbers(40), Scripted(squeamish))
    assert [(row.index, row.error) for row in rows if row.error] == [(13, "not that")]
    assert sum(row.answer is not None for row in rows) == 39


def test_a_failing_endpoint_is_an_error_row_each() -> None:
    client = Scripted(lambda prompt, request: ModelError("no usable reply"))
    rows, _ = run(RECORDS, numbers(25), client)
    assert [row.error for row in rows] == ["no usable reply"] * 25
    assert len(client.requests) == 2  # each had all its attempts


BAD_REPLIES = {
    "empty": (ChatReply("", problem="The reply is empty."), "The reply is empty."),
    "thoughts": (ChatReply("", problem="The reply held only thoughts and no answer."), "only thoughts"),
    "tool calls": (ChatReply("", problem="The reply was a tool call (look) and no text."), "tool call (look)"),
    "words": (ChatReply("I would rather not."), "The reply held no answers as JSON."),
    "another form": (ChatReply('{"verdict": "even"}'), "No record had an answer."),
    "other labels": (ChatReply('{"answers": [{"n": 1, "label": "both"}]}'), "both"),
    "other numbers": (ChatReply('{"answers": [{"n": 99, "label": "even"}]}'), "It named record 99"),
}


@pytest.mark.parametrize("name", BAD_REPLIES)
def test_a_batch_whose_first_replies_are_all_unusable_stops_and_shows_the_reply(name: str) -> None:
    reply, fault = BAD_REPLIES[name]
    client = Scripted(lambda prompt, request: reply)
    rows, _ = run(replace(RECORDS, concurrency=512), numbers(240), client)
    assert len(client.requests) <= FIRST_REPLIES + 4  # 12 packs, of which each was asked again and again
    assert [row.index for row in rows] == list(range(240))
    assert all(row.answer is None and not row.unasked for row in rows)
    for row in rows:
        assert str(row.error).startswith("The batch was stopped: its first ")
        assert fault in str(row.error)
        assert json.dumps(reply.text) in str(row.error)


def test_chunks_whose_first_replies_are_all_unusable_stop_too() -> None:
    client = Scripted(lambda prompt, request: ChatReply("", problem="The reply is empty."))
    rows, _ = run(replace(CHUNKS, concurrency=512), numbers(100), client)
    assert len(client.requests) <= FIRST_REPLIES + 4
    assert all("The batch was stopped" in str(row.error) for row in rows[8:])


def test_one_usable_reply_keeps_a_batch_going() -> None:
    calls = iter(range(10**6))
    client = Scripted(lambda prompt, request: honest(prompt) if next(calls) % 5 == 4 else "")
    rows, _ = run(replace(RECORDS, concurrency=1), numbers(400), client)
    assert not any("The batch was stopped" in str(row.error) for row in rows)
    assert sum(row.answer is not None for row in rows) > 200


def test_attempts_that_failed_count_over_askings() -> None:
    client = Scripted(lambda prompt, request: ChatReply("no", failures=request.failures + 2))
    run(RECORDS, numbers(1), client)
    assert [request.failures for request in client.requests] == [0, 2, 4, 6, 8]


def test_packs_stay_within_the_call() -> None:
    spec = LeafSpec("records", "How long?", "leaf", {"label": ["even", "odd"]}, call_tokens=1_000, records_per_call=50)
    client = Scripted(lambda prompt, request: answers((number, parity(len(text))) for number, text in records_of(prompt)))
    items = [Item(n, f"a{n}", ({"text": "word " * (n % 40)},), f"a{n}") for n in range(200)]
    rows, _ = run(spec, items, client)
    assert all(row.answer for row in rows)
    assert all(len(prompt.encode()) <= 4_000 for prompt in client.prompts)
    assert len(client.prompts) < 50


def test_a_record_too_large_for_a_call_is_not_asked() -> None:
    client = Scripted()
    items = [*numbers(3), Item(3, "a3", ({"text": "x" * 200_000},), "a3")]
    rows, _ = run(RECORDS, items, client)
    assert [row.index for row in rows] == [0, 1, 2, 3]
    assert "too large for one call: about 50,00" in str(rows[3].error)
    assert not rows[3].unasked
    assert len(client.prompts) == 1


# one answer per chunk, and bare prompts


def chunk(index: int, *texts: str) -> Item:
    return Item(index, f"slice-{index}", tuple({"text": text} for text in texts), f"chunk-{index}")


def test_chunks() -> None:
    rows, _ = run(CHUNKS, [chunk(n, "x" * n, "yy") for n in range(40)])
    assert [row.answer for row in rows] == [{"label": parity(n + 3)} for n in range(40)]
    assert {row.piece for row in rows} == {None}


def test_a_chunk_that_is_too_large_gives_a_row_per_piece() -> None:
    spec = LeafSpec("chunks", "Sum up.", "leaf", call_tokens=500)
    client = Scripted(lambda prompt, request: data_of(prompt))
    text = " ".join(f"word{n}" for n in range(1_000))
    rows, _ = run(spec, [chunk(0, "short"), chunk(1, text)], client)
    pieces = [row for row in rows if row.index == 1]
    assert rows[0].piece is None
    assert [row.piece for row in pieces] == list(range(1, len(pieces) + 1))
    assert {row.pieces for row in pieces} == {len(pieces)}
    assert " ".join(str(row.answer and row.answer["answer"]) for row in pieces) == text
    assert all(len(prompt.encode()) <= 2_000 for prompt in client.prompts)
    assert len({row.key for row in rows}) == len(rows)


def test_an_empty_chunk_is_not_asked() -> None:
    client = Scripted()
    rows, _ = run(CHUNKS, [Item(0, "empty")], client)
    assert "no records" in str(rows[0].error)
    assert not client.prompts


def test_prompts_come_back_as_they_are() -> None:
    client = Scripted(lambda prompt, request: prompt[::-1])
    rows, _ = run(PROMPTS, [Item(n, prompt=f"p{n}") for n in range(5)], client)
    assert [row.answer for row in rows] == [{"answer": f"{n}p"} for n in range(5)]
    assert client.requests[0].messages == ({"role": "user", "content": "p0"},)
    assert client.requests[0].schema is None


def test_a_prompt_with_a_part() -> None:
    client = Scripted(lambda prompt, request: data_of(prompt))
    rows, _ = run(
        PROMPTS, [Item(0, "v", ({"text": "line"},), prompt="Read."), Item(1, "v", ({"text": "x" * 200_000},), prompt="R")], client
    )
    assert rows[0].answer == {"answer": "line"}
    assert "part is too large for one call" in str(rows[1].error)
    assert len(client.prompts) == 1


def test_a_prompt_that_is_too_large() -> None:
    for spec, item in ((PROMPTS, Item(0, prompt="x" * 200_000)), (CHUNKS, Item(0, "v", ({"text": "x"},), prompt="x" * 200_000))):
        rows, _ = run(spec, [item])
        assert "prompt is too large for one call" in str(rows[0].error)


def test_the_validation_error_is_fed_back() -> None:
    replies = iter(['{"label": "both"}', "no idea", '{"label": "odd"}'])
    client = Scripted(lambda prompt, request: next(replies))
    rows, _ = run(CHUNKS, [chunk(0, "abc")], client)
    assert rows[0].answer == {"label": "odd"}
    assert rows[0].usage.calls == 3
    assert '"label" is "both"; it must be one of' in client.prompts[1]
    assert "both" not in client.prompts[2]


def test_a_reply_that_stays_invalid_is_an_error_row() -> None:
    client = Scripted(lambda prompt, request: '{"label": "both"}')
    rows, _ = run(CHUNKS, [chunk(0, "abc")], client)
    assert rows[0].answer is None
    assert '"label" is "both"' in str(rows[0].error)
    assert len(client.prompts) == 3


def test_an_answer_that_is_cut_is_no_answer() -> None:
    replies = iter([ChatReply("Once upon", finish_reason="length"), ChatReply("Short.")])
    client = Scripted(lambda prompt, request: next(replies))
    rows, _ = run(PROMPTS, [Item(0, prompt="A tale.")], client)
    assert rows[0].answer == {"answer": "Short."}
    assert "cut off" in client.prompts[1]
    always = Scripted(lambda prompt, request: ChatReply("Once upon", finish_reason="length"))
    rows, _ = run(PROMPTS, [Item(0, prompt="A tale.")], always)
    assert "cut off" in str(rows[0].error)


def test_one_failure_harms_no_other() -> None:
    client = Scripted(lambda prompt, request: ModelError("gone") if prompt == "p3" else "fine")
    rows, _ = run(PROMPTS, [Item(n, prompt=f"p{n}") for n in range(10)], client)
    assert [row.error for row in rows if row.error] == ["gone"]
    assert sum(row.answer == {"answer": "fine"} for row in rows) == 9


def test_schemas_go_out_unless_the_settings_say_json() -> None:
    client = Scripted()
    run(CHUNKS, [chunk(0, "a")], client)
    assert client.requests[0].schema is not None
    client = Scripted()
    run(LeafSpec("chunks", "Even?", "leaf", PARITY, structured_output="json"), [chunk(0, "a")], client)
    assert client.requests[0].schema is None


# keys, reuse, votes


def test_equal_keys_are_one_call() -> None:
    client = Scripted(lambda prompt, request: prompt)
    rows, _ = run(PROMPTS, [Item(n, prompt=f"p{n % 3}") for n in range(30)], client)
    assert len(client.prompts) == 3
    assert [row.answer for row in rows] == [{"answer": f"p{n % 3}"} for n in range(30)]
    assert sum(row.reused for row in rows) == 27


def test_what_the_ledger_knows_is_not_asked() -> None:
    first, _ = run(RECORDS, numbers(100))
    known = {row.key: row.answer for row in first if row.index % 2}
    client = Scripted()
    rows, _ = run(RECORDS, numbers(100), client, known=known.get)
    right(rows, 100)
    assert [row.index for row in rows if row.reused] == list(range(1, 100, 2))
    assert sum(len(records_of(prompt)) for prompt in client.prompts) == 50
    assert all(row.usage == Usage() for row in rows if row.reused)


def test_keys_do_not_depend_on_the_pack() -> None:
    one, _ = run(RECORDS, numbers(30))
    other, _ = run(LeafSpec("records", RECORDS.prompt, "leaf", PARITY, records_per_call=7, concurrency=3), numbers(30))
    assert [row.key for row in one] == [row.key for row in other]
    third, _ = run(LeafSpec("records", "Another question.", "leaf", PARITY), numbers(30))
    assert not {row.key for row in one} & {row.key for row in third}


def test_records_that_share_an_address_but_not_their_text() -> None:
    items = [Item(n, "same", ({"text": str(n)},), "same") for n in range(4)]
    rows, _ = run(RECORDS, items)
    assert [row.answer for row in rows] == [{"label": parity(n)} for n in range(4)]
    assert len({row.key for row in rows}) == 4


@pytest.mark.parametrize(("spec", "items"), [(RECORDS, list(numbers(30))), (CHUNKS, [chunk(n, "x" * n) for n in range(30)])])
def test_votes(spec: LeafSpec, items: list[Item]) -> None:
    calls = iter(range(10_000))

    def unsure(prompt: str, request: ChatRequest) -> str:
        turned = honest(prompt).replace("even", "E").replace("odd", "even").replace("E", "odd")
        return turned if next(calls) % 5 == 0 else honest(prompt)

    votes: list[Row] = []
    spec = replace(spec, votes=5, concurrency=1)
    rows, _ = run(spec, items, Scripted(unsure), on_vote=votes.append)
    assert [row.index for row in rows] == list(range(30))
    assert len(votes) == 150
    assert Counter(row.vote for row in votes) == dict.fromkeys(range(1, 6), 30)
    assert all(row.votes in (0.6, 0.8, 1.0) for row in rows)
    assert len({row.key for row in (*rows, *votes)}) == 180
    # a run that was killed in the middle asks only for the votes that are not in the ledger
    known = {row.key: row.answer for row in votes if row.vote <= 3}
    client = Scripted()
    again, _ = run(spec, items, client, known=known.get)
    assert [row.index for row in again] == list(range(30))
    per_vote = 30 if spec.kind == "chunks" else 2
    assert len(client.prompts) == 2 * per_vote


def test_a_vote_that_fails_leaves_the_others() -> None:
    calls = iter(range(100))
    client = Scripted(lambda prompt, request: ModelError("gone") if next(calls) == 1 else "yes")
    rows, _ = run(LeafSpec("prompts", "", "leaf", votes=3), [Item(0, prompt="p")], client)
    assert rows[0].answer == {"answer": "yes"}
    assert rows[0].votes == 2 / 3


def too_long(limit: int) -> Reply:
    """An endpoint with a context of `limit` characters."""

    def reply(prompt: str, request: ChatRequest) -> str | Exception:
        if len(prompt) <= limit:
            return honest(prompt)
        error = ModelRefused("maximum context length")
        error.too_long = True
        return error

    return reply


@pytest.mark.parametrize("votes", [1, 3])
def test_a_chunk_that_the_endpoint_finds_too_long_gives_a_row_per_piece(votes: int) -> None:
    client = Scripted(too_long(3_000))
    spec = replace(CHUNKS, concurrency=2, votes=votes)
    rows, _ = run(spec, [chunk(n, *["word " * 20] * 80) for n in range(6)], client)
    assert all(row.answer is not None for row in rows)
    by_item = [[row for row in rows if row.index == n] for n in range(6)]
    for pieces in by_item:
        assert [row.piece for row in pieces] == list(range(1, len(pieces) + 1))
        assert {row.pieces for row in pieces} == {len(pieces)}
    refused = sum(len(request.messages[0]["content"]) > 3_000 for request in client.requests)
    assert refused <= 2 * votes  # later chunks are cut before they are asked about


def test_packs_that_the_endpoint_finds_too_long_become_smaller() -> None:
    client = Scripted(too_long(1_000))
    spec = replace(RECORDS, records_per_call=100, concurrency=1)
    rows, _ = run(spec, numbers(400), client)
    right(rows, 400)
    assert sum(len(request.messages[0]["content"]) > 1_000 for request in client.requests) < 12


# the end of a budget, of the run, of the key


def test_when_the_budget_ends_the_rest_are_rows_too() -> None:
    rows, meter = run(RECORDS, numbers(500), budget=Budget.start(calls=10))
    assert [row.index for row in rows] == list(range(500))
    assert sum(row.answer is not None for row in rows) == 200
    unasked = [row for row in rows if row.unasked]
    assert len(unasked) == 300
    assert all(str(row.error).startswith("not asked: budget: ") for row in unasked)
    assert meter.budget.spent.calls == 10


def test_the_budget_may_end_between_two_askings() -> None:
    rows, _ = run(CHUNKS, [chunk(0, "abc")], Scripted(lambda prompt, request: "nonsense"), Budget.start(calls=2))
    assert rows[0].unasked
    assert rows[0].usage.calls == 2


def test_a_refused_key_ends_the_group() -> None:
    def refused(prompt: str, request: ChatRequest) -> str | Exception:
        return CredentialsError("no key") if prompt == "p50" else "fine"

    with pytest.raises(CredentialsError, match="no key"):
        run(LeafSpec("prompts", "", "leaf", concurrency=4), [Item(n, prompt=f"p{n}") for n in range(200)], Scripted(refused))


def test_an_error_of_the_source_ends_the_group() -> None:
    def source() -> Iterator[Item]:
        yield from numbers(30)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk is gone"):
        run(RECORDS, source())


@pytest.mark.parametrize("spec", [LeafSpec("records", "?", "leaf", {"a": "nix"}), LeafSpec("prompts", "?", "leaf", votes=0)])
def test_what_cannot_work_is_said_before_anything_is_asked(spec: LeafSpec) -> None:
    client = Scripted()
    with pytest.raises(InputError):
        run(spec, numbers(5), client)
    assert not client.requests


def test_no_items() -> None:
    for spec in (RECORDS, CHUNKS, PROMPTS):
        assert run(spec, [])[0] == []


# through HTTP


def served(server: ModelServer, spec: LeafSpec, items: Iterable[Item], **more: Any) -> tuple[list[Row], BudgetMeter]:
    rows: list[Row] = []
    meter = BudgetMeter(Budget.start(calls=100_000))

    async def quick(seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.01))

    async def main() -> None:
        client = ChatClient(Endpoint(server.base_url, timeout=more.pop("timeout", 60)), LocalLimiter(64), sleep=quick)
        try:
            await run_group(spec, items, client=client, meter=meter, on_row=rows.append, **more)
        finally:
            await client.close()

    asyncio.run(main())
    assert not meter.budget.reserved
    return sorted(rows, key=lambda row: (row.index, row.piece or 0)), meter


def test_against_a_server() -> None:
    with ModelServer(leaf=honest) as server:
        rows, _ = served(server, RECORDS, numbers(500))
        assert server.count == 25
        assert {request["typed"] for request in server.requests} == {True}
    right(rows, 500)


def test_against_a_server_without_response_format() -> None:
    with ModelServer(leaf=honest, faults=Faults(response_format=False)) as server:
        rows, _ = served(server, RECORDS, numbers(100))
    right(rows, 100)


def test_thirty_per_cent_faults_give_the_same_answers() -> None:
    faults = Faults(throttle=0.06, retry_after=0.01, error=0.06, cut=0.06, garbled=0.06, malformed=0.06, seed=3)
    with ModelServer(leaf=honest, faults=faults) as server:
        rows, _ = served(server, RECORDS, numbers(1_000))
        right(rows, 1_000)
        chunked, _ = served(server, CHUNKS, [chunk(n, "x" * n) for n in range(100)])
        stats = server.stats()
    assert [row.answer for row in chunked] == [{"label": parity(n)} for n in range(100)]
    assert stats["statuses"]["429"] > 0
    assert stats["statuses"]["500"] > 0


def test_what_was_charged_is_never_less_than_what_the_server_counted() -> None:
    with ModelServer(leaf=honest, faults=Faults(cut=0.1, garbled=0.1, error=0.1)) as server:
        _, meter = served(server, RECORDS, numbers(500))
        counted = server.stats()["tokens"]
    assert meter.budget.spent.tokens >= counted["prompt"] + counted["completion"]


def test_the_end_of_the_time_ends_calls_that_hang() -> None:
    with ModelServer(faults=Faults(hang=1)) as server:

        async def main() -> list[Row]:
            rows: list[Row] = []
            client = ChatClient(Endpoint(server.base_url), LocalLimiter(8))
            meter = BudgetMeter(Budget.start(seconds=0.5))
            await run_group(PROMPTS, [Item(n, prompt=f"p{n}") for n in range(20)], client=client, meter=meter, on_row=rows.append)
            await client.close()
            return rows

        rows = asyncio.run(asyncio.wait_for(main(), 60))  # one attempt alone may take 120 s
    assert len(rows) == 20
    assert all(row.unasked and "time of the run is up" in str(row.error) for row in rows)


def test_cancelling_drops_what_is_in_flight() -> None:
    stop = threading.Event()
    with ModelServer(leaf=honest) as server:
        server.hold(after=3)

        def watch() -> None:
            server.wait_for(8)
            stop.set()

        watcher = threading.Thread(target=watch)
        watcher.start()
        spec = LeafSpec("records", RECORDS.prompt, "leaf", PARITY, records_per_call=10, concurrency=5)
        rows, meter = served(server, spec, numbers(1_000), cancelled=stop.is_set)
        watcher.join()
        server.release()
    assert len(rows) == 30
    assert meter.budget.usage.estimated == 5


def test_a_budget_error_carries_what_was_spent() -> None:
    class Poor:
        async def complete(self, request: ChatRequest, meter: Any) -> ChatReply:
            error = BudgetExceeded("out")
            error.usage = meter.settle(meter.reserve(1, 1, "leaf"), Usage(1, 1, 1))
            raise error

    rows, _ = run(PROMPTS, [Item(0, prompt="p")], Poor())
    assert rows[0].unasked
    assert rows[0].usage.calls == 1


def unsure(number: int, nth: int) -> str:
    """Says the wrong label when it is asked first about a number that is divisible by four."""
    return parity(number + (number % 4 == 0 and nth == 0))


@pytest.mark.parametrize("concurrency", [1, 7])
@pytest.mark.parametrize("kind", ["records", "chunks"])
def test_a_third_vote_only_where_two_differ(kind: Any, concurrency: int) -> None:
    asked: Counter[int] = Counter()

    def reply(prompt: str, request: ChatRequest) -> str:
        def label(number: int) -> str:
            asked[number] += 1
            return unsure(number, asked[number] - 1)

        if kind == "records":
            return answers((n, label(int(text))) for n, text in records_of(prompt))
        return json.dumps({"label": label(int(data_of(prompt)))})

    votes: list[Row] = []
    spec = LeafSpec(kind, "Even or odd?", "leaf", PARITY, votes="2+1", records_per_call=10, concurrency=concurrency)
    rows, meter = run(spec, numbers(100), Scripted(reply), on_vote=votes.append)
    right(rows, 100)
    assert asked == Counter({n: 3 if n % 4 == 0 else 2 for n in range(100)})
    assert {row.index: row.votes for row in rows} == {n: 2 / 3 if n % 4 == 0 else 1.0 for n in range(100)}
    assert Counter(row.vote for row in votes) == {1: 100, 2: 100, 3: 25}
    if kind == "chunks":
        assert meter.budget.spent.calls == 225
    else:
        assert 10 + 10 + 3 <= meter.budget.spent.calls <= 26  # the third votes are packed like the others
    # a run that was killed asks for what is not in the ledger, and for no third vote that needs none
    known = {row.key: row.answer for row in votes if row.vote == 1 or row.index < 50}
    rows, meter = run(spec, numbers(100), Scripted(reply), on_vote=[].append, known=known.get)
    right(rows, 100)
    assert all(row.reused for row in rows if row.index < 50)
    # and one that was killed before the third is asked for nothing but it
    asked.clear()
    known = {row.key: row.answer for row in votes if row.vote < 3}
    run(spec, numbers(100), Scripted(reply), on_vote=[].append, known=known.get)
    assert asked == Counter(dict.fromkeys(range(0, 100, 4), 1))


def test_a_vote_that_failed_is_a_difference() -> None:
    client = Scripted(lambda prompt, request: ModelRefused("not this one") if len(client.requests) == 1 else '{"label": "odd"}')
    spec = replace(CHUNKS, votes="2+1", concurrency=1)
    rows, meter = run(spec, numbers(1), client)
    assert (rows[0].answer, rows[0].votes) == ({"label": "odd"}, 2 / 3)
    assert meter.budget.spent.calls == 2  # the refused one cost nothing


def test_no_third_vote_where_the_budget_ended() -> None:
    spec = replace(CHUNKS, votes="2+1", concurrency=1)
    rows, meter = run(spec, numbers(3), budget=Budget.start(calls=3))
    assert [row.unasked for row in rows] == [False, True, True]
    assert meter.budget.spent.calls == 3


@pytest.mark.parametrize("votes", [0, -1, True, "3", "1+1", "2+0", "2 + 1", 2.0, None, 100, "50+50"])
def test_votes_that_cannot_be(votes: Any) -> None:
    with pytest.raises(InputError, match="votes = "):
        run(replace(CHUNKS, votes=votes), [])
