"""`distinct`, `sort`, `excerpts`, counts of several columns, and what is said to the reflexes of other libraries."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import polars
import pytest

import rlm_ray
from rlm_ray.errors import InputError
from rlm_ray.handle.corpus import Corpus
from rlm_ray.handle.reflexes import LINES
from rlm_ray.testing import ModelServer
from rlm_ray.workspace import Session

ROWS = [
    {"host": host, "level": level, "n": n, "text": f"event {n} was refused by {host}, then refused again"}
    for n, (host, level) in enumerate([("a", "E"), ("b", "I"), ("a", "I"), ("c", "E"), ("a", "E"), ("b", "E"), ("a", None)])
]


@pytest.fixture
def session(model_server: Callable[..., ModelServer], run_dir: Path) -> Iterator[Session]:
    with rlm_ray.session(model_server().settings(run_dir=str(run_dir))) as made:
        yield made


@pytest.fixture
def rows(session: Session, tmp_path: Path) -> Corpus:
    (tmp_path / "in").mkdir()
    frame = polars.DataFrame(ROWS)
    frame[:3].write_parquet(tmp_path / "in" / "0.parquet")
    frame[3:].write_parquet(tmp_path / "in" / "1.parquet")
    return session.open(str(tmp_path / "in"))


def test_distinct(rows: Corpus) -> None:
    assert rows.distinct("host") == ["a", "b", "c"]
    assert rows.distinct("level") == ["E", "I", None]
    assert set(rows.distinct("host", "level")) == {(row["host"], row["level"]) for row in ROWS}
    with pytest.raises(InputError, match="n has 7 different values, more than limit=3"):
        rows.distinct("n", limit=3)


def test_counts_of_several_columns(rows: Corpus) -> None:
    expected = Counter((row["host"], row["level"]) for row in ROWS)
    found = rows.count_by("host", "level")
    assert dict(found) == expected
    assert list(found.values()) == sorted(expected.values(), reverse=True)
    assert found.distinct == len(expected)
    few = rows.count_by("host", "level", limit=2)
    assert (len(few), few.distinct) == (2, len(expected))
    assert rows.count_by("host", 1) == rows.count_by("host", limit=1) == {"a": 4}
    assert rows.where([("host", "==", "z")]).count_by("host", "level") == {}


def test_sort(rows: Corpus) -> None:
    assert [row["n"] for row in rows.sort("n", descending=True, limit=3)] == [6, 5, 4]
    found = list(rows.sort("level"))
    assert [row["level"] for row in found] == ["E"] * 4 + ["I"] * 2 + [None]
    assert all(re.search(r"#row=\d+$", row["_address"]) for row in found)
    with pytest.raises(InputError, match="There is no column"):
        rows.sort("when")


def test_excerpts(rows: Corpus) -> None:
    found = list(rows.excerpts(r"refus\w+", width=6))
    assert len(found) == 2 * len(ROWS)
    assert found[0]["excerpt"] == "… 0 was refused by a, …"
    assert {row["found"] for row in found} == {"refused"}
    assert len({row["_address"] for row in found}) == len(ROWS)
    assert rows.excerpts("refused", column="host").count() == 0
    with pytest.raises(InputError, match="is no pattern"):
        rows.excerpts("(")


def test_reflexes_are_answered_by_the_line_that_does_it(rows: Corpus) -> None:
    for name, line in LINES.items():
        assert not hasattr(Corpus, name), name
        with pytest.raises(AttributeError, match=f"has no '{name}'") as caught:
            getattr(rows, name)
        assert str(caught.value).endswith(line)
        for used in re.findall(r"\bc\.(\w+)", line):
            assert hasattr(Corpus, used), (name, used)


def test_in_root_code_at_each_level_of_walls(model_server: Callable[..., ModelServer], run_dir: Path, rows: Corpus) -> None:
    cell = """```repl
try:
    context.value_counts()
except AttributeError as error:
    said = str(error)
Final = [said, context.distinct("host"), [row["found"] for row in context.excerpts("event 3", width=2)]]
```"""
    for level in ("strict", "noopen"):
        server = model_server(root=[cell])
        answer = rlm_ray.ask(rows, "?", server.settings(run_dir=str(run_dir), isolation=level))
        assert answer.value == ["A Corpus has no 'value_counts'. Here it is: c.count_by('column')", ["a", "b", "c"], ["event 3"]]
