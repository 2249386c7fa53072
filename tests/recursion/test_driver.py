"""A driver is opened whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rlm_ray.corpus.opening import open_manifest
from rlm_ray.errors import InputError
from rlm_ray.handle.plan import Plan, Source
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.recursion.briefing import Briefing
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.driver import Driver
from rlm_ray.recursion.ports import Call
from rlm_ray.recursion.service import Service
from rlm_ray.settings import Settings
from rlm_ray.worker.meters import meter_of
from tests.recursion.local_ports import LocalPorts


def open_files(folder: Path) -> list[str]:
    links = (Path(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd"))
    return [target for link in links if link.exists() and (target := os.readlink(link)).startswith(str(folder))]


def test_a_driver_that_cannot_be_opened_leaves_nothing_open(tmp_path: Path) -> None:
    run = RunDirectory.create(str(tmp_path), "run", {"question": "", "corpora": {}})
    settings = Settings(root_model="root", sub_model="leaf")
    context = {"plan": Plan((Source("missing"),)).to_json(), "info": None}
    call = Call(run.uri, run.id, "0", 0, "", settings, Budget.of(settings), contexts={"context": context})  # type: ignore[dict-item]
    ports = LocalPorts()
    try:
        with pytest.raises(InputError, match="There is no corpus 'missing'"):
            Driver.open(call, {}, ports, run, meter_of(call.budget, settings))
    finally:
        ports.close()
    assert open_files(tmp_path) == []


def test_a_call_is_not_written_into(tmp_path: Path) -> None:
    """A call that starts describes its data itself, and keeps the description for itself."""
    (tmp_path / "a.log").write_text("one\ntwo\n")

    manifest = open_manifest(str(tmp_path / "a.log"), name="logs")
    run = RunDirectory.create(str(tmp_path), "run", {"question": "", "corpora": {}})
    settings = Settings(root_model="root", sub_model="leaf")
    contexts = {"context": {"plan": Plan((Source("logs"),)).to_json(), "info": None}}
    call = Call(run.uri, run.id, "0", 0, "How many?", settings, Budget.of(settings), contexts=contexts, main="context")  # type: ignore[arg-type]
    ports = LocalPorts()
    try:
        briefing = Briefing(call, Service(call, {"logs": manifest}, ports, meter_of(call.budget, settings)))
        _, task = briefing.messages("Left: 3 calls.")  # without a call of setup before
        assert "one" in task
        assert briefing.setup()["corpora"]["context"]["info"]["unit"] == "line"
        assert call.contexts == {"context": {"plan": Plan((Source("logs"),)).to_json(), "info": None}}
    finally:
        ports.close()
