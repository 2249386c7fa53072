"""The demo, run: on Ray, with its recorded root, over HTTP; only who reads the lines differs."""

from __future__ import annotations

import importlib.util
import io
import json

import pytest
from click.testing import CliRunner
from rich.console import Console

import rlm_ray
from rlm_ray import cli
from rlm_ray.demo import model, run
from rlm_ray.demo.compare import Score
from rlm_ray.demo.show import show
from rlm_ray.settings import Settings

LABELS = {"double charge": "payment", "data loss": "files", "break-in": "hackers", "failing disk": "disk", "outage": "outage"}


class Knows:
    """A reader that is never wrong: what is left is the program."""

    def __init__(self, kinds):
        self._kinds = kinds

    def read(self, lesson, texts):
        if lesson.column == "outcome":
            return ["bad" if text in self._kinds else "good" for text in texts]
        return [LABELS[self._kinds[text]] for text in texts]


@pytest.fixture
def demo(ray_local, run_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def demo(seed):
        told = []
        report = run.run(rlm_ray.ask, rlm_ray.open, Settings(run_dir=str(run_dir)), seed, say=told.append)
        return report, told

    return demo


def shown(report):
    console = Console(width=80, file=io.StringIO())
    show(report, console)
    return console.file.getvalue()


def test_where_every_line_is_read_rightly_all_that_was_planted_is_found(demo, lakes, monkeypatch):
    lake = lakes(2)
    monkeypatch.setattr(run, "_reader", lambda say: (Knows(lake.kinds_by_form()), "oracle", "an oracle."))
    report, _ = demo(2)
    assert report.answer.complete
    assert report.answer.failures == []
    assert report.truth == lake.truth
    assert report.comparison.incidents == Score(len(lake.truth.incidents), 0, 0)
    assert report.comparison.records == Score(len(lake.truth.records), 0, 0)
    assert report.comparison.kinds_right == len(lake.truth.incidents) == len(report.comparison.findings)
    cited = {citation["address"] for citation in report.answer.citations}
    assert len(cited) == 3 * len(lake.truth.incidents)
    assert cited <= {address for incident in report.answer.value["incidents"] for address in incident["records"]}
    told = json.loads(json.dumps(report.to_json()))
    assert told["usage"]["usd"] == 0
    assert told["demo"]["comparison"]["records"]["recall"] == 1.0
    text = shown(report)
    assert max(map(len, text.splitlines()[:-2])) <= 80
    assert "yes" in text
    assert "missed" not in text


def test_without_the_small_model_words_are_counted_and_the_demo_says_so(demo, monkeypatch, run_dir):
    real, runs, reports = importlib.util.find_spec, run.run, []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "xllamacpp" else real(name, *rest))
    monkeypatch.setattr(run, "run", lambda *given, **named: reports.append(runs(*given, **named)) or reports[0])
    done = CliRunner().invoke(cli.main, ["demo", "--progress", "json", "--run-dir", str(run_dir)])
    assert done.exit_code == 0, done.output
    told, (report,) = done.stderr.splitlines(), reports
    assert "no model" in report.reader
    assert "xllamacpp is not installed" in report.reader
    assert report.answer.complete
    assert report.comparison.records.found + report.comparison.records.missed == len(report.truth.records)
    assert 0 < report.comparison.records.recall < 1
    assert "no model" in " ".join(done.stdout.split())
    assert told[0].startswith("Making the lake of seed 1")
    last = [json.loads(line) for line in told if line.startswith("{")][-1]
    assert last["turn"] == report.answer.turns
    assert last["shards"]["scanned"] == last["shards"]["of"] == report.truth.objects
    assert model.cache_folder().name == "rlm-ray"
