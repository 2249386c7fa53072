"""The names in a REPL: what each sends, and what it refuses before anything is sent."""

from __future__ import annotations

import re
from typing import Any

import pytest

from rlm_ray.errors import InputError, SubcallsFailed
from rlm_ray.handle.chunks import Chunks
from rlm_ray.handle.corpus import Corpus
from rlm_ray.handle.plan import Plan, Result, Source
from rlm_ray.handle.verbs import NAMES, Verbs, explain, namespace

INFO = {"unit": "line", "schema": {"text": "string"}}
RESULT = {"plan": Plan((Result("0-r1"),)).to_json(), "info": {"kind": "result", "schema": {"answer": "string"}}}


class Backend:
    """Writes down what it is asked, and gives one reply."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.reply: Any = None

    def call(self, verb: str, args: dict[str, Any], blob: bytes = b"") -> tuple[Any, bytes]:
        self.asked.append((verb, args))
        return self.reply, b""


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def verbs(backend: Backend) -> Verbs:
    return Verbs(backend)


@pytest.fixture
def context(backend: Backend) -> Corpus:
    return Corpus(Plan((Source("context"),)), INFO, backend)


def test_one_question(verbs: Verbs, backend: Backend, context: Corpus) -> None:
    backend.reply = "an answer"
    assert verbs.llm_query("Is it so?") == "an answer"
    verbs.llm_query("Is it so?", context, model="big")
    verbs.llm_query("Is it so?", "a text")
    assert backend.asked == [
        ("llm_query", {"prompt": "Is it so?", "part": None, "model": None}),
        ("llm_query", {"prompt": "Is it so?", "part": {"base": context.plan.to_json(), "step": None}, "model": "big"}),
        ("llm_query", {"prompt": "Is it so?", "part": {"text": "a text"}, "model": None}),
    ]


def test_many_questions(verbs: Verbs, backend: Backend) -> None:
    backend.reply = {"answers": ["a", "b"], "errors": {}}
    assert verbs.llm_query_batched(["x", "y"]) == ["a", "b"]
    assert verbs.llm_query_batched(question for question in ("x", "y")) == ["a", "b"]  # type: ignore[arg-type]
    assert backend.asked[0] == backend.asked[1] == ("llm_query_batched", {"prompts": ["x", "y"], "model": None})


def test_failed_questions_carry_all_of_the_batch(verbs: Verbs, backend: Backend) -> None:
    backend.reply = {"answers": ["a", None, None], "errors": {"2": "too large", "1": "HTTP 500"}}
    with pytest.raises(
        SubcallsFailed, match=r"2 of 3 calls failed, the first at index 1: HTTP 500\. The error's \.answers"
    ) as caught:
        verbs.llm_query_batched(["x", "y", "z"])
    assert caught.value.answers == ["a", None, None]
    assert caught.value.errors == {1: "HTTP 500", 2: "too large"}
    with pytest.raises(SubcallsFailed):
        verbs.rlm_query_batched(["x", "y", "z"])


def test_chunks_are_mapped_to_a_handle(verbs: Verbs, backend: Backend, context: Corpus) -> None:
    backend.reply = RESULT
    chunks = Chunks(context, None, [[None, (0, 9, 0), 9, 9], [(0, 9, 0), None, 9, 9]])
    result = verbs.llm_map("Sum up", chunks, schema={"n": "integer"}, votes=3)
    assert isinstance(result, Corpus)
    assert result.schema == {"answer": "string"}
    verb, args = backend.asked[0]
    assert verb == "llm_map"
    assert [part["base"] is None for part in args.pop("parts")] == [False, True]
    assert args == {"prompt": "Sum up", "schema": {"n": "integer"}, "model": None, "votes": 3}
    assert verbs.rlm_map("Sum up", chunks).plan == result.plan


def test_each_record_of_a_corpus(verbs: Verbs, backend: Backend, context: Corpus) -> None:
    backend.reply = RESULT
    verbs.llm_each("Which level?", context, {"level": ["A", "B"]})
    assert backend.asked == [
        (
            "llm_each",
            {"prompt": "Which level?", "plan": context.plan.to_json(), "schema": {"level": ["A", "B"]}, "model": None, "votes": 1},
        )
    ]


def test_recursive_calls(verbs: Verbs, backend: Backend, context: Corpus) -> None:
    backend.reply = "an answer"
    verbs.rlm_query("What is new?", context)
    verbs.rlm_query("What is two and two?")
    assert [args["part"] for _, args in backend.asked] == [
        {"base": context.plan.to_json(), "step": None},
        {"text": "What is two and two?"},
    ]
    backend.reply = {"answers": ["a", "b"], "errors": {}}
    verbs.rlm_query_batched(["x", "y"], ["t", context])
    verbs.rlm_query_batched(["x", "y"])
    assert [len(args["parts"]) for _, args in backend.asked[2:]] == [2, 2]


def test_citing(verbs: Verbs, backend: Backend) -> None:
    backend.reply = {}
    verbs.cite({"_address": "a@1#row=0", "text": "x"}, "the words")
    verbs.cite("a@1#row=1")
    assert [args for _, args in backend.asked] == [
        {"address": "a@1#row=0", "quote": "the words"},
        {"address": "a@1#row=1", "quote": None},
    ]


def test_the_budget_prints_itself(verbs: Verbs, backend: Backend) -> None:
    backend.reply = {"calls left": 1_999}
    assert repr(verbs.budget()) == "calls left: 1,999"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda v, c: v.llm_query(c), "A prompt is a str, not Corpus"),
        (lambda v, c: v.llm_query(None), "A prompt is a str, not NoneType"),
        (lambda v, c: v.llm_query("x", 5), "A part is a Corpus or a str, not int"),
        (lambda v, c: v.llm_query("x", {"text": "a"}), "A part is a Corpus or a str, not dict"),
        (lambda v, c: v.llm_query_batched("x"), "prompts is a str, not a list"),
        (lambda v, c: v.llm_query_batched(5), "prompts is a int, not a list"),
        (lambda v, c: v.llm_query_batched(["x", 5]), "A prompt is a str, not int"),
        (lambda v, c: v.llm_map("x", c), "give corpus.chunks"),
        (lambda v, c: v.llm_map("x", "a text"), "chunks is a str, not a list"),
        (lambda v, c: v.llm_map("x", [c, 5]), "A part is a Corpus or a str"),
        (lambda v, c: v.llm_each("x", ["a"]), "llm_each takes a Corpus, not list"),
        (lambda v, c: v.rlm_map("x", c), "rlm_map takes parts"),
        (lambda v, c: v.rlm_query_batched(["x", "y"], ["a"]), "2 questions need as many parts, and were given 1"),
        (lambda v, c: v.cite({"text": "x"}), "cite takes a record with its '_address'"),
        (lambda v, c: v.cite(5), "cite takes a record"),
    ],
)
def test_what_cannot_work_is_refused_before_it_is_sent(
    verbs: Verbs, backend: Backend, context: Corpus, wrong: Any, said: str
) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        wrong(verbs, context)
    assert backend.asked == []


def test_the_names_of_a_repl_over_one_corpus(backend: Backend) -> None:
    corpora = {"logs": {"plan": Plan((Source("logs"),)).to_json(), "info": INFO}}
    names = namespace(backend, {"corpora": corpora, "main": "logs"})
    assert set(NAMES) <= set(names)
    assert names["context"] is names["logs"]
    assert names["context"].columns == ["text"]


def test_the_names_of_a_repl_over_several_corpora(backend: Backend) -> None:
    corpora = {name: {"plan": Plan((Source(name),)).to_json(), "info": INFO} for name in ("logs", "mails")}
    names = namespace(backend, {"corpora": corpora, "main": None})
    assert names["context"] == {"logs": names["logs"], "mails": names["mails"]}


@pytest.mark.parametrize("text", ["a text", ""])
def test_the_names_of_a_repl_over_a_text(backend: Backend, text: str) -> None:
    names = namespace(backend, {"text": text, "corpora": {}, "main": None})
    assert names["context"] == text


def test_errors_of_a_handle_taken_for_text_get_a_hint(context: Corpus) -> None:
    def hint(wrong: Any) -> str | None:
        with pytest.raises((TypeError, ZeroDivisionError)) as caught:
            wrong()
        return explain(caught.value)

    assert "use context.grep(pattern)" in (hint(lambda: re.findall("x", context)) or "")  # type: ignore[call-overload]
    assert "pass it as `part`" in (hint(lambda: "x" + context) or "")  # type: ignore[operator]
    assert "pass it as `part`" in (hint(lambda: "".join([context])) or "")  # type: ignore[list-item]
    assert hint(lambda: 1 / 0) is None
    assert hint(lambda: "x" + 5) is None  # type: ignore[operator]
