"""The house as ARCHITECTURE.md draws it: arrows point down, heavy libraries stand in one room each."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from rlm_ray.sandbox.outside.process import bundle

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "rlm_ray"
MAX_FILES = 12


def test_the_contracts_hold() -> None:
    """Those of pyproject.toml, in a process of their own: the linter switches off every logger of the process it runs in."""
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert f"{len(contracts)} kept, 0 broken" in said


def _top_level() -> set[str]:
    names = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    return {f"rlm_ray.{name}" for name in names - {"__init__", "__main__"}}


def test_every_room_stands_in_the_layers_and_in_each_contract() -> None:
    contracts = {
        item["id"]: item for item in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    }
    layers = {name.strip() for layer in contracts["layers"]["layers"] for name in layer.split("|")}
    assert layers == _top_level()
    free = {"ray": {"rlm_ray.cluster"}, "openai": {"rlm_ray.models"}, "storage": {"rlm_ray.storage"}}
    for name, rooms in free.items():
        assert set(contracts[name]["source_modules"]) == _top_level() - rooms


def test_root_codes_process_has_the_standard_library_and_the_handle_only() -> None:
    """Not only by the graph: what a fresh interpreter really loads for it."""
    code = "import rlm_ray.sandbox.inside.kernel, rlm_ray.handle.verbs, sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT)
    loaded = json.loads(done.stdout)
    ours = {name for name in loaded if name.startswith("rlm_ray.")}
    bundled = {name for name in bundle.NAMES if name.startswith("rlm_ray.")}
    assert {name for name in ours | bundled if not name.startswith("rlm_ray.sandbox")} <= bundled & ours
    roots = {name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names)
    assert roots <= {"rlm_ray", "cloudpickle", "__main__", "site", "sitecustomize"} | {
        name for name in roots if name.startswith("_")
    }


def _sources() -> list[Path]:
    """All modules; a program's cells are none, they share one namespace."""
    return sorted(path for folder in ("rlm_ray", "jobs") for path in (ROOT / folder).rglob("*.py") if path.parent.name != "cells")


def test_a_room_has_at_most_twelve_files() -> None:
    rooms = [PACKAGE, *(path.parent for path in PACKAGE.rglob("__init__.py"))]
    counts = {str(room.relative_to(ROOT)): len([p for p in room.glob("*.py") if p.name != "__init__.py"]) for room in rooms}
    assert {room: count for room, count in counts.items() if count > MAX_FILES} == {}


def test_every_module_says_what_it_is_and_imports_annotations() -> None:
    for path in _sources():
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), f"{path} has no docstring"
        empty = all(isinstance(node, ast.Expr) for node in tree.body)
        future = any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)
        assert empty or future or path.name == "__init__.py", f"{path} lacks from __future__ import annotations"


def test_packages_are_empty_or_lazy() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        if path.parent in (PACKAGE, PACKAGE / "storage", PACKAGE / "testing"):
            continue
        tree = ast.parse(path.read_text())
        assert all(isinstance(node, ast.Expr) for node in tree.body), f"{path} imports something"


def _rooms_of_the_page() -> list[list[set[str]]]:
    """The tables of rooms in ARCHITECTURE.md: a list of rows for each table, and the names that a row gives in its first cell."""
    tables: list[list[set[str]]] = []
    for line in (ROOT / "ARCHITECTURE.md").read_text().splitlines():
        if line.startswith(("| room |", "| folder |")):
            tables.append([])
        elif tables and line.startswith("| `"):
            tables[-1].append({name.removesuffix(".py") for name in re.findall(r"`([\w/.]+)`", line.split("|")[1])})
    return tables


def test_the_page_lists_the_rooms_in_the_order_of_the_contracts() -> None:
    contracts = {
        item["id"]: item for item in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    }
    for table, name in zip(_rooms_of_the_page(), ("layers", "corpus", "recursion", "sandbox"), strict=True):
        layers = [{part.strip() for part in layer.split("|")} for layer in contracts[name]["layers"]]
        assert [{"rlm_ray." + room.replace("/", ".") for room in row} for row in table] == layers


def test_the_page_names_every_folder() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    folders = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*") if path.is_dir() and "__" not in path.name}
    assert {str(folder) for folder in folders if f"`{folder}`" not in page} == set()
