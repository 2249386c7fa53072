"""The demo's readers, behind the engine's own prompts."""

from __future__ import annotations

import asyncio

import pytest

from rlm_ray.demo import model, program
from rlm_ray.demo.leaf import FewShot, Leaf, Lesson, Words
from rlm_ray.errors import InputError
from rlm_ray.subcalls.numbered import pack_messages, pack_schema, read_pack
from rlm_ray.subcalls.schema import AnswerSchema
from rlm_ray.testing import prompt_of

OUTCOME = AnswerSchema.of({"outcome": ["good", "bad"]})
PROMPT = program.READ.partition('llm_each("""')[2].partition('"""')[0]
ABOUT = program.NAME.partition('llm_each("""')[2].partition('"""')[0]


def answers(reader, texts, prompt=PROMPT, schema=OUTCOME):
    leaf = Leaf(reader)
    reply = asyncio.run(leaf(prompt_of(pack_messages(prompt, texts, schema)), pack_schema(schema, len(texts))))
    assert leaf.texts_read == len(texts)
    return [next(iter(row.values())) for _, row in sorted(read_pack(reply, len(texts), schema).answers.items())]


def test_the_lesson_is_in_the_prompt():
    lesson = Lesson.of(PROMPT, {"outcome": ["good", "bad"]})
    assert (len(lesson.examples), len(lesson.checks)) == (16, 8)
    kinds = Lesson.of(ABOUT, {"this_is_about": ["payment", "files", "hackers", "disk", "outage"]})
    assert (len(kinds.examples), len(kinds.checks)) == (10, 10)
    with pytest.raises(InputError, match="for every label"):
        Lesson.of("Good or bad?\n- all well => good", {"outcome": ["good", "bad"]})
    with pytest.raises(InputError, match="one column"):
        Lesson.of(PROMPT, {"outcome": ["good", "bad"], "why": []})


class Biased:
    """A scorer that favours one label by far, and knows a little: what a small model is like."""

    def __init__(self):
        self.prompts = []

    def scores(self, prompt, continuations):
        self.prompts.append(prompt)
        last = prompt.rsplit("\n", 2)[1]
        knows = 1.0 if "=" in last or any(word in last for word in ("rights", "dead", "load", "lost", "harm")) else -1.0
        return [0.0 if label == " good" else 5.0 + knows for label in continuations]


def test_bias_is_found_on_the_checks_and_taken_off():
    scorer = Biased()
    assert answers(FewShot(scorer), ["harm was done", "a quiet day"]) == ["bad", "good"]
    assert scorer.prompts[-1].endswith("\n\na quiet day\nOutcome:")
    assert scorer.prompts[-1].startswith("parcel # handed to the courier\nOutcome: good\n\n")


def test_words_know_only_the_examples():
    texts = ['{"message": "pictures of member # are lost"}', "no virus found, every server kept running"]
    assert answers(Words(), texts) == ["bad", "good"]


@pytest.fixture(scope="module")
def small_model():
    try:
        file = model.cached()
    except model.Unavailable as error:
        pytest.skip(str(error))
    if file is None:
        pytest.skip("the small model is not in the cache: rlm-ray demo fetches it")
    return FewShot(model.SmallModel(file))


def test_the_small_model_reads_lines_it_was_not_shown(small_model):
    bad = [
        "order A# was charged twice, buyer c# wants the money back",
        "rows vanished from table t#, no backup exists",
        "intruder broke in",
    ]
    good = [
        "malware scan complete, all clean",
        "backup finished successfully",
        "broken link repaired, works again",
        "alarm test passed",
    ]
    told = answers(small_model, bad + good)
    assert sum(one == two for one, two in zip(told, ["bad"] * len(bad) + ["good"] * len(good), strict=True)) >= 6
