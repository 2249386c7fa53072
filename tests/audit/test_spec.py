from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import rlm_ray
from rlm_ray.audit import spec as specs
from rlm_ray.audit import values
from rlm_ray.errors import SpecError


def test_a_spec_is_read_whole(job: Path) -> None:
    spec = specs.load(job)
    assert spec.corpora["logs"].uris == (str(job.parent / "logs"),)
    assert spec.condition is not None
    assert spec.condition.holds({"severity": "high"})
    assert not spec.condition.holds({"severity": "low"})
    assert not spec.condition.holds({"severity": None})
    assert spec.answer_schema["items"]["required"] == ["severity", "title", "address"]


def test_values_are_replaced(job: Path) -> None:
    spec = specs.load(job, ["settings.max_calls=7", "question=Who?", "corpora.logs.uris=[a, b]", "fail_on=severity == low"])
    assert (spec.settings["max_calls"], spec.question, spec.corpora["logs"].uris) == (7, "Who?", ("a", "b"))
    assert specs.settings_of(spec).max_calls == 7
    assert specs.settings_of(spec, max_calls=9).max_calls == 9


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("uris:", "uri:", "job.yaml:5: corpora.logs.uri: there is no such key; did you mean uris?"),
        ("name: night", "nam: night", "job.yaml:1: nam: there is no such key; did you mean name?"),
        ("name: night", "name: a b", "job.yaml:1: name = 'a b'"),
        ("question: Which lines tell of trouble?", "", "question is missing"),
        ("max_calls: 50", "max_call: 50", "job.yaml:14: settings: max_call: there is no such setting; did you mean max_calls?"),
        ("severity >= high", "severity >= worst", "job.yaml:15: fail_on: 'severity >= worst': severity is never 'worst'"),
        ("severity >= high", "level >= high", "a finding has no column 'level'"),
        ("severity >= high", "severe", "is no condition"),
        ("  title: string", "  address: string", "every finding has 'address' already"),
        ("  title: string", "  title: [", ": it cannot be read as YAML: "),
        ("  title: string", "  title: strin", "job.yaml:8: finding: "),
        ("  logs:", "  my logs:", "cannot be a variable"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(job: Path, old: str, new: str, message: str) -> None:
    job.write_text(job.read_text().replace(old, new, 1))
    with pytest.raises(SpecError) as caught:
        specs.load(job)
    assert message in str(caught.value)


@pytest.mark.parametrize("content", ["", "- a\n", "text"])
def test_a_file_that_is_no_mapping(tmp_path: Path, content: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(content)
    with pytest.raises(SpecError, match="holds no mapping"):
        specs.load(file)


@pytest.mark.parametrize("change", ["max_calls", "=3", "question.more=3"])
def test_a_change_that_is_none(job: Path, change: str) -> None:
    with pytest.raises(SpecError, match="--set"):
        specs.load(job, [change])


def test_values_come_from_files_beside_it_and_travel_inside_it(job: Path, tmp_path: Path) -> None:
    (job.parent / "hosts.csv").write_text("name,owner\na,ops\nb,\n")
    (job.parent / "program" / "cells").mkdir(parents=True)
    (job.parent / "program" / "program.yaml").write_text("question: x\n")
    job.write_text(job.read_text() + "program: program\nvalues:\n  hosts: hosts.csv\n  day: 2026-01-02\n  limit: 3\n")
    hosts = [{"name": "a", "owner": "ops"}, {"name": "b"}]
    spec = specs.load(job)
    assert spec.values == {"hosts": hosts, "day": "2026-01-02", "limit": 3}
    namespace: dict[str, Any] = {}
    exec(values.cell(spec.values), namespace)
    assert (namespace["hosts"], namespace["day"], namespace["limit"]) == (hosts, "2026-01-02", 3)
    packed = specs.files_of(spec, job)
    moved = tmp_path / "elsewhere" / "job.yaml"
    moved.parent.mkdir()
    moved.write_text(packed["job.yaml"])
    assert specs.load(moved).values == spec.values


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("program: program\nvalues:\n  hosts: gone.yaml\n", "job.yaml:18: values.hosts: there is no file"),
        ("program: program\nvalues:\n  hosts: bad.json\n", "bad.json cannot be read"),
        ("program: program\nvalues:\n  hosts: large.csv\n", "Make it a corpus"),
        ("program: program\nvalues:\n  my hosts: 1\n", "cannot be a variable"),
        ("values:\n  hosts: [a]\n", "there is none. Name one."),
    ],
)
def test_values_that_cannot_be_had(job: Path, lines: str, message: str) -> None:
    (job.parent / "bad.json").write_text("{")
    (job.parent / "large.csv").write_text("a\n" * 300_000)
    job.write_text(job.read_text() + lines)
    with pytest.raises(SpecError) as caught:
        specs.load(job)
    assert message in str(caught.value)


@pytest.mark.parametrize("place", ["settings", "corpora.logs"])
def test_a_corpus_is_read_as_it_says_or_as_the_settings_say(job: Path, place: str) -> None:
    (job.parent / "logs" / "a.log").rename(job.parent / "logs" / "a.csv")
    (job.parent / "logs" / "a.csv").write_bytes("id~text\n1~'caf\xe9~2'\n".encode("latin-1"))
    changes = [f'{place}.csv_separator="~"', f'{place}.csv_quote="\'"', f"{place}.encoding=latin-1"]
    spec = specs.load(job, changes)
    corpus = rlm_ray.open(*spec.corpora["logs"].uris, **spec.corpora["logs"].options(specs.settings_of(spec)))
    assert corpus.describe()["reading"].startswith("CSV: separator '~', quote '")
    assert [(row["id"], row["text"]) for row in corpus] == [(1, "café~2")]
