from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.recursion.loop.history import LEAST_CHARS, Entry, History, cut_middle


def turns(history: History, count: int, size: int, first: int = 1) -> History:
    """Add turns of a reply and an output each."""
    for number in range(first, first + count):
        history = history.add(Entry("assistant", f"reply {number}", f"[reply {number}]"))
        history = history.add(Entry("user", f"output {number} " + "x" * size, f"[output {number}]"))
    return history


def test_messages_begin_with_the_prompt_and_the_task() -> None:
    history = History("the prompt", "the task").add(Entry("assistant", "hello"), Entry("user", "go on"))
    assert history.messages() == [
        {"role": "system", "content": "the prompt"},
        {"role": "user", "content": "the task"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "go on"},
    ]


def test_tokens_are_an_estimate_by_bytes() -> None:
    assert History("abcd", "éé").tokens() == 2
    assert History("abcd", "éé", bytes_per_token=2.0).tokens() == 4


def test_the_limit_holds_over_thirty_turns_of_large_outputs() -> None:
    history = History("s" * 6_000, "t" * 6_000, limit_tokens=12_000)
    for number in range(1, 31):
        history = turns(history, 1, 8_000, first=number)
        assert history.tokens() <= 12_000
        assert history.entries[-1].shown == history.entries[-1].text
        assert history.entries[-2].shown == f"reply {number}"


def test_the_oldest_are_folded_first_and_stay_folded() -> None:
    history = turns(History("", "", limit_tokens=4_000), 10, 2_000)
    folded = [entry.folded for entry in history.entries]
    assert folded == sorted(folded, reverse=True)
    assert any(folded)
    assert not all(folded)
    longer = turns(history, 3, 2_000, first=11)
    assert [entry.folded for entry in longer.entries][: sum(folded)] == [True] * sum(folded)


def test_messages_are_only_added_to_between_two_foldings() -> None:
    """An endpoint caches the prefix: it must not change with every turn."""
    history = History("", "", limit_tokens=20_000)
    foldings = 0
    for number in range(1, 41):
        before = history.messages()
        history = turns(history, 1, 2_000, first=number)
        foldings += history.messages()[: len(before)] != before
    assert 1 <= foldings <= 5


def test_what_was_said_last_is_shown_however_little_room_there_is() -> None:
    history = turns(History("s" * 7_000, "t" * 1_000, limit_tokens=2_000), 3, 50_000)
    shown = history.messages()[-1]["content"]
    assert shown.startswith("output 3 xxx")
    assert "characters cut here" in shown
    assert len(shown) <= LEAST_CHARS + 100
    assert turns(history, 1, 10, first=4).entries[-3].shown == "[output 3]"  # later it is one line, as the others


def test_the_newest_is_cut_to_the_room_that_is_left() -> None:
    history = History("", "", limit_tokens=2_000).add(Entry("user", "é" * 20_000, "[folded]"))
    assert 1_500 <= history.tokens() <= 2_000


def test_a_message_without_a_fold_stays() -> None:
    history = History("", "", limit_tokens=100).add(Entry("user", "y" * 1_000)).add(Entry("user", "z" * 300, "[z]"))
    assert history.messages()[2]["content"] == "y" * 1_000


def test_the_whole_history_is_kept_as_a_text() -> None:
    history = turns(History("", "", limit_tokens=500), 4, 1_000)
    text = history.full_text()
    assert text.startswith("## root\nreply 1\n\n## engine\noutput 1 xxx")
    assert text.count("x" * 1_000) == 4


def test_histories_are_values() -> None:
    history = History("", "")
    assert history.add(Entry("user", "a")).entries == (Entry("user", "a"),)
    assert history.entries == ()


@given(st.lists(st.tuples(st.sampled_from(["assistant", "user"]), st.integers(0, 6_000), st.sampled_from("aé字")), max_size=40))
def test_the_limit_holds_whatever_is_said(messages: list[tuple[str, int, str]]) -> None:
    history = History("system", "task", limit_tokens=3_000)
    for role, size, letter in messages:
        history = history.add(Entry(role, letter * size, "[folded]"[: size or None]))
        assert history.tokens() <= 3_000
    assert "".join(letter * size for _, size, letter in messages) == "".join(entry.text for entry in history.entries)


@pytest.mark.parametrize("limit", [10, 20, 100, 5_000])
def test_cut_middle_keeps_the_ends_and_counts(limit: int) -> None:
    text = "".join(map(str, range(1_000)))
    cut = cut_middle(text, limit)
    if limit >= len(text):
        assert cut == text
        return
    first, last = cut.split(f"\n… [{len(text) - limit:,} of {len(text):,} characters cut here] …\n")
    assert len(first) + len(last) == limit
    assert text.startswith(first)
    assert text.endswith(last)
