"""Sixty things that honest code does, at every level."""

from __future__ import annotations

import pytest

from rlm_ray.sandbox.outside.events import CellDone
from tests.security.arena import ROOMY, Trial
from tests.security.snippets.ordinary import NOT_AT_NOOPEN, ORDINARY


@pytest.fixture(scope="module", params=["strict", "noopen", "none"])
def trial(request):
    targets = type("NoTargets", (), {"targets": staticmethod(dict)})
    found = Trial(targets, request.param, ROOMY)
    yield found
    found.box.close()


def test_there_are_sixty():
    assert len(ORDINARY) >= 60


@pytest.mark.parametrize("name", [*ORDINARY, *NOT_AT_NOOPEN])
def test_honest_code_runs(trial, name):
    if trial.box.level == "noopen" and name in NOT_AT_NOOPEN:
        done = trial.run(NOT_AT_NOOPEN[name])
        assert isinstance(done, CellDone)
        assert trial.box.events["restarts"] == 0
        return
    done = trial.run((ORDINARY | NOT_AT_NOOPEN)[name])
    assert isinstance(done, CellDone)
    assert done.error is None, done.error
    assert trial.box.events == {"denials": 0, "restarts": 0, "protocol_errors": 0}
