"""A document under a name that says nothing is read as what its first bytes say, and its coverage is whole."""

from __future__ import annotations

import pytest

import rlm_ray
from rlm_ray.testing import each
from tests.documents import pdf

pytest.importorskip("pypdf", reason="pip install 'rlm-ray[documents]' brings pypdf")
ROOT = [
    """
found = llm_each("Which law?", context.split("text", by=r"\\f"), schema={"law": "string"})
Final = [row["law"] for row in found]""",
]


def test_pages_of_a_document_without_an_ending(ask, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(pdf([["Lease of the mill."], ["The law of Ontario governs."]]))
    answer = ask(rlm_ray.open(str(tmp_path), unit="document"), ROOT, each(lambda text: "Ontario" if "Ontario" in text else "none"))
    assert answer.value == ["none", "Ontario"] * 2
    assert answer.complete
    assert answer.coverage["bytes"]["not_read"] == 0
