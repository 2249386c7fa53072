"""The parent's side against what a coverage-guided fuzzer finds, within a few seconds (RLM_RAY_FUZZ_SECONDS for more)."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = int(os.environ.get("RLM_RAY_FUZZ_SECONDS", "5"))


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="no coverage-guided fuzzer: pip install atheris")
def test_coverage_guided_bytes_do_not_harm_the_parent(tmp_path):
    command = [sys.executable, "-m", "tests.sandbox.fuzz_parent", f"-max_total_time={SECONDS}", "-len_control=0", "-max_len=600"]
    command.append("-rss_limit_mb=0")  # what it would measure is the most that the process of the tests ever had
    done = subprocess.run(
        [*command, f"-artifact_prefix={tmp_path}/"],
        cwd=Path(__file__).resolve().parents[2],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (os.getcwd(), os.environ.get("PYTHONPATH"))))},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=SECONDS + 300,
    )
    assert done.returncode == 0, done.stdout[-1_500:] + done.stderr[-3_000:]
    runs = re.search(r"Done (\d+) runs", done.stderr)
    assert runs is not None
    assert int(runs[1]) > 0
