"""The notebooks run from top to bottom, with no key; they are stored without outputs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rlm_ray

pytest.importorskip("nbclient", reason="pip install nbclient ipykernel")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")
NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


#: Runs one in a process of its own: Jupyter's libraries warn of each other, and start loops and threads. Prints its outputs.
EXECUTE = """
import json, sys, nbclient, nbformat
book = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(book, timeout=240, kernel_name="python3", resources={"metadata": {"path": sys.argv[2]}}).execute()
print(json.dumps([output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]))
"""
PATIENCE = 300


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, ray_local: Any, tmp_path: Path) -> None:
    if path.stem == "3-log-audit":
        pytest.importorskip("drain3", reason="pip install 'rlm-ray[audit]' brings drain3")
    # the kernel uses this session's Ray, keeps what it makes in the test's folder, and has no key
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"} | {
        "RAY_ADDRESS": ray_local.get_runtime_context().gcs_address,
        "RAY_AUTH_MODE": "token",
        "TMPDIR": str(tmp_path),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(path.parents[1]), os.environ.get("PYTHONPATH")))),
    }
    command = [sys.executable, "-W", "ignore", "-c", EXECUTE, str(path), str(path.parent)]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    outputs = json.loads(done.stdout.splitlines()[-1])
    # JupyterLab draws what a cell writes to stderr, and a message that a widget is missing, in a red box
    assert [output["text"] for output in outputs if output.get("name") == "stderr"] == []
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert not {kind for kind in kinds if "widget" in kind}
    assert "image/svg+xml" in kinds, "no plot"
    tables = [text for output in outputs for kind, text in output.get("data", {}).items() if kind in ("text/html", "text/markdown")]
    assert any("<table" in text or "|---" in text for text in tables), "no table"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_stored_without_outputs_and_says_how_to_use_a_real_model(path: Path) -> None:
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    assert any("## With a real model" in cell.source for cell in book.cells)
    assert len(cells) >= 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_uses_public_names_only(path: Path) -> None:
    code = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    assert set(re.findall(r"(?:from|import) (rlm_ray[\w.]*)", code)) <= {"rlm_ray", "rlm_ray.testing"}
    assert re.findall(r"\w\._\w+", code) == []
    names = set(re.findall(r"\brlm_ray\.(?!testing)(\w+)", code))
    assert names <= set(rlm_ray.__all__)
