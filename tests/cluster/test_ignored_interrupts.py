"""A run that was begun with SIGINT ignored, as by `&` in a script, ends at SIGINT and at SIGTERM all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rlm_ray.testing import Faults, ModelServer


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_in_the_background_of_a_script_can_be_ended(
    model_server: Callable[..., ModelServer], tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "a.log").write_text("x\n" * 50)
    server = model_server(root=["```repl\nFinal = context.count()\n```"], faults=Faults(latency=600))
    flags = f"--root-model root --sub-model leaf --base-url {server.base_url} --run-dir {tmp_path}/runs"
    command = f"trap '' INT; exec {sys.executable} -c 'from rlm_ray.cli import main; main()' ask {tmp_path}/a.log -q q {flags}"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.Popen(["bash", "-c", command], stderr=subprocess.PIPE, text=True, env=environment)
    try:
        while not list((tmp_path / "runs").glob("*/calls/0/events.jsonl")):
            assert done.poll() is None
            time.sleep(0.1)
        done.send_signal(number)
        assert done.wait(60) == 130
        assert done.stderr is not None
        assert "Interrupted. Nothing that was paid is lost" in done.stderr.read()
    finally:
        done.kill()
        done.communicate()
