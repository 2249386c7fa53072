from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import rlm_ray
from rlm_ray.errors import InputError
from rlm_ray.report.run_pages import source_text
from rlm_ray.report.sources import source
from rlm_ray.testing import ModelServer

PROGRAM = """```repl
cite(logs[7], "line 7")
cite(rows.where([("n", "==", 0)])[0], "message 0")
cite(docs.split("text", by="paragraph")[2], "the third")
cite(llm_map("?", ["a text"]).head(1)[0])
Final = 4
```"""


@pytest.fixture
def run(model_server: Callable[..., ModelServer], run_dir: Path, tmp_path: Path) -> str:
    for name in ("logs", "rows", "docs"):
        (tmp_path / name).mkdir()
    (tmp_path / "logs" / "a.log").write_text("".join(f"line {n}\n" for n in range(20)))
    (tmp_path / "rows" / "a.jsonl").write_text("".join(f'{{"n": {n}, "msg": "message {n}"}}\n' for n in range(20)))
    (tmp_path / "docs" / "a.txt").write_text("the first\n\nthe second\n\nthe third\n\nthe fourth\n")
    server = model_server(leaf=lambda prompt, schema: "an answer", root=[PROGRAM])
    corpora = {
        name: rlm_ray.open(str(tmp_path / name), unit="document" if name == "docs" else None) for name in ("logs", "rows", "docs")
    }
    answer = rlm_ray.ask(corpora, "?", server.settings(run_dir=str(run_dir)))
    assert answer.value == 4, answer
    return answer.run


def test_a_citation_with_what_stands_around_it(run: str) -> None:
    line = source(run, 1)
    assert line["record"]["text"] == "line 7"
    assert [item["text"] for item in line["before"]] == ["line 4", "line 5", "line 6"]
    assert [item["text"] for item in line["behind"]] == ["line 8", "line 9", "line 10"]
    assert "> line 7\n  line 8" in source_text(line)
    row = source(run, 2)
    assert row["before"] == []
    assert [item["n"] for item in row["behind"]] == [1, 2, 3]
    span = source(run, 3)
    assert span["record"]["text"] == "the third"
    assert span["before"][0].endswith("the second\n\n")
    assert span["behind"][0].startswith("\n\nthe fourth") or span["behind"][0].startswith("the fourth")


@pytest.mark.parametrize(("number", "message"), [(0, "has 4 citations"), (5, "has 4 citations"), (4, "row of a result")])
def test_there_is_no_such_citation(run: str, number: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        source(run, number)
