"""Two runs compared: texts by lines, findings by what they are and where, amounts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.ui import comparing
from rlm_ray.ui.comparing import compare, differences


def of(runs: Path, name: str) -> RunDirectory:
    return RunDirectory.find(name, str(runs))


def test_two_questions(runs: Path) -> None:
    found = compare(of(runs, "20260101-a"), of(runs, "20260102-b"))
    texts = {item.title: item for item in found.texts}
    assert [tuple(line) for line in texts["Question"].lines] == [
        ("left", "How many errors?"),
        ("right", "How many errors are there?"),
    ]
    assert ("left", '  "errors": 4,') in texts["Answer"].lines
    assert ("right", '  "errors": 5,') in texts["Answer"].lines
    assert texts["Data"].lines == []
    assert not texts["Data"].is_empty
    assert texts["Prompts of sub-calls"].is_empty
    assert any("grep('INFO')" in line.text for line in texts["Cells"].lines if line.kind == "right")
    assert found.findings is None
    amounts = {item.name: item for item in found.amounts}
    assert (amounts["model calls"].left, amounts["model calls"].change) == ("2", "the same")


def test_two_nights(runs: Path) -> None:
    found = compare(of(runs, "night-0"), of(runs, "night-1"))
    assert found.same == 1
    assert found.findings is not None
    assert [item.kind for item in found.findings] == ["right"] * 3
    assert found.findings[0].text.startswith("low · trouble · “2026-01-01 line 0 ERROR")
    assert found.findings[0].place == "a.log, byte 0"
    back = compare(of(runs, "night-1"), of(runs, "night-0"))
    assert [item.kind for item in back.findings or ()] == ["left"] * 3


def test_a_finding_of_the_same_record_with_other_words_is_one_that_changed(tmp_path: Path) -> None:
    def run(name: str, severity: str) -> RunDirectory:
        made = RunDirectory.create(str(tmp_path), name, {"question": "?", "settings": {}})
        row = {"id": f"id-{severity}", "severity": severity, "address": "/logs/a@1#bytes=0-9", "quote": "x"}
        gone = {"id": "old", "severity": "low", "address": "/logs/a@1#bytes=9-10", "status": "gone"}
        job = {"name": "night", "columns": {}, "fail_on": None, "rejected": [], "failing": [], "broken": "", "written": {}}
        made.save_outcome_of_job({**job, "findings": [row, gone]})  # type: ignore[typeddict-item]
        return made

    found = compare(run("a", "low"), run("b", "high"))
    assert found.findings is not None
    ((kind, text, place, columns),) = found.findings
    assert (kind, text, place, columns) == ("changed", "high · “x”", "a, byte 0", [("severity", "low", "high")])
    assert found.same == 0


def test_a_long_text_is_compared_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "MAX_LINES", 10)
    text = "\n".join(f"line {number}" for number in range(20))
    lines = list(differences(text, text.replace("line 5", "other")))
    assert [line.text for line in lines if line.kind == "gap"] == ["2 equal lines", "2 equal lines"]
    assert [line.text for line in lines if line.kind == "right"] == ["other"]


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abc")))
def test_a_comparison_has_both_texts(left: list[str], right: list[str]) -> None:
    lines = list(differences("\n".join(left), "\n".join(right)))
    equal = sum(int(line.text.split()[0]) if line.kind == "gap" else line.kind == "equal" for line in lines)
    assert equal + sum(line.kind == "left" for line in lines) in (max(1, len(left)), 0)
    if left == right:
        assert all(line.kind == "gap" for line in lines)
