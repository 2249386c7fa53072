"""Golden trajectories: the whole conversation with each persona, word for word. A change of prompt or engine shows at its first
divergence, with the turn and the words.

To renew them after a change that is meant: ``RLM_RAY_RENEW_GOLDEN=1 pytest tests/recursion/test_golden.py``, and read the diff.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import rlm_ray
from rlm_ray.recursion.answer import Answer
from rlm_ray.testing import ModelServer, each
from tests.recursion.personas import PERSONAS, Persona

GOLDEN = Path(__file__).with_name("golden")
RENEW = os.environ.get("RLM_RAY_RENEW_GOLDEN") == "1"
Played = tuple[Answer, list[tuple[str, str]]]
#: What differs from run to run: where the lake is, versions of its files, and seconds.
VARYING = (
    (re.compile(r"(file://)?/[^\s'\"]*/logs(?=[/\s'\"])"), "LAKE"),
    (re.compile(r"@[0-9a-f]+-[0-9a-f]+"), "@VERSION"),
    (re.compile(r"[\d,]+(?= seconds| s\b)"), "N"),
    (re.compile(r"(?<=seconds left: )\d+"), "N"),
)


def plain(text: str) -> str:
    for pattern, word in VARYING:
        text = pattern.sub(word, text)
    return text


@pytest.fixture
def logs(lake: Path) -> Iterator[Path]:
    """The lake's logs, under a path of one length everywhere: what is printed is cut by its length."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "x" * (58 - len(folder)), "logs")
        shutil.copytree(lake / "logs", place)
        yield place


@pytest.fixture
def play(logs: Path, run_dir: Path, model_server: Callable[..., ModelServer]) -> Callable[[Persona], Played]:
    def run(persona: Persona) -> Played:
        leaf = each(lambda text: "yes" if "ERROR" in text else "no")
        server = model_server(root=list(persona.replies), leaf=leaf, keep_messages=True)
        files = sorted(logs.iterdir())
        corpus: Any = "".join(file.read_text() for file in files) if persona.text else rlm_ray.open(str(logs))
        answer = rlm_ray.ask(corpus, "How many errors are there?", server.settings(run_dir=str(run_dir), **persona.settings))
        last = [request["messages"] for request in server.requests if request["model"] == "root"][-1]
        turns = sum(message["role"] == "assistant" for message in last)
        said = [(message["role"], plain(message["content"])) for message in last]
        return answer, [*said, ("assistant", persona.replies[turns])]

    return run


def conversation(persona: Persona, answer: Answer, said: list[tuple[str, str]]) -> str:
    """The trajectory as a page; the system prompt, which many share, is on a page of its own."""
    parts = [f"# {persona.about}"]
    turn = 1
    for role, text in said[1:]:
        parts.append(f"## {'model' if role == 'assistant' else 'engine'}, turn {turn}\n\n{text}")
        turn += role == "assistant"
    parts.append(
        f"## answer\n\n{answer.value!r}, complete: {answer.complete}, stopped by: {answer.stop_reason}, turns: {answer.turns}"
    )
    return "\n\n".join(parts) + "\n"


def divergence(name: str, golden: str, now: str) -> str:
    """The first line that differs, under which heading, and both."""
    section = ""
    old, new = golden.splitlines(), now.splitlines()
    for at in range(max(len(old), len(new))):
        was, line = (lines[at] if at < len(lines) else "(nothing)" for lines in (old, new))
        if was != line:
            return f"{name}, line {at + 1}, {section or 'the beginning'}:\n  golden: {was}\n  now:    {line}"
        section = line[3:] if line.startswith("## ") else section
    return ""


def held(name: str, now: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if RENEW:
        path.write_text(now, "utf-8")
        return
    difference = divergence(path.name, path.read_text("utf-8"), now)
    assert not difference, f"{difference}\nIf it is meant: RLM_RAY_RENEW_GOLDEN=1 pytest {Path(__file__).name}, and read the diff."


@pytest.mark.parametrize("name", PERSONAS)
def test_a_habit_leads_to_the_feedback_that_helps_and_to_an_answer(play: Any, name: str) -> None:
    persona = PERSONAS[name]
    answer, messages = play(persona)
    system, _, *said = [text for role, text in messages if role != "assistant"]
    for words in persona.told:
        assert any(words in text for text in said), f"{name} is not told {words!r}:\n" + "\n---\n".join(said)
    assert (answer.value, answer.complete) == (persona.value, persona.complete)
    assert all(len(text) < 9_000 for text in said)
    held(name, conversation(persona, answer, messages))
    if not persona.settings:
        held("system-text" if persona.text else "system-lines", system + "\n")


def test_the_first_divergence_is_named() -> None:
    golden = "# x\n\n## model, turn 1\n\na\nb\n"
    assert divergence("x.md", golden, golden) == ""
    assert divergence("x.md", golden, golden.replace("b", "c")) == "x.md, line 6, model, turn 1:\n  golden: b\n  now:    c"
    assert "golden: (nothing)" in divergence("x.md", golden, golden + "more\n")


def test_no_golden_trajectory_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == {*PERSONAS, "system-lines", "system-text"}
