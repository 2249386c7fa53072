"""Jobs and their nights, of real runs."""

from __future__ import annotations

from pathlib import Path

from rlm_ray.ui.catalog import Catalog
from rlm_ray.ui.nights import history, jobs
from tests.ui.conftest import HOSTILE


def test_jobs_that_ran_last_come_first(runs: Path) -> None:
    found = jobs(Catalog(str(runs)))
    assert [job.name for job in found] == ["log-audit", HOSTILE]
    assert (found[0].runs, found[0].newest.listed.id, found[0].newest.findings) == (3, "night-2", 11)
    assert 'aria-label="findings: 1, 4, 11"' in found[0].line
    assert (found[1].newest.state, found[1].line) == ("unreadable", "")


def test_a_job_has_its_nights_newest_first(runs: Path) -> None:
    found = history(Catalog(str(runs)), "log-audit")
    assert found is not None
    assert [(night.described.listed.id, night.before) for night in found.nights] == [
        ("night-2", "night-1"),
        ("night-1", "night-0"),
        ("night-0", ""),
    ]
    assert found.severities == ["high", "low"]
    assert [(name, number) for name, number, _ in found.lines] == [("high", 1), ("low", 10), ("all findings", 11)]
    assert [night.found and night.found["counts"] for night in found.nights][1] == {"high": 1, "low": 3}


def test_a_job_without_outcomes_and_one_that_is_not_there(runs: Path) -> None:
    catalog = Catalog(str(runs))
    found = history(catalog, HOSTILE)
    assert found is not None
    assert (found.lines, [night.found for night in found.nights]) == ([], [None])
    assert history(catalog, "none") is None
