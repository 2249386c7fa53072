"""HTML, presentations and books as text: what a reader sees, in order; what nobody sees is left out."""

from __future__ import annotations

import io
import zipfile

import pytest

from rlm_ray.errors import SandboxUnavailable
from rlm_ray.sandbox.inside.parsers import html
from rlm_ray.sandbox.inside.tasks.extracts import pages
from rlm_ray.sandbox.outside import isolation
from rlm_ray.sandbox.outside.documents import extract

PAGE = """<!doctype html><html><head><meta charset="windows-1252"><title>Offer</title><style>p {color: red}</style>
<script>document.write("never")</script></head><body><h1>Terms &amp; prices</h1><p>First  line<br>second line</p>
<ul><li>one</li><li>two <b>bold</b></li></ul><table><tr><th>Lot</th><th>Price</th></tr><tr><td>1</td><td>10&nbsp;€</td></tr></table>
<blockquote><p>quoted</p></blockquote><div style="display:none">hidden</div><!-- no --><pre>a  b
  c</pre><p>größer</p></body></html>"""
TEXT = """Offer

# Terms & prices

First line
second line

- one
- two bold

Lot\tPrice
1\t10 €

> quoted

a  b
  c

größer"""


def test_html_is_its_text() -> None:
    assert "\f".join(pages("html", PAGE.encode("cp1252"))) == TEXT
    utf8 = PAGE.replace("windows-1252", "utf-8").encode()
    assert "\f".join(pages("html", utf8)) == TEXT
    assert html.text_of("<p>unclosed <b>tags<p>go on") == "unclosed tags\n\ngo on"


def test_html_beside_another_reader() -> None:
    lxml = pytest.importorskip("lxml.html", reason="lxml is another reader")
    body = lxml.fromstring(PAGE)
    for hidden in body.xpath("//script|//style|//div|//comment()"):
        hidden.drop_tree()
    words = body.text_content().split()
    ours = [word for word in TEXT.split() if word not in ("#", "-", ">")]
    assert sorted("".join(ours)) == sorted("".join(words))


@pytest.mark.parametrize(
    "html_text", ["<div>" * 20_000 + "deep", "<p " + "a=b " * 50_000 + ">wide", "<!--" * 5_000 + "x", "&" * 50_000]
)
def test_hostile_html_ends(html_text: str) -> None:
    try:
        isolation.choose("strict")
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    try:
        found = extract("html", html_text.encode())
    except ValueError as error:
        found, said = [], str(error)
        assert "it has no text" in said
    assert isinstance(found, list)


def test_slides_in_their_order_with_notes() -> None:
    pptx = pytest.importorskip("pptx", reason="python-pptx writes presentations")
    made = pptx.Presentation()
    for number in range(3):
        slide = made.slides.add_slide(made.slide_layouts[1])
        slide.shapes.title.text = f"Slide {number}"
        slide.placeholders[1].text = f"point {number}\nsecond point"
        slide.notes_slide.notes_text_frame.text = f"say {number}"
    table = made.slides[0].shapes.add_table(2, 2, 0, 0, 100, 100).table
    for number, cell in enumerate(table.iter_cells()):
        cell.text = f"cell {number}"
    entries = made.slides._sldIdLst
    entries.append(entries[0])  # the first slide is shown last
    sink = io.BytesIO()
    made.save(sink)
    found = list(pages("", sink.getvalue()))
    assert found == [
        "# Slide 1\n\npoint 1\nsecond point\n\n[note of the speaker: say 1]",
        "# Slide 2\n\npoint 2\nsecond point\n\n[note of the speaker: say 2]",
        "# Slide 0\n\npoint 0\nsecond point\n\ncell 0\tcell 1\ncell 2\tcell 3\n\n[note of the speaker: say 0]",
    ]


def book(*chapters: str, named: str = "OPS/book.opf") -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("mimetype", "application/epub+zip")
        root = f'<rootfiles><rootfile full-path="{named}" media-type="application/oebps-package+xml"/></rootfiles>'
        archive.writestr(
            "META-INF/container.xml", f'<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container">{root}</container>'
        )
        items = "".join(f'<item id="c{n}" href="a%20{n}.xhtml" media-type="application/xhtml+xml"/>' for n in range(len(chapters)))
        spine = "".join(f'<itemref idref="c{n}"/>' for n in reversed(range(len(chapters))))
        package = f"<manifest>{items}</manifest><spine>{spine}</spine>"
        archive.writestr("OPS/book.opf", f'<package xmlns="http://www.idpf.org/2007/opf">{package}</package>')
        for number, chapter in enumerate(chapters):
            archive.writestr(f"OPS/a {number}.xhtml", f"<html><body>{chapter}</body></html>")
    return sink.getvalue()


def test_a_book_in_the_order_of_its_spine() -> None:
    found = list(pages("", book("<h1>Second</h1><p>text</p>", "<h1>First</h1>")))
    assert found == ["# First", "# Second\n\ntext"]
    with pytest.raises(ValueError, match="is missing"):
        list(pages("epub", book("x", named="OPS/other.opf")))
