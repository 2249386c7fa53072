"""What the parsers of documents give for what a reader sees in Word or a viewer; the right values stand beside the input."""

from __future__ import annotations

import io
import zipfile

import pytest

from rlm_ray.sandbox.inside.tasks.extracts import pages

pypdf = pytest.importorskip("pypdf", reason="pip install 'rlm-ray[documents]' brings pypdf")
_W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_NAMES = (
    f'xmlns:w="{_W}" xmlns:r="{_R}" xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" '
    'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math" '
    'xmlns:w14="http://schemas.microsoft.com/office/word/2010/wordml" xmlns:v="urn:schemas-microsoft-com:vml"'
)


def made(body: str, **parts: str) -> bytes:
    """A DOCX whose main part has an unusual name, with further parts by their kind."""
    sink = io.BytesIO()
    related = "".join(f'<Relationship Id="{kind}" Type="{_R}/{kind}" Target="{kind}1.xml"/>' for kind in parts)
    head = '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "_rels/.rels", f'{head}<Relationship Id="a" Type="{_R}/officeDocument" Target="w/d2.xml"/></Relationships>'
        )
        archive.writestr("w/_rels/d2.xml.rels", f"{head}{related}</Relationships>")
        archive.writestr("w/d2.xml", f"<w:document {_NAMES}><w:body>{body}</w:body></w:document>")
        for kind, content in parts.items():
            archive.writestr(f"w/{kind}1.xml", content)
    return sink.getvalue()


def text_of(body: str, **parts: str) -> str:
    return "\f".join(pages("docx", made(body, **parts))).strip()


def run(text: str) -> str:
    return f'<w:r><w:t xml:space="preserve">{text}</w:t></w:r>'


def par(inner: str, properties: str = "") -> str:
    return f"<w:p><w:pPr>{properties}</w:pPr>{inner}</w:p>"


