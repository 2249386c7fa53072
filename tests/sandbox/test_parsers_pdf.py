"""What stands on a PDF's pages beside its text: fields, notes, attachments; and PDFs that open without a password."""

from __future__ import annotations

import io
from typing import Any

import pytest

from rlm_ray.sandbox.inside.tasks.extracts import pages
from tests.documents import pdf

pypdf = pytest.importorskip("pypdf", reason="pip install 'rlm-ray[documents]' brings pypdf")
generic = pytest.importorskip("pypdf.generic")


def written(writer: Any) -> bytes:
    sink = io.BytesIO()
    writer.write(sink)
    return sink.getvalue()


def of(**members: Any) -> Any:
    return generic.DictionaryObject({generic.NameObject("/" + key): value for key, value in members.items()})


def field(writer: Any, kind: str, name: str, **members: Any) -> Any:
    box = generic.ArrayObject([generic.FloatObject(side) for side in (10, 10, 200, 30)])
    item = of(Type=generic.NameObject("/Annot"), Subtype=generic.NameObject("/Widget"), FT=generic.NameObject(kind), Rect=box)
    item[generic.NameObject("/T")] = generic.TextStringObject(name)
    item.update(of(**members))
    return writer._add_object(item)


def test_fields_and_notes_are_given_behind_the_page_that_shows_them() -> None:
    from pypdf.annotations import FreeText

    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf([["Party:"], ["Second."]])))
    name, text = generic.NameObject, generic.TextStringObject
    looks = of(N=of(Yes=generic.NullObject(), Off=generic.NullObject()))
    fields = [
        field(writer, "/Tx", "party", V=text("Acme Gmb\ufb01")),
        field(writer, "/Btn", "exclusive", V=name("/Yes"), AS=name("/Yes"), AP=looks),
        field(writer, "/Btn", "transferable", V=name("/Off"), AS=name("/Off"), AP=looks),
        field(writer, "/Ch", "law", V=text("oh"), Opt=generic.ArrayObject([generic.ArrayObject([text("oh"), text("Ohio")])])),
        field(writer, "/Tx", "empty"),
    ]
    writer.pages[0][name("/Annots")] = generic.ArrayObject(fields)
    writer._root_object[name("/AcroForm")] = of(Fields=generic.ArrayObject(fields))
    note = FreeText(text="USD 5,000 per month", rect=(60, 0, 260, 20))
    writer.add_annotation(1, note)
    writer.add_attachment("terms.txt", b"more")
    first, second, rest = pages("pdf", written(writer))
    assert [line for line in first.split("\n") if line] == [
        "Party:",
        "[field party: Acme Gmbfi]",
        "[☒ exclusive]",
        "[☐ transferable]",
        "[field law: Ohio]",
    ]
    assert [line for line in second.split("\n") if line] == ["Second.", "[text on the page: USD 5,000 per month]"]
    assert rest == "[attached file: terms.txt, not read]"


def test_ligatures_are_the_letters_that_they_stand_for() -> None:
    from rlm_ray.sandbox.inside.parsers.pdf import _plain

    assert _plain("the \ufb01le is e\ufb03cient, \u2f00") == "the file is efficient, 一"
    assert _plain("co\xadoperate ½") == "cooperate ½"  # a fraction is no ligature: "1½" is not "11/2"


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-128", "AES-256"])
def test_what_opens_without_a_password_is_read(algorithm: str) -> None:
    pytest.importorskip("cryptography", reason="AES needs cryptography")
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf([["Governed by the laws of Ohio."]])))
    writer.encrypt(user_password="", owner_password="owner", algorithm=algorithm)
    assert [page.strip() for page in pages("pdf", written(writer))] == ["Governed by the laws of Ohio."]


def test_pictures_alone_are_no_text() -> None:
    writer = pypdf.PdfWriter()
    writer.add_blank_page(100, 100)
    with pytest.raises(ValueError, match="no text"):
        list(pages("pdf", written(writer)))
