"""What a batch of sub-calls will take: calls, tokens and dollars, from the records themselves and from what calls used before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rlm_ray.models.contract import Usage
from rlm_ray.models.prices import Prices, cost
from rlm_ray.recursion.leaf.values import LeafSpec
from rlm_ray.subcalls.numbered import pack_messages
from rlm_ray.subcalls.pack import tokens
from rlm_ray.subcalls.prompts import single
from rlm_ray.subcalls.schema import AnswerSchema
from rlm_ray.text import counted
from rlm_ray.types.estimate import BatchPlan
from rlm_ray.types.json import JsonObject

#: Asks a person whether a batch may be spent; set by a command that has a terminal.
CONFIRM: Callable[[BatchPlan], bool] | None = None
#: Tokens of a value in an answer whose length the schema leaves open, and of the words around the values of one answer.
_OPEN_VALUE, _AROUND = 12, 6
#: Calls from which on what was learned is used.
_LEAST_CALLS = 3


@dataclass(frozen=True, slots=True)
class Learned:
    """What the calls to one model about one kind of text used, by the endpoint's own count.

    Attributes
    ----------
    nbytes : int
        Of their prompts.
    answers : int
        Valid answers that they gave.
    """

    calls: int = 0
    nbytes: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    answers: int = 0

    def __add__(self, other: Learned) -> Learned:
        return Learned(
            self.calls + other.calls,
            self.nbytes + other.nbytes,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.answers + other.answers,
        )


@dataclass(frozen=True, slots=True)
class Sizes:
    """What is to be asked: the bytes of each distinct content that has no answer yet, and the counts around them."""

    records: int
    distinct: int
    answered: int
    nbytes: Iterable[int]


def plan_of(verb: str, spec: LeafSpec, sizes: Sizes, prices: Prices, batch_price: float, learned: Learned | None) -> BatchPlan:
    """Say what a batch will take. Calls no model."""
    schema = AnswerSchema.of(spec.schema)
    empty = pack_messages(spec.prompt, [], schema) if spec.kind == "records" else single(spec.prompt, "", schema)
    around = len(empty[0]["content"].encode("utf-8", "replace"))
    room = spec.call_tokens - tokens(empty[0]["content"] + "x" * 600, spec.bytes_per_token)
    calls, nbytes, asked = _packed(sizes.nbytes, spec, room)
    votes = spec.votes if isinstance(spec.votes, int) else int(spec.votes.partition("+")[0])
    known = learned if learned is not None and learned.calls >= _LEAST_CALLS and learned.answers else None
    per_token = known.nbytes / known.prompt_tokens if known is not None else spec.bytes_per_token
    per_answer = known.completion_tokens / known.answers if known is not None else _answer_tokens(schema)
    prompt = round((nbytes + calls * around) / per_token) * votes
    completion = round(asked * per_answer) * votes
    calls *= votes
    each = cost(spec.model, Usage(1, prompt // max(1, calls), completion // max(1, calls)), prices)
    usd = None if each is None else round(each * calls, 6)
    return {
        "verb": verb,
        "model": spec.model,
        "records": sizes.records,
        "distinct": sizes.distinct,
        "answered": sizes.answered,
        "calls": calls,
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "usd": usd,
        "usd_batch": None if usd is None else round(usd * batch_price, 6),
        "rests_on": _rests_on(sizes, known, per_token),
    }


def _packed(sizes: Iterable[int], spec: LeafSpec, room: int) -> tuple[int, int, int]:
    """Return the calls, bytes and contents, packed as they will be."""
    calls = nbytes = asked = held = 0
    left = -1
    for size in sizes:
        asked, nbytes = asked + 1, nbytes + size
        need = int(-(-size // spec.bytes_per_token)) + 1
        if spec.kind != "records":
            calls += max(1, -(-need // max(1, room)))
            continue
        if need > left or held >= spec.records_per_call:
            calls, left, held = calls + 1, room, 0
        left, held = left - need, held + 1
    return calls, nbytes, asked


def _answer_tokens(schema: AnswerSchema) -> float:
    """Return about how many tokens one answer has, by its schema."""
    total = _AROUND
    for column in schema.columns:
        labels = schema.labels(column)
        total += 2 + (max(len(str(label)) for label in labels) // 4 + 1 if labels else _OPEN_VALUE)
    return total


def _rests_on(sizes: Sizes, known: Learned | None, per_token: float) -> str:
    read = f"all {counted(sizes.records, 'record')} read"
    if known is None:
        return f"{read}; {per_token:g} bytes a token by the settings, and answers as long as their schema says"
    per_answer = known.completion_tokens / known.answers
    return f"{read}; {per_token:.2f} bytes a token and {per_answer:.1f} tokens an answer in {counted(known.calls, 'call')}"


def plan_text(plan: BatchPlan) -> str:
    """Return a plan in one line."""
    dollars = "unknown dollars"
    if plan["usd"] is not None:
        dollars = f"${plan['usd']:,.4f} (${plan['usd_batch']:,.4f} by the provider's batches)"
    return (
        f"{plan['verb']} with {plan['model']}: {counted(plan['records'], 'record')}, {plan['distinct']:,} distinct, "
        f"{plan['answered']:,} answered already; {counted(plan['calls'], 'call')}, {plan['prompt_tokens']:,} prompt and "
        f"{plan['completion_tokens']:,} completion tokens, {dollars}. It rests on: {plan['rests_on']}."
    )


def narrower(plan: BatchPlan, limit: float) -> str:
    """Return why a batch is not asked, with the ways that cost less."""
    usd = "an unknown sum" if plan["usd"] is None else f"about ${plan['usd']:,.4f}"
    return (
        f"This batch would cost {usd}, more than the ${limit:g} that may be spent without asking. Nothing was asked. Narrow it "
        "first: grep or where to fewer records; show=[…] fewer columns, so that more records are equal; estimate from a sample; "
        f"a cheaper model; fewer votes. {plan_text(plan)}"
    )


def off_by(plan: BatchPlan, used: Usage) -> JsonObject:
    """Return how far a plan was off, once its batch is over."""
    planned, spent = plan["prompt_tokens"] + plan["completion_tokens"], used.tokens
    return {
        "planned tokens": planned,
        "tokens": spent,
        "planned dollars": plan["usd"],
        "dollars": used.usd,
        "off": None if not spent else round(planned / spent - 1, 4),
    }