def numbered(text: str, level: int, number: int = 1) -> str:
    return par(run(text), f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{number}"/></w:numPr>')


_TICK = '<w:sdt><w:sdtPr><w14:checkbox><w14:checked w14:val="{}"/></w14:checkbox></w:sdtPr><w:sdtContent/></w:sdt>'
_LEGACY = (
    '<w:r><w:fldChar w:fldCharType="begin"><w:ffData><w:checkBox><w:default w:val="0"/>{}</w:checkBox></w:ffData></w:fldChar></w:r>'
)
_FRACTION = "<m:oMath><m:f><m:num><m:r><m:t>a+b</m:t></m:r></m:num><m:den><m:r><m:t>2</m:t></m:r></m:den></m:f></m:oMath>"


@pytest.mark.parametrize(
    ("body", "right"),
    [
        (par(run("30") + "<w:r><w:noBreakHyphen/><w:t>60 co</w:t><w:softHyphen/><w:t>operate</w:t></w:r>"), "30-60 cooperate"),
        (par(run("The term is ") + f"<w:del>{run('12')}</w:del><w:ins>{run('24')}</w:ins>" + run(" months.")), "The term is 24 months."),
        (
            par(f"<w:moveFrom>{run('Moved.')}</w:moveFrom>", "<w:rPr><w:moveFrom/></w:rPr>") + par(run("Two.")) + par(f"<w:moveTo>{run('Moved.')}</w:moveTo>"),
            "Two.\n\nMoved.",
        ),
        (par(run("First clause"), "<w:rPr><w:del/></w:rPr>") + par(run(" continues.")), "First clause continues."),
        (par(run("Fee:") + "<w:r><w:tab/></w:r>" + run("5"), '<w:tabs><w:tab w:val="left" w:pos="7"/></w:tabs>'), "Fee:\t5"),
        (par(_TICK.format(1) + run(" yes ") + _TICK.format(0) + run(" no")), "☒ yes ☐ no"),
        (par(_LEGACY.format("<w:checked/>") + run(" a ") + _LEGACY.format("") + run(" b")), "☒ a ☐ b"),
        (par('<w:r><w:sym w:font="Wingdings" w:char="F0FE"/></w:r>' + run(" x")), "☑ x"),
        (par(run("p=") + _FRACTION), "p=(a+b)/2"),
        (par(run("Seen. ") + "<w:r><w:rPr><w:vanish/></w:rPr><w:t>Not seen.</w:t></w:r>"), "Seen. [hidden: Not seen.]"),
        (
            par(run("Before. ") + f"<w:r><mc:AlternateContent><mc:Choice><w:txbxContent>{par(run('Box.'))}</w:txbxContent></mc:Choice><mc:Fallback>"
                f"<w:pict><v:textbox><w:txbxContent>{par(run('Box.'))}</w:txbxContent></v:textbox></w:pict></mc:Fallback></mc:AlternateContent></w:r>" + run("After.")),
            "Before. After.\n\n[text box: Box.]",
        ),
        (
            "<w:tbl><w:tr><w:tc>" + par(run("2026")) + "</w:tc><w:tc>" + par("") + "</w:tc><w:tc><w:tbl><w:tr><w:tc>" + par(run("x")) + "</w:tc><w:tc>"
            + par(run("y")) + "</w:tc></w:tr></w:tbl>" + par("") + '</w:tc></w:tr><w:tr><w:tc><w:tcPr><w:gridSpan w:val="2"/></w:tcPr>' + par(run("all"))
            + "</w:tc><w:tc>" + par(run("1")) + "</w:tc></w:tr><w:tr><w:trPr><w:del/></w:trPr><w:tc>" + par(run("gone")) + "</w:tc></w:tr></w:tbl>",
            "2026\t\t[table: x | y]\nall\t\t1",
        ),
        (
            par("".join(f'<w:r><w:fldChar w:fldCharType="{part}"/></w:r>{inner}' for part, inner in [
                ("begin", "<w:r><w:instrText> IF </w:instrText></w:r>"), ("begin", ""), ("separate", run("secret")), ("end", ""),
                ("separate", run("Section 4.2")), ("end", "")])),
            "Section 4.2",
        ),
        ("<w:sdt><w:sdtContent>" + par(run("Inside.")) + "</w:sdtContent></w:sdt>", "Inside."),
    ],
)  # fmt: skip
def test_a_word_document_is_read_as_word_shows_it(body: str, right: str) -> None:
    assert text_of(body) == right


def test_tracked_changes_can_be_shown() -> None:
    body = par(
        run("is ") + f'<w:del w:author="A"><w:r><w:delText>12</w:delText></w:r></w:del><w:ins w:author="A">{run("24")}</w:ins>'
    )
    assert "".join(pages("docx+changes", made(body))).strip() == "is [deleted by A: 12][inserted by A: 24]"


def test_numbers_are_those_that_word_shows() -> None:
    def level(at: int, form: str, text: str) -> str:
        return f'<w:lvl w:ilvl="{at}"><w:start w:val="1"/><w:numFmt w:val="{form}"/><w:lvlText w:val="{text}"/><w:suff w:val="space"/></w:lvl>'

    levels = (
        level(0, "decimal", "%1.") + level(1, "decimal", "%1.%2") + level(2, "lowerLetter", "(%3)") + level(3, "lowerRoman", "(%4)")
    )
    restarted = '<w:num w:numId="2"><w:abstractNumId w:val="0"/><w:lvlOverride w:ilvl="0"><w:startOverride w:val="7"/></w:lvlOverride></w:num>'
    numbering = (
        f'<w:numbering xmlns:w="{_W}"><w:abstractNum w:abstractNumId="0">{levels}</w:abstractNum>'
        f'<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num>{restarted}</w:numbering>'
    )
    styles = (
        f'<w:styles xmlns:w="{_W}"><w:style w:type="paragraph" w:styleId="H"><w:pPr><w:numPr><w:ilvl w:val="1"/><w:numId w:val="1"/></w:numPr>'
        "</w:pPr></w:style></w:styles>"
    )
    body = "".join(
        [
            numbered("A", 0),
            numbered("B", 1),
            numbered("C", 2),
            numbered("D", 2),
            numbered("E", 3),
            numbered("F", 1),
            numbered("G", 0),
        ]
        + [par(run("H"), '<w:pStyle w:val="H"/>'), par(run("plain")), numbered("I", 0, 2), numbered("J", 0, 2)]
    )
    lines = text_of(body, numbering=numbering, styles=styles).split("\n\n")
    assert lines == ["1. A", "1.1 B", "(a) C", "(b) D", "(i) E", "1.2 F", "2. G", "2.1 H", "plain", "7. I", "8. J"]


def test_what_stands_beside_the_text_is_marked_as_what_it_is() -> None:
    def part(root: str, inner: str) -> str:
        return f"<w:{root} {_NAMES}>{inner}</w:{root}>"

    body = (
        par(
            run("No compete")
            + '<w:r><w:footnoteReference w:id="2"/></w:r>'
            + run(".")
            + '<w:r><w:commentReference w:id="0"/></w:r>'
        )
        + '<w:sectPr><w:headerReference w:type="default" r:id="header"/><w:footerReference w:type="first" r:id="footer"/></w:sectPr>'
    )
    text = text_of(
        body,
        footnotes=part("footnotes", f'<w:footnote w:id="0" w:type="separator">{par(run("x"))}</w:footnote><w:footnote w:id="2">{par(run("Except in California."))}</w:footnote>'),
        comments=part("comments", f'<w:comment w:id="0" w:author="Ann">{par(run("Really?"))}</w:comment>'),
        header=part("hdr", par(run("DRAFT"))),
        footer=part("ftr", par(run("never shown"))),
    )  # fmt: skip
    assert text == "[header: DRAFT]\n\nNo compete[footnote 1].\n\n[footnote 1: Except in California.]\n\n[comment by Ann: Really?]"


@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        ("doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500) + "WordDocument".encode("utf-16-le"), "old binary format"),
        ("docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500) + "EncryptedPackage".encode("utf-16-le"), "protected"),
        ("docx", b"", "empty"),
        ("docx", made(par("")), "no text"),
    ],
)
def test_a_refusal_has_its_true_reason(kind: str, data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        list(pages(kind, data))


def test_rich_text_and_open_documents() -> None:
    pytest.importorskip("striprtf", reason="pip install 'rlm-ray[documents]' brings striprtf")
    rtf = rb"{\rtf1\ansi\ansicpg1252 Caf\'e9 \u8364? 5{\footnote Except in May.}\par Next {\v secret}\u-10179?\u-8704?}"
    (page,) = pages("rtf", rtf)
    assert page.split() == ["Café", "€", "5", "Next", "😀", "[footnote:", "Except", "in", "May.]"]
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.text")
        archive.writestr(
            "content.xml",
            '<o:c xmlns:o="o" xmlns:t="t"><o:body><o:text><t:tracked-changes><t:p>old</t:p></t:tracked-changes><t:p>One<t:s t:c="2"/>two<t:tab/>'
            '<t:note t:note-class="footnote"><t:note-citation>1</t:note-citation><t:note-body><t:p>Not in May.</t:p></t:note-body></t:note></t:p>'
            "</o:text></o:body></o:c>",
        )
    assert list(pages("odt", sink.getvalue())) == ["One  two\t[footnote 1]\n\n[footnote 1: Not in May.]\n\n"]


def test_lists_of_an_open_document_have_their_numbers() -> None:
    styles = (
        '<t:list-style s:name="L"><t:list-level-style-number t:level="1" s:num-format="1" s:num-suffix="."/>'
        '<t:list-level-style-number t:level="2" s:num-format="a" s:num-prefix="(" s:num-suffix=")"/></t:list-style>'
    )
    inner = "<t:list><t:list-item><t:p>B</t:p></t:list-item><t:list-item><t:p>C</t:p></t:list-item></t:list>"
    first = f'<t:list t:style-name="L"><t:list-item><t:p>A</t:p>{inner}</t:list-item><t:list-item><t:p>D</t:p><t:p>still</t:p></t:list-item></t:list>'
    more = '<t:list t:style-name="L" t:continue-numbering="true"><t:list-item><t:p>E</t:p></t:list-item></t:list>'
    table = "<b:table><b:table-row><b:table-cell><t:p>x</t:p></b:table-cell><b:table-cell><t:p>y</t:p></b:table-cell></b:table-row></b:table>"
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr(
            "content.xml",
            f'<o:c xmlns:o="o" xmlns:t="t" xmlns:s="s" xmlns:b="b">{styles}<o:body><o:text>{first}{more}{table}</o:text></o:body></o:c>',
        )
    (page,) = pages("odt", sink.getvalue())
    assert page.split("\n\n") == ["1.\tA", "(a)\tB", "(b)\tC", "2.\tD", "still", "3.\tE", "x\ty", ""]


def test_numbers_that_styles_bring_and_lists_that_share_a_count() -> None:
    """LibreOffice shows the same, but for `isLgl` and `lvlRestart`, which Word heeds and it does not."""

    def level(at: int, form: str, text: str, more: str) -> str:
        return f'<w:lvl w:ilvl="{at}"><w:start w:val="1"/><w:numFmt w:val="{form}"/>{more}<w:suff w:val="space"/><w:lvlText w:val="{text}"/></w:lvl>'

    levels = level(0, "upperRoman", "Article %1", '<w:pStyle w:val="H1"/>') + level(1, "decimalZero", "Section %1.%2", "<w:isLgl/>")
    levels += level(2, "lowerLetter", "(%3)", '<w:lvlRestart w:val="0"/>')
    numbering = (
        f'<w:numbering xmlns:w="{_W}"><w:abstractNum w:abstractNumId="0">{levels}</w:abstractNum><w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num>'
        '<w:num w:numId="3"><w:abstractNumId w:val="0"/><w:lvlOverride w:ilvl="0"><w:startOverride w:val="5"/></w:lvlOverride></w:num></w:numbering>'
    )
    styles = (
        f'<w:styles xmlns:w="{_W}"><w:style w:type="paragraph" w:styleId="H1"><w:pPr><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr></w:style>'
        '<w:style w:type="paragraph" w:styleId="H2"><w:basedOn w:val="H1"/><w:pPr><w:numPr><w:ilvl w:val="1"/></w:numPr></w:pPr></w:style></w:styles>'
    )

    def styled(text: str, style: str, more: str = "") -> str:
        return par(run(text), f'<w:pStyle w:val="{style}"/>{more}')

    body = (
        styled("A", "H1")
        + styled("B", "H2")
        + numbered("c", 2)
        + styled("D", "H2")
        + numbered("e", 2)
        + styled("F", "H1")
        + styled("G", "H2")
    )
    body += (
        styled("none", "H1", '<w:numPr><w:numId w:val="0"/></w:numPr>')
        + numbered("J", 0, 3)
        + numbered("K", 0, 3)
        + styled("L", "H1")
    )
    assert text_of(body, numbering=numbering, styles=styles).split("\n\n") == [
        "Article I A", "Section 1.01 B", "(a) c", "Section 1.02 D", "(b) e", "Article II F", "Section 2.01 G", "none",
        "Article V J", "Article VI K", "Article VII L",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "reason"),
    [(par("<w:smartTag>" * 500 + run("x") + "</w:smartTag>" * 500), "deep in each other"), ('<w:altChunk r:id="none"/>', None)],
)
def test_hostile_or_odd_documents_are_bounded(body: str, reason: str | None) -> None:
    if reason is None:
        assert "not read" in text_of(body)
        return
    with pytest.raises(ValueError, match=reason):
        text_of(body)
