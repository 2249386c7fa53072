"""Documents that other libraries write: the parsers give the words that those read in them, and what a viewer shows beside."""

from __future__ import annotations

import io
from typing import Any

import pytest

from rlm_ray.sandbox.inside.tasks.extracts import pages


def test_a_document_of_python_docx() -> None:
    docx: Any = pytest.importorskip("docx", reason="pip install 'rlm-ray[dev]' brings python-docx")
    document = docx.Document()
    document.add_heading("Agreement", 1)
    for text in ("Term", "Fees"):
        document.add_paragraph(text, style="List Number")
    document.add_paragraph("Clause with “quotes” and 30‑60 days", style="List Bullet")
    table = document.add_table(2, 2)
    table.cell(0, 0).text, table.cell(0, 1).text = "Year", "Cap"
    table.cell(1, 0).merge(table.cell(1, 1)).text = "all years"
    document.sections[0].header.paragraphs[0].text = "DRAFT"
    document.sections[0].footer.paragraphs[0].text = "Confidential"
    sink = io.BytesIO()
    document.save(sink)
    (text,) = pages("docx", sink.getvalue())
    assert [line for line in text.split("\n") if line] == [
        "[header: DRAFT]",
        "Agreement",
        "1.\tTerm",
        "2.\tFees",
        "•\tClause with “quotes” and 30‑60 days",
        "Year\tCap",
        "all years\t",
        "[footer: Confidential]",
    ]
    read = docx.Document(io.BytesIO(sink.getvalue()))
    for paragraph in read.paragraphs:
        assert paragraph.text in text


def test_a_form_of_reportlab() -> None:
    pytest.importorskip("pypdf", reason="pip install 'rlm-ray[documents]' brings pypdf")
    canvas: Any = pytest.importorskip("reportlab.pdfgen.canvas", reason="pip install 'rlm-ray[dev]' brings reportlab")
    sink = io.BytesIO()
    page = canvas.Canvas(sink)
    page.drawString(72, 750, "Price:")
    page.acroForm.textfield(name="price", x=150, y=740, width=200, height=20, value="EUR 250,000")
    page.acroForm.checkbox(name="exclusive", x=72, y=700, checked=True)
    page.acroForm.checkbox(name="transferable", x=72, y=660, checked=False)
    page.acroForm.choice(name="law", x=72, y=620, width=90, height=20, value="Ohio", options=["Ohio", "Texas"])
    page.showPage()
    page.save()
    (text,) = pages("pdf", sink.getvalue())
    assert [line for line in text.split("\n") if line] == [
        "Price:",
        "[field price: EUR 250,000]",
        "[☒ exclusive]",
        "[☐ transferable]",
        "[field law: Ohio]",
    ]
