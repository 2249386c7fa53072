"""What a job demands to be read: met, not met, and over what."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from rlm_ray.audit.spec import load
from rlm_ray.errors import SpecError

Run = Callable[..., Result]


@pytest.mark.parametrize(
    ("demand", "met"),
    [
        ("{read_by_model: 0.2}", True),  # four lines of twenty
        ("{read_by_model: 0.25}", False),
        ("{read: 1.0}", True),
        ("{read_by_model: 1.0, where: [[text, '==', 'line 5 ERROR']]}", True),
        ("{read_by_model: 1.0, where: [[text, in, ['line 5 ERROR', 'line 6 INFO']]]}", False),
        ("{read: 1.0, where: [[text, '!=', 'line 5 ERROR']]}", True),
        ("{shown: 0.2}", True),
        ("{shown: 0.3}", False),
        ("{shown: 1.0, where: [[text, '==', 'line 5 ERROR']]}", True),
        ("{shown: 0.6, where: [[text, in, ['line 5 ERROR', 'line 6 INFO']]]}", False),
        ("{shown_characters: 50}", True),  # four lines with ERROR
        ("{shown_characters: 51}", False),
    ],
)
def test_a_run_that_read_less_is_partial(run: Run, job: Path, demand: str, met: bool) -> None:
    done = run("run", job, "--root-model", "root", "--set", f"require_coverage={demand}", "--set", "fail_on=", "--json")
    assert done.exit_code == (0 if met else 3), done.output
    told = json.loads(done.stdout)
    assert told["complete"] == met
    assert told["coverage"]["records"]["read_by_model"] == 4
    if not met:
        assert told["stop_reason"] == "coverage"
        said = f"The job demands {demand[1:].split(':')[0]}"
        assert said in told["message"]
        shown = run("show", told["run"].rsplit("/", 1)[1])
        assert said in shown.output


@pytest.mark.parametrize(
    ("demand", "message"),
    [
        ("{read_by_model: 2}", "less than or equal to 1"),
        ("{}", "demands nothing"),
        ("{shown_characters: 5, where: [[text, '==', x]]}", "cannot count shown_characters under a condition"),
        ("{read: 1.0, corpus: mails}", "corpus = 'mails' is none of the job's: logs"),
        ("{read: 1.0, where: [[text, like, x]]}", "has a condition that does not work"),
        ("{reed: 1.0}", "did you mean read?"),
    ],
)
def test_a_demand_that_cannot_be_is_an_error_with_its_line(job: Path, demand: str, message: str) -> None:
    job.write_text(job.read_text() + f"require_coverage: {demand}\n")
    with pytest.raises(SpecError) as caught:
        load(job)
    assert message in str(caught.value)
    assert f"{job}:" in str(caught.value)


def test_a_condition_on_one_of_several_corpora_names_it(job: Path, tmp_path: Path) -> None:
    text = job.read_text().replace("corpora:\n", f"corpora:\n  mails: {{uris: {tmp_path}}}\n")
    job.write_text(text + "require_coverage: {read: 1.0, where: [[text, '==', x]]}\n")
    with pytest.raises(SpecError, match="where needs a corpus when there are several"):
        load(job)


def test_the_report_and_the_terminal_say_what_was_read(run: Run, job: Path) -> None:
    done = run("run", job, "--root-model", "root")
    assert "4 records) by a model" in done.stderr
    assert "by code alone, of 254 B" in done.stderr
