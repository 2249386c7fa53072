"""Each fault of the table has a test that exists, and each is named once."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.faults.table import FAULTS, Fault

TESTS = Path(__file__).resolve().parents[1]


def defined(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.test.rpartition("::")[2])
def test_the_test_of_a_fault_exists(fault: Fault) -> None:
    file, _, name = fault.test.partition("::")
    assert name in defined(TESTS / file)


def test_every_fault_is_named_once_and_every_area_has_some() -> None:
    assert len({fault.fault for fault in FAULTS}) == len(FAULTS)
    areas = {fault.area for fault in FAULTS}
    assert areas == {
        "failures", "settings", "replies", "budget", "resume", "coverage", "ray", "stores", "shapes", "messages",
    }  # fmt: skip
