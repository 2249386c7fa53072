"""The shipped audit of contracts: with a reader that knows, the matrix is what the experts say; with one that errs, what it said.

30 of the 510 real contracts by default; all of them with RLM_RAY_TEST_FULL=1.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlm_ray.audit.running import JobResult
from rlm_ray.testing import ModelServer
from tests import documents
from tests.jobs.contracts import LAW, WORDS, Known, Reader, found_cells, made_up, real
from tests.jobs.jobs import precision_recall, run_job

CONTRACTS = 510 if os.environ.get("RLM_RAY_TEST_FULL") == "1" else 30
Audit = Callable[..., JobResult]


@pytest.fixture
def audit(model_server: Callable[..., ModelServer], tmp_path: Path) -> Audit:
    """Run the job over known contracts with a reader; `changes` are those of `--set`."""

    def run(known: Known | str, leaf: Any, *changes: str) -> JobResult:
        uris = known if isinstance(known, str) else str(known.write(tmp_path / "contracts"))
        server = model_server(leaf=leaf, models=("leaf",))
        return run_job("contract_audit", "contracts", uris, tmp_path, server.base_url, changes)

    return run


def test_the_matrix_is_what_the_contracts_say(audit: Audit) -> None:
    known = made_up(8)
    reader = Reader(known)
    audited = audit(known, reader)
    assert audited.answer.complete, audited.answer.message
    assert (audited.broken, audited.checked.rejected) == ("", [])
    rows = audited.checked.standing
    assert found_cells(rows) == known.cells
    cells = [row for row in rows if row["kind"] != "conflict"]
    assert len(cells) == len(known.texts) * 41
    for row in cells:
        mark = known.clauses[row["contract"]].get(row["clause"])
        if mark is None:
            assert row["kind"] == ("missing" if row["clause"] in ("Parties", LAW) else "absent")
            assert (row["value"], row["quote"]) == (None, None)
            assert f"/{row['contract']}@" in row["address"]
            assert "&chars=" not in row["address"]
        else:
            assert (row["value"], row["quote"]) == mark
            assert f"/{row['contract']}@" in row["address"]
            assert "&column=text&chars=" in row["address"]
    # contracts 2n and 2n + 1 have their maker in common; where both have the sole right, they conflict, once
    both = {
        (f"contract-{n:03d}.txt", f"contract-{n + 1:03d}.txt")
        for n in range(0, 8, 2)
        if all("Exclusivity" in known.clauses[f"contract-{m:03d}.txt"] for m in (n, n + 1))
    }
    conflicts = [row for row in rows if row["kind"] == "conflict"]
    assert both
    assert {(row["contract"], row["other"]) for row in conflicts} == both
    assert len(conflicts) == len(both) == len(reader.compared)
    assert audited.failing == conflicts
    assert rows[: len(conflicts)] == conflicts  # what somebody has to look at comes first
    assert rows[-1]["kind"] == "absent"


def test_several_pieces_go_into_one_call(audit: Audit) -> None:
    known = made_up(12)
    reader = Reader(known)
    audited = audit(known, reader)
    sizes = [len(text) for text in known.texts.values()]
    assert min(sizes) > 16_000  # each contract is more than one piece
    assert audited.answer.usage["calls"] == reader.calls < len(known.texts)
    assert found_cells(audited.checked.standing) == known.cells


def test_a_reader_that_errs_changes_what_it_said_and_nothing_else(audit: Audit) -> None:
    known = made_up(12)
    reader = Reader(known, missed=0.1, invented=0.2, misquoted=0.15)
    audited = audit(known, reader)
    assert audited.answer.complete, audited.answer.message
    assert found_cells(audited.checked.standing) == {cell for cell, true in reader.said.items() if true}
    refused = {(row["contract"], row["clause"]) for row in audited.checked.rejected}
    assert refused == {cell for cell, true in reader.said.items() if not true}
    assert refused
    assert all("is not in the record" in row["reason"] for row in audited.checked.rejected)


@pytest.mark.parametrize("make", [documents.pdf, documents.docx])
def test_contracts_as_pdf_and_docx(audit: Audit, tmp_path: Path, make: Callable[..., bytes]) -> None:
    pytest.importorskip("pypdf", reason="pip install 'rlm-ray[documents]' brings pypdf")
    texts = made_up(4, filler=6)
    ending = f".{make.__name__}"
    known = Known(
        {name.replace(".txt", ending): text for name, text in texts.texts.items()},
        {name.replace(".txt", ending): found for name, found in texts.clauses.items()},
    )
    pages = {name: [[paragraph] for paragraph in text.strip().split("\n\n")] for name, text in known.texts.items()}
    (tmp_path / "files").mkdir()
    for name, content in pages.items():
        (tmp_path / "files" / name).write_bytes(make(content))
    (tmp_path / "files" / f"broken{ending}").write_bytes(b"nothing")
    audited = audit(str(tmp_path / "files"), Reader(known))
    assert audited.answer.answered
    assert not audited.answer.complete  # one file cannot be parsed, and is said
    assert f"broken{ending}" in str(audited.answer.failures)
    assert audited.checked.rejected == []
    assert found_cells(audited.checked.standing) == known.cells
    starts = {row["address"].rpartition("chars=")[2] for row in audited.checked.standing if row["kind"] == "present"}
    assert len(starts) > 4  # each clause has its own page


@pytest.mark.parametrize("form", ["yaml", "csv", "json"])
def test_a_list_of_ones_own(audit: Audit, tmp_path: Path, form: str) -> None:
    known = made_up(4, filler=2)
    own = [{"name": "Insurance", "question": "Is the Buyer insured?", "missing": "high"}, {"name": LAW, "question": "Which law?"}]
    file = tmp_path / f"own.{form}"
    lines = ["name,question,missing", *(f"{item['name']},{item['question']},{item.get('missing', '')}" for item in own)]
    file.write_text("\n".join(lines) + "\n" if form == "csv" else json.dumps(own))
    ours = Known(
        known.texts, {name: {c: v for c, v in found.items() if c in ("Insurance", LAW)} for name, found in known.clauses.items()}
    )
    audited = audit(ours, Reader(ours), f"values.clauses={file}")
    assert found_cells(audited.checked.standing) == ours.cells
    assert {row["clause"] for row in audited.checked.standing} == {"Insurance", LAW}
    without = {name for name, found in ours.clauses.items() if "Insurance" not in found}
    assert {row["contract"] for row in audited.failing} == without
    assert {row["kind"] for row in audited.failing} == {"missing"}


@pytest.mark.parametrize(
    ("clauses", "said"),
    [
        ("[]", "is empty"),
        ("[{name: Law}]", "has no name or no question"),
        ("[{name: Law, question: a}, {name: Law, question: b}]", "is on the list twice"),
        ("[{name: Law, question: a, missing: urgent}]", "missing is 'urgent'"),
        ("[{name: Law, question: a, conflicts: [Tax]}]", "which are not on the list"),
    ],
)
def test_a_list_that_cannot_work_stops_it(audit: Audit, clauses: str, said: str) -> None:
    known = made_up(1, filler=1)
    reader = Reader(known)
    audited = audit(known, reader, f"values.clauses={clauses}")
    assert said in audited.broken
    assert (reader.calls, audited.written) == (0, {})


def test_data_of_another_shape_stops_it(audit: Audit, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "rows"
    folder.mkdir()
    pq.write_table(pa.table({"file": ["a"], "pages": [3]}), folder / "a.parquet")
    audited = audit(str(folder), Reader(made_up(1)), "corpora.contracts.unit=row")
    assert "holds a contract's text" in audited.broken
    assert audited.written == {}


def test_a_piece_that_no_model_read_is_not_taken_for_absence(audit: Audit) -> None:
    known = made_up(4)
    reader = Reader(known)

    def refusing(prompt: str, schema: dict[str, Any] | None = None) -> str:
        return "no" if "contract-002.txt" in prompt else reader(prompt, schema)

    audited = audit(known, refusing, "settings.call_attempts=1", "settings.records_per_call=1")
    kinds = {row["kind"] for row in audited.checked.standing if row["contract"] == "contract-002.txt"}
    assert kinds == {"unread"}
    assert found_cells(audited.checked.standing) == {cell for cell in known.cells if cell[0] != "contract-002.txt"}


def test_a_document_that_cannot_be_parsed_is_unread(audit: Audit, tmp_path: Path) -> None:
    known = made_up(2)
    folder = known.write(tmp_path / "some")
    (folder / "old.doc").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504))
    audited = audit(str(folder), Reader(known))
    rows = [row for row in audited.checked.standing if row["contract"] == "old.doc"]
    assert audited.checked.rejected == []
    assert len(rows) == 41
    assert {row["kind"] for row in rows} == {"unread"}
    assert all("old binary format" in row["value"] and row["address"].endswith("#bytes=0-512") for row in rows)
    assert found_cells(audited.checked.standing) == known.cells


@pytest.mark.parametrize("errs", [{}, {"missed": 0.1, "invented": 0.05, "misquoted": 0.05}], ids=["gold", "noisy"])
def test_real_contracts(audit: Audit, data: Path, ray_local: Any, errs: dict[str, float]) -> None:
    known = real(data, CONTRACTS)
    reader = Reader(known, **errs)
    audited = audit(known, reader)
    assert audited.answer.complete, audited.answer.message
    found = found_cells(audited.checked.standing, WORDS)
    assert found == {cell for cell, true in reader.said.items() if true}
    precision, recall = precision_recall(found, known.cells)
    laws = {row["contract"]: row["value"] for row in audited.checked.standing if row["clause"] == LAW and row["kind"] == "present"}
    assert all(laws[name] == known.clauses[name][LAW][0] for name in laws if LAW in known.clauses[name])
    if not errs:
        assert (precision, recall) == (1.0, 1.0)
        assert audited.checked.rejected == []
