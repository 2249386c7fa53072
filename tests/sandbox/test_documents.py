"""PDF and DOCX are parsed in a sandbox of their own: pages come out, or a reason."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from rlm_ray.errors import SandboxUnavailable
from rlm_ray.sandbox.outside import isolation
from rlm_ray.sandbox.outside.documents import DocumentSandbox, extract
from tests.documents import docx, docx_of, pdf

pypdf = pytest.importorskip("pypdf", reason="pip install 'rlm-ray[documents]' brings pypdf")
PAGES = [["The first (page)", "has two lines."], ["The second has one."]]
_XML = b'<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>%s</w:body></w:document>'


@pytest.fixture(autouse=True)
def _strict() -> None:
    try:
        isolation.choose("strict")
    except SandboxUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("kind", "make"), [("pdf", pdf), ("docx", docx)])
def test_pages_come_out(kind: str, make: object) -> None:
    pages = extract(kind, make(PAGES))  # type: ignore[operator]
    assert [page.split("\n") for page in ("\n".join(filter(None, page.split("\n"))) for page in pages)] == PAGES


def test_the_parser_is_behind_walls() -> None:
    with DocumentSandbox() as box:
        assert box.pages("pdf", pdf(PAGES))
        status = Path(f"/proc/{box.pid}/status").read_text()
    for wall in ("Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t0000000000000000"):
        assert wall in status


def encrypted() -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf(PAGES)))
    writer.encrypt("secret", algorithm="RC4-128")
    sink = io.BytesIO()
    writer.write(sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        ("pdf", b"", "."),
        ("pdf", b"no pdf at all", "."),
        ("pdf", pdf(PAGES)[:100], "."),
        ("pdf", encrypted(), "it is encrypted"),
        ("docx", b"PK no", "not a zip file"),
        ("docx", docx_of(b"<no"), "."),
        ("docx", docx_of(_XML % b"<w:p><w:r><w:t>&x;</w:t></w:r></w:p>"), "undefined entity"),
        (
            "docx",
            docx_of(b'<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + _XML % b"<w:p><w:t>&x;</w:t></w:p>"),
            "entity",
        ),
    ],
)
def test_what_cannot_be_parsed_is_a_reason(kind: str, data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        extract(kind, data)
    assert extract("docx", docx([["well"]]))  # and does no harm to the next


def test_memory_is_bounded() -> None:
    bomb = docx_of(_XML % (b"<w:p><w:r><w:t>" + b"x" * (90 << 20) + b"</w:t></w:r></w:p>"))
    assert len(bomb) < 1 << 20
    with DocumentSandbox(memory=40 << 20) as box, pytest.raises(ValueError, match=r"MemoryError|memory|stopped"):
        box.pages("docx", bomb)


def test_time_is_bounded() -> None:
    endless = docx_of(_XML % (b"<w:p><w:r><w:t>x</w:t></w:r></w:p>" * 2_000_000))
    with DocumentSandbox(seconds=0.3) as box, pytest.raises(ValueError, match=r"Timeout|seconds|stopped"):
        box.pages("docx", endless)
