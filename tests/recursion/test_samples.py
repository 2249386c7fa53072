"""`draw` and `estimate`: the sample is the same however the corpus is cut, and what is said of all records holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars
import pytest

import rlm_ray
from rlm_ray.errors import BudgetExceeded, InputError
from rlm_ray.testing import ModelServer, each
from rlm_ray.workspace import Session

ROWS = 900
LABEL = {"bad": ["yes", "no"]}
Open = Callable[..., Session]


def number_of(text: str) -> int:
    found = re.search(r"event (\d+) ", text)
    assert found is not None, text
    return int(found[1])


def reads(text: str) -> str:
    return "yes" if number_of(text) % 4 == 0 else "no"


def lines(folder: Path, files: int) -> str:
    folder.mkdir()
    text = [f"event {number} {'bad' if number % 4 == 0 else 'fine'}\n" for number in range(ROWS)]
    for number in range(files):
        (folder / f"{number:02}.log").write_text("".join(text[number * ROWS // files : (number + 1) * ROWS // files]))
    return str(folder)


@pytest.fixture
def opened(model_server: Callable[..., ModelServer], run_dir: Path) -> Iterator[Open]:
    """`opened(reader, **settings)`: a session whose leaf is that reader."""
    made: list[Session] = []

    def make(reader: Callable[[str], Any] = reads, **settings: Any) -> Session:
        server = model_server(leaf=each(reader))
        made.append(rlm_ray.session(server.settings(run_dir=str(run_dir), **{"records_per_call": 20} | settings)))
        return made[-1].__enter__()

    yield make
    for session in made:
        session.close()


def numbers(corpus: Any) -> list[int]:
    return [number_of(record["text"]) for record in corpus]


def test_a_sample_is_the_same_however_the_corpus_is_cut(opened: Open, tmp_path: Path) -> None:
    session = opened()
    one, many = session.open(lines(tmp_path / "one", 1)), session.open(lines(tmp_path / "many", 7), shard_bytes=1_000)
    assert many.shards > one.shards
    drawn = numbers(one.draw(50, seed=3))
    assert drawn == sorted(drawn) == numbers(many.draw(50, seed=3))
    assert len(set(drawn)) == 50
    assert numbers(many.draw(50, seed=4)) != drawn


def test_a_longer_sample_begins_with_the_shorter_one(opened: Open, tmp_path: Path) -> None:
    logs = opened().open(lines(tmp_path / "in", 3))
    first, rest, both = (numbers(logs.draw(n, seed=1, skip=skip)) for n, skip in ((30, 0), (40, 30), (70, 0)))
    assert sorted(first + rest) == both
    assert numbers(logs.draw(ROWS + 5)) == list(range(ROWS))
    assert numbers(logs.draw(5, skip=ROWS)) == []


@pytest.mark.parametrize("kind", ["parquet", "gz", "csv"])
def test_of_other_formats(opened: Open, tmp_path: Path, kind: str) -> None:
    rows = polars.DataFrame({"text": [f"event {number} x" for number in range(ROWS)], "part": [n % 3 for n in range(ROWS)]})
    folder = tmp_path / "in"
    folder.mkdir()
    if kind == "parquet":
        rows.write_parquet(folder / "a.parquet", row_group_size=100)
    elif kind == "csv":
        rows.write_csv(folder / "a.csv")
    else:
        import gzip

        (folder / "a.log.gz").write_bytes(gzip.compress("".join(f"{text}\n" for text in rows["text"]).encode()))
    corpus = opened().open(str(folder))
    drawn = corpus.draw(20, seed=9)
    assert len(numbers(drawn)) == 20
    assert drawn.count() == 20
    plain = opened().open(lines(tmp_path / "plain", 2))
    assert numbers(drawn) == numbers(plain.draw(20, seed=9))  # by number, whatever holds the records


def test_of_what_was_narrowed_and_split(opened: Open, tmp_path: Path) -> None:
    logs = opened().open(lines(tmp_path / "in", 3))
    bad = logs.grep("bad").draw(10, seed=2)
    assert all(number % 4 == 0 for number in numbers(bad))
    assert bad.grep("event").count() == 10
    words = logs.split("text", by=" ").draw(25, seed=2)
    assert len(list(words)) == 25
    assert len({record["_address"] for record in words}) == 25
    assert numbers(logs[100:200].draw(5)) == sorted(numbers(logs[100:200].draw(5)))


def test_an_estimate(opened: Open, tmp_path: Path) -> None:
    session = opened()
    logs = session.open(lines(tmp_path / "in", 3))
    found = logs.estimate("Is it bad?", LABEL, calls=15, seed=1)
    assert (found["records"], found["read"], found["failed"], found["ended"]) == (ROWS, 300, 0, "calls")
    value, low, high = found.counts["yes"]
    assert low <= 225 <= high
    assert low <= value <= high
    assert high - low < 120
    assert sum(count[0] for count in found.counts.values()) == ROWS
    assert "95 % sure" in str(found)
    assert session.budget()["calls spent"] == 15


def test_all_read_is_exact(opened: Open, tmp_path: Path) -> None:
    found = opened().open(lines(tmp_path / "in", 2)).estimate("Is it bad?", LABEL)
    assert found.counts == {"yes": (225, 225, 225), "no": (675, 675, 675)}
    assert found["ended"] == "all read"
    assert "all 900 records were read" in str(found)


def test_it_ends_where_it_is_narrow_enough(opened: Open, tmp_path: Path) -> None:
    session = opened(lambda text: "no")
    found = session.open(lines(tmp_path / "in", 2)).estimate("Is it bad?", LABEL, within=0.05, calls=40)
    assert found["ended"] == "within"
    assert 100 <= found["read"] < 800
    assert found["shares"][0]["share"]["high"] <= 0.1
    assert "none in" in str(found)


def test_groups_are_populations_of_their_own(opened: Open, tmp_path: Path) -> None:
    rows = {"text": [f"event {n} x" for n in range(ROWS)], "host": ["a" if n % 2 else "b" if n % 3 else "c" for n in range(ROWS)]}
    polars.DataFrame(rows).write_parquet(tmp_path / "a.parquet")
    corpus = opened().open(str(tmp_path / "a.parquet"))
    found = corpus.estimate("Is it bad?", LABEL, calls=20, by="host")
    sizes = {group["group"]: group["records"] for group in found["groups"]}
    assert sizes == corpus.count_by("host")
    assert sum(group["read"] for group in found["groups"]) == found["read"] == 400
    for group in found["groups"]:
        truth = sum(n % 4 == 0 for n, host in enumerate(rows["host"]) if host == group["group"]) / group["records"]
        assert group["shares"][0]["share"]["low"] <= truth <= group["shares"][0]["share"]["high"]


def test_failed_readings_count_against_both_limits(opened: Open, tmp_path: Path) -> None:
    def reader(text: str) -> Any:
        return "who knows" if number_of(text) % 10 == 3 else reads(text)

    found = opened(reader, call_attempts=1).open(lines(tmp_path / "in", 2)).estimate("Is it bad?", LABEL)
    assert found["failed"] == 90
    assert found.counts["yes"][1:] == (225, 315)
    assert "90 failed" in str(found)


def test_sums_need_a_bound(opened: Open, tmp_path: Path) -> None:
    corpus = opened(lambda text: number_of(text) % 10).open(lines(tmp_path / "in", 2))
    with pytest.raises(InputError, match="give max="):
        corpus.estimate("How much?", {"amount": "number"})
    found = corpus.estimate("How much?", {"amount": "number"}, max=9, calls=20)
    assert found["sum"]["low"] <= 4.5 * ROWS <= found["sum"]["high"]
    with pytest.raises(InputError, match="which is outside 0 to 5"):
        corpus.estimate("How much?", {"amount": "number"}, max=5, calls=20)


def test_questions_that_are_no_estimate(opened: Open, tmp_path: Path) -> None:
    corpus = opened().open(lines(tmp_path / "in", 2))
    for schema, words in (
        ({"a": ["x"], "b": ["y"]}, "one column"),
        ({"a": "string"}, "is string"),
        ({}, "mapping"),
    ):
        with pytest.raises(InputError, match=words):
            corpus.estimate("?", schema)
    with pytest.raises(InputError, match="delta"):
        corpus.estimate("?", LABEL, delta=1.5)
    with pytest.raises(InputError, match="There is no column"):
        corpus.estimate("?", LABEL, by="host")


def test_a_budget_that_ends_in_the_middle(opened: Open, tmp_path: Path) -> None:
    session = opened(max_calls=9)
    logs = session.open(lines(tmp_path / "in", 3))
    found = logs.estimate("Is it bad?", LABEL, within=0.001, calls=40)
    assert found["ended"] == "budget"
    assert found["read"] >= 100
    assert found.counts["yes"][1] <= 225 <= found.counts["yes"][2]
    assert "budget ended" in str(found)
    with pytest.raises(BudgetExceeded):
        logs.estimate("Is it worse?", LABEL)
