"""People label a sheet that was drawn blind; their labels give precision, recall and what was missed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import rlm_ray
from rlm_ray.cli import main
from rlm_ray.errors import InputError
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.report.page import report
from rlm_ray.testing import ModelServer, each
from rlm_ray.validation.drawing import draw_sheet
from rlm_ray.validation.sheet import Sheet, as_csv, judge, keep, labels_of, load

ROWS = 600
#: Reads half of the lines, and says yes of every fourth number but for those that end in 0.
CELL = """```repl
r = llm_each("Is it bad?", context[:300], schema={"bad": ["yes", "no"]})
Final = r.where([("bad", "==", "yes")])
```"""


def bad(number: int) -> bool:
    return number % 4 == 0


def reads(text: str) -> str:
    found = re.search(r"event (\d+)", text)
    assert found is not None
    number = int(found[1])
    return "yes" if bad(number) and number % 10 != 0 else "no"


@pytest.fixture
def run(model_server: Callable[..., ModelServer], run_dir: Path, tmp_path: Path) -> RunDirectory:
    folder = tmp_path / "in"
    folder.mkdir()
    for part in range(3):
        text = "".join(f"event {number} <b>&amp;\n" for number in range(part * 200, part * 200 + 200))
        (folder / f"{part}.log").write_text(text)
    server = model_server(root=[CELL], leaf=each(reads))
    settings = server.settings(run_dir=str(run_dir), second_readings=0)
    answer = rlm_ray.ask(rlm_ray.open(str(folder)), "Which are bad?", settings)
    assert answer.complete
    return RunDirectory(answer.run)


def truth(sheet: Sheet) -> dict[str, str]:
    numbers = {item["id"]: int(item["text"].split()[1]) for item in sheet["items"]}
    return {name: "yes" if bad(number) else "no" for name, number in numbers.items()}


def test_the_parts_are_what_the_run_did(run: RunDirectory) -> None:
    sheet = draw_sheet(run, 10_000)
    assert sheet["sizes"] == {"found": 60, "left": 240, "unread": 300}
    assert len(sheet["items"]) == ROWS
    assert len({item["address"] for item in sheet["items"]}) == ROWS
    for item in sheet["items"]:
        number = int(item["text"].split()[1])
        expected = "unread" if number >= 300 else "found" if bad(number) and number % 10 else "left"
        assert item["stratum"] == expected, number


def test_all_labels_are_the_truth(run: RunDirectory) -> None:
    sheet = draw_sheet(run, 10_000)
    found = judge(sheet, truth(sheet))
    assert found.precision == (1.0, 1.0, 1.0)
    assert found.recall.low == pytest.approx(60 / 150)
    assert found.recall.high == pytest.approx(60 / 150)
    assert found.missed.low == found.missed.high == 90


def test_a_sample_covers_the_truth(run: RunDirectory) -> None:
    sheet = draw_sheet(run, 200, seed=5)
    assert len(sheet["items"]) == 200
    found = judge(sheet, truth(sheet))
    assert found.recall.low <= 60 / 150 <= found.recall.high
    assert found.missed.low <= 90 <= found.missed.high
    assert draw_sheet(run, 200, seed=5)["items"] == sheet["items"]
    assert draw_sheet(run, 200, seed=6)["items"] != sheet["items"]


def test_the_page_is_blind_and_the_corpus_is_no_markup(run: RunDirectory, tmp_path: Path) -> None:
    page = tmp_path / "sheet.html"
    told = CliRunner().invoke(main, ["validate", run.uri, "--sample", "50", "-o", str(page)])
    assert told.exit_code == 0, told.output
    html = page.read_text()
    assert not re.search(r'"(found|left|unread|stratum)"', html)
    assert "<b>&amp;" not in html
    assert "http" not in html.replace("http-equiv", "")
    assert "60 found, 240 left, 300 unread" in told.output
    assert "To show a recall of 80 %" in told.output


def test_from_the_command_line(run: RunDirectory, tmp_path: Path) -> None:
    runner, sheet, labels = CliRunner(), tmp_path / "sheet.csv", tmp_path / "labels.csv"
    assert runner.invoke(main, ["validate", run.uri, "--sample", "150", "-o", str(sheet)]).exit_code == 0
    rows = sheet.read_text().splitlines()
    assert rows[0] == "id,label,text"
    marked = [
        re.sub(r"^(\d+),,(.*event (\d+).*)$", lambda row: f"{row[1]},{'yes' if bad(int(row[3])) else 'no'},{row[2]}", row)
        for row in rows
    ]
    labels.write_text("\n".join(marked))
    told = runner.invoke(main, ["validate", run.uri, "--labels", str(labels), "--json"])
    assert told.exit_code == 0, told.output
    shown = json.loads(told.output)
    assert shown["read"] == 150
    assert shown["recall"][1] <= 0.4 <= shown["recall"][2]
    assert shown["sentence"] in report(run.id, run.uri.rpartition("/")[0])
    wrong = runner.invoke(main, ["validate", run.uri])
    assert wrong.exit_code == 2
    assert "--sample N -o sheet.html" in wrong.output


def test_labels_that_are_none(run: RunDirectory) -> None:
    with pytest.raises(InputError, match="No records of run"):
        load(run)
    sheet = draw_sheet(run, 20)
    with pytest.raises(InputError, match="no record '99'"):
        judge(sheet, {"99": "yes"})
    with pytest.raises(InputError, match="No record has a label"):
        judge(sheet, {"1": ""})
    with pytest.raises(InputError, match="is 'perhaps'"):
        labels_of("id,label\n1,perhaps\n")
    with pytest.raises(InputError, match="columns id and label"):
        labels_of("number,verdict\n1,yes\n")
    assert labels_of(as_csv(sheet)) == {str(number): "" for number in range(1, 21)}
    keep(run, {"1": "yes"}, judge(sheet, {"1": "yes"}))
    assert run.validated() is not None


def test_a_run_without_an_answer_or_records(run: RunDirectory, model_server: Callable[..., ModelServer], run_dir: Path) -> None:
    server = model_server(root=["```repl\nFinal = 1\n```"])
    text = rlm_ray.ask("a text", "?", server.settings(run_dir=str(run_dir)))
    with pytest.raises(InputError, match="was a text"):
        draw_sheet(RunDirectory(text.run), 10)
    Path(run.uri, "answer.json").unlink()
    with pytest.raises(InputError, match="has no answer yet"):
        draw_sheet(run, 10)
