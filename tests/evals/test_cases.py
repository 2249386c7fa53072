"""The cases: what is true of them without running anything."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from rlm_ray import cli
from rlm_ray.errors import InputError, SpecError
from rlm_ray.evals import oolong, pairs, questions, windows
from rlm_ray.evals import spec as specs
from rlm_ray.evals.cases import Case, Fallible
from rlm_ray.evals.running import SOURCES

JOBS = Path(__file__).resolve().parents[2] / "jobs" / "evals"
FORM = "Give your final answer in the form"
MADE = ("sniah", "oolong", "oolong-pairs", "alerts", "clauses")


def made(name: str, size: int = 1_024, seed: int = 1, data: str | None = None) -> list[Case]:
    return list(SOURCES[name]([size], 1, seed, data))


@pytest.mark.parametrize("name", MADE)
def test_a_case_follows_from_its_seed(name: str) -> None:
    first, again, other = made(name), made(name), made(name, seed=2)
    assert [(case.question, case.files, case.gold) for case in first] == [(case.question, case.files, case.gold) for case in again]
    assert first[0].files != other[0].files
    for case in first:
        assert 0.6 < sum(map(len, case.files.values())) / (4 * 1_024) < 1.5


@pytest.mark.parametrize("name", MADE)
def test_the_true_answer_follows_from_the_perfect_reader(name: str) -> None:
    for case in made(name):
        assert case.truth is not None
        assert case.whole is not None
        assert case.score(case.whole(case.truth, case.records), case.gold) == 1
        assert case.score(case.constant, case.gold) < 1 or name in ("oolong", "oolong-pairs")


@pytest.mark.parametrize("accuracy", [0.7, 0.9, 0.99])
def test_a_fallible_reader_is_as_right_as_it_is_said_to_be(accuracy: float) -> None:
    case = made("alerts", 16_384)[0]
    assert case.truth is not None
    reader = Fallible(case.truth, accuracy, case.labels, seed=1)
    right = sum(reader(line) == case.truth(line) for line in case.records)
    n = len(case.records)
    assert abs(right / n - accuracy) < 3 * (accuracy * (1 - accuracy) / n) ** 0.5


def test_the_twenty_queries_give_the_official_pairs(data: Path) -> None:
    found = list(windows.windows([8_192], 1, 1, str(data / "oolong")))
    assert len(found) == 2
    for window in found:
        gold = json.loads((data / "oolong" / f"{window.name}.pairs.json").read_text())
        counts = json.loads((data / "oolong" / f"{window.name}.gold.json").read_text())["label_counts"]
        for number in range(1, 21):
            assert pairs.pairs(number, window.labels.__getitem__, window.lines) == gold[str(number)]
        asked = [case for case in oolong.cases([8_192], 1, 1, str(data / "oolong")) if window.name in case.id]
        how_many = {oolong.COUNT.format(label=label, form=FORM): label for label in counts}
        told = {how_many[case.question]: case.gold for case in asked if case.question in how_many}
        assert told == counts


def test_the_official_data_set_is_read_with_its_own_questions(tmp_path: Path) -> None:
    def row(number: int, question: str, answer: str, kind: str, **changes: object) -> dict[str, object]:
        text = "Two lines.\n\nDate: Jan 05, 2023 || User: 11111 || Instance: Who ? || Label: human being\n"
        text += "Date: Jan 06, 2023 || User: 22222 || Instance: Where ? || Label: location\n"
        told = {"id": number, "context_window_id": 7, "context_len": 1_024, "dataset": "trec_coarse", "question": question}
        return told | {"context_window_text_with_labels": text, "answer": answer, "answer_type": f"ANSWER_TYPE.{kind}"} | changes

    rows = [
        row(1, oolong.COUNT.format(label="location", form=""), "[1]", "NUMERIC"),
        row(2, oolong.THAN.format(one="entity", other="location", form=""), "['less common than']", "COMPARISON"),
        row(3, "Which user has the most instances?", "['11111']", "USER"),
        row(4, "Of another set", "[1]", "NUMERIC", dataset="agnews", context_window_id=8),
        row(5, "Of another length", "[1]", "NUMERIC", context_len=2_048, context_window_id=9),
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "validation.parquet")
    found = list(oolong.cases([1_024], 1, 1, str(tmp_path)))
    assert [case.gold for case in found] == [1, "less common than", "11111"]
    assert [bool(case.program) for case in found] == [True, True, False]
    assert "Label" not in found[0].files["window.txt"]
    assert found[0].score("Answer: 2", 1) == 0.75
    assert found[1].score("Answer: entity is less common than location", "less common than") == 1
    pq.write_table(pa.table({"id": [1]}), tmp_path / "validation.parquet")
    with pytest.raises(InputError, match="lacks answer"):
        list(oolong.cases([1_024], 1, 1, str(tmp_path)))
    with pytest.raises(InputError, match=r"no \*\.labelled\.txt"):
        list(oolong.cases([1_024], 1, 1, str(tmp_path / "none")))


def test_dates_and_users_of_made_windows_can_be_read() -> None:
    [window] = windows.windows([1_024], 1, 3, None)
    for line in window.lines:
        assert windows.date_of(line) >= datetime.date(2022, 1, 1)
        assert 10_000 <= windows.user_of(line) < 100_000


def test_a_persons_own_questions(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text(
        '{"id": "a", "data": "logs", "question": "How many?", "gold": 3, "scoring": "near"}\n\n'
        '{"data": "s3://lake/x", "question": "Which?", "gold": ["a"], "scoring": "f1", "program": ["Final = 1"]}\n'
    )
    first, second = questions.cases([], 1, 1, str(file))
    assert (first.id, first.uri, first.score(2, 3)) == ("a", str(tmp_path / "logs"), 0.75)
    assert (second.id, second.uri, second.program) == ("3", "s3://lake/x", ("Final = 1",))
    for line, told in [("{", "no JSON"), ("[]", "lacks its keys"), ('{"data": "x", "gold": 1}', "lacks question")]:
        file.write_text(line)
        with pytest.raises(InputError, match=f"questions.jsonl:1.*{told}"):
            list(questions.cases([], 1, 1, str(file)))
    file.write_text('{"data": "x", "question": "y", "gold": 1, "scoring": "vibes"}')
    with pytest.raises(InputError, match="scoring = 'vibes'"):
        list(questions.cases([], 1, 1, str(file)))
    file.write_text('{"data": "x", "question": "y", "gold": true}')
    assert next(questions.cases([], 1, 1, str(file))).score(True, True) == 1
    for scoring, gold in [("near", {"a": 1}), ("f1", 3), ("keys", [1]), ("near", True)]:
        file.write_text(json.dumps({"data": "x", "question": "y", "gold": gold, "scoring": scoring}))
        with pytest.raises(InputError, match=f"scoring = '{scoring}' and gold = .* do not fit"):
            list(questions.cases([], 1, 1, str(file)))


@pytest.mark.parametrize("path", sorted(JOBS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_jobs_that_ship_are_evaluations(path: Path) -> None:
    assert specs.is_evaluation(path)
    assert specs.load(path, ["seeds=[7]", "settings.max_calls=9"]).seeds == (7,)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("accuracies=[2]", "accuracies = .* between 0 and 1"),
        ("votes=['1+1']", "votes"),
        ("evaluate=[vibes]", "evaluate.0 = 'vibes'"),
        ("settings.max_cals=1", "max_cals"),
        ("typo=1", "typo: there is no such key"),
        ("nothing", "sets nothing"),
    ],
)
def test_what_is_wrong_in_a_specification_is_named(change: str, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        specs.load(JOBS / "sniah.yaml", [change])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds:", "seed:", "e.yaml:3: seed: there is no such key; did you mean seeds?"),
        ("sniah", "vibes", "e.yaml:2: evaluate.0 = 'vibes': it should be 'sniah', "),
        ("[1, 2]", "[1, two]", "e.yaml:3: seeds.1 = 'two': it should be a valid integer"),
        ("[1, 2]", "[]", "e.yaml:3: seeds = []: it should have at least 1 item"),
        ("output: results", "", "e.yaml: output is missing. Add it."),
        ("max_calls: 9", "max_call: 9", "e.yaml:7: settings: max_call: there is no such setting; did you mean max_calls?"),
        ("[1, 2]", "[1, 2", "it cannot be read as YAML: "),
        ("  max_calls", " - max_calls", "e.yaml:7: it cannot be read as YAML: "),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    file = tmp_path / "e.yaml"
    text = "name: mine\nevaluate: sniah\nseeds: [1, 2]\noutput: results\nsettings:\n  max_seconds: 60\n  max_calls: 9\n"
    file.write_text(text)
    assert specs.load(file).settings == {"max_seconds": 60, "max_calls": 9}
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(SpecError) as caught:
        specs.load(file)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value), "one mistake is told once"
    done = CliRunner().invoke(cli.main, ["run", str(file)])
    assert (done.exit_code, done.stderr) == (2, f"rlm-ray: {caught.value}\n")


def test_an_audit_is_no_evaluation(tmp_path: Path) -> None:
    assert not specs.is_evaluation(JOBS.parent / "log_audit" / "job.yaml")
    assert not specs.is_evaluation(tmp_path / "none.yaml")
