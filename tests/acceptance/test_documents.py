"""A question over PDF and DOCX: pages have addresses, quotes are checked in them, and a file that no parser takes is said."""

from __future__ import annotations

import gzip

import pytest

import rlm_ray
from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.reading.documents import extracting
from rlm_ray.errors import MissingExtra
from rlm_ray.testing import each
from tests.documents import docx, docx_of, pdf

pytest.importorskip("pypdf", reason="pip install 'rlm-ray[documents]' brings pypdf")
FILES = {
    "a.pdf": pdf([["Lease of the mill."], ["The law of Ontario governs."], ["Signed."]]),
    "b.docx": docx([["Sale of the barn."], ["The law of Texas governs."]]),
    "c.PDF": pdf([["A letter."]]),
    "broken.pdf": b"%PDF-1.7\nnothing more",
}
ROOT = [
    """
pages = context.split("text", by=r"\\f")
found = llm_each("Which law?", pages.grep("governs"), schema={"law": "string"})
for row in found:
    cite({"_address": row["_address"]}, "The law of")
print(pages.count_by("path"), [row["law"] for row in found])""",
    "Final = [[row['path'], row['law'], row['_address']] for row in found]",
]


@pytest.mark.parametrize("place", ["local", "s3"])
def test_pages_are_spans_of_documents(ask, tmp_path, place, request):
    if place == "s3":
        s3 = request.getfixturevalue("s3")
        url = f"s3://{s3.bucket()}/deeds"
        for name, data in FILES.items():
            s3.put(f"{url}/{name}", data)
    else:
        url = str(tmp_path / "deeds")
        (tmp_path / "deeds").mkdir()
        for name, data in FILES.items():
            (tmp_path / "deeds" / name).write_bytes(data)
    corpus = rlm_ray.open(url)
    assert corpus.describe()["unit"] == "document"
    answer = ask(corpus, ROOT, each(lambda text: "Ontario" if "Ontario" in text else "Texas"))
    assert [(path, law) for path, law, _ in answer.value] == [("a.pdf", "Ontario"), ("b.docx", "Texas")]
    assert not answer.complete
    (failed,) = {failure["object"] for failure in answer.failures if "broken" in str(failure)}
    assert failed == f"{url}/broken.pdf"
    for path, _, where in answer.value:
        address = Address.parse(where)
        assert address.object == f"{url}/{path}"
        assert address.column == "text"
        assert address.chars is not None
        assert address.chars[0] > 0  # the second page
    assert len(answer.citations) == 2


def test_without_the_extra_it_is_said_before_anything_is_read(tmp_path, monkeypatch):
    (tmp_path / "a.pdf").write_bytes(FILES["a.pdf"])
    monkeypatch.setattr(extracting.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="documents"):
        rlm_ray.open(str(tmp_path))


def test_tracked_changes_can_be_shown_and_owner_files_are_ignored(tmp_path):
    word = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    changed = f'<w:document xmlns:w="{word}"><w:body><w:p><w:del w:author="A"><w:r><w:delText>12</w:delText></w:r></w:del>'
    changed += "<w:ins><w:r><w:t>24</w:t></w:r></w:ins></w:p></w:body></w:document>"
    (tmp_path / "a.docx").write_bytes(docx_of(changed.encode()))
    (tmp_path / "~$a.docx").write_bytes(b"\x05owner" + bytes(100))
    (tmp_path / "b.docx.gz").write_bytes(gzip.compress(docx([["Packed."]])))
    (tmp_path / "no-ending").write_bytes(docx([["Told by its bytes."]]))
    texts = [row["text"].strip() for row in rlm_ray.open(str(tmp_path), unit="document").head(9)]
    assert texts == ["24", "Packed.", "Told by its bytes."]
    (shown,) = rlm_ray.open(str(tmp_path / "a.docx"), tracked_changes="shown").head(1)
    assert shown["text"].strip() == "[deleted by A: 12][inserted: 24]"
    with pytest.raises(rlm_ray.errors.InputError, match="tracked_changes"):
        rlm_ray.open(str(tmp_path / "a.docx"), tracked_changes="all")
