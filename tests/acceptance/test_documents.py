"""A question over PDF and DOCX: pages have addresses, quotes are checked in them, and a file that no parser takes is said."""

from __future__ import annotations

import pytest

import rlm_ray
from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.reading.documents import extracting
from rlm_ray.errors import MissingExtra
from rlm_ray.testing import each
from tests.documents import docx, pdf

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
