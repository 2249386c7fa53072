"""Mails as Outlook keeps them (MSG, TNEF) are records like others; a second reader opens the same files."""

from __future__ import annotations

import datetime
import functools
import io
import struct
from email.message import EmailMessage
from types import SimpleNamespace
from typing import Any

import compressed_rtf
import olefile
import pytest

from rlm_ray import storage
from rlm_ray.corpus import opening
from rlm_ray.errors import SandboxUnavailable
from rlm_ray.sandbox.inside.parsers.mail import attachments
from rlm_ray.sandbox.outside import isolation, parsing
from tests.corpus.test_mail import parsed
from tests.outlook_files import compound_file, msg, tnef

SENT = datetime.datetime(2024, 3, 5, 9, 30, tzinfo=datetime.UTC)
RTF = rb"{\rtf1\ansi\ansicpg1252 The price is \b 30\b0  euros.\par Yours}"


def recipient(kind: int, name: str, address: str) -> dict[int, Any]:
    return {0x0C15: kind, 0x3001: name, 0x3002: "SMTP", 0x3003: address}


PROPERTIES = {
    0x001A: "IPM.Note",
    0x0037: "Offer für März",
    0x0042: 'Ann "A." Öz',
    0x5D02: "ann@example.org",
    0x0039: SENT,
    0x1035: "<1@example.org>",
    0x1000: "We agree to 30-60 days.\r\n\r\n-----Original Message-----\r\nFrom: Bob\r\nShall we?",
}
RECIPIENTS = [
    recipient(1, "Bob", "bob@example.org"),
    recipient(1, "c@example.org", "c@example.org"),
    recipient(2, "Dan", "dan@example.org"),
    recipient(3, "Eve", "eve@example.org"),
]
INNER = msg({0x0037: "inner", 0x0C1A: "Zoe", 0x1000: "inner text"}, [], [], head=24)
ATTACHED = [
    {0x3705: 1, 0x3704: "TERMS~1.TXT", 0x3707: "terms of März.txt", 0x370E: "text/plain", 0x3701: b"terms\n" * 2_000},
    {0x3705: 5, 0x3001: "inner", 0x3701: INNER},
    {0x3705: 1, 0x3707: "a.csv", 0x3701: b"a,b\n1,2\n"},
]
FILE = compound_file(msg(PROPERTIES, RECIPIENTS, ATTACHED))


@pytest.fixture(autouse=True)
def _strict() -> None:
    try:
        isolation.choose("strict")
    except SandboxUnavailable as error:
        pytest.skip(str(error))


def test_a_file_of_outlook_is_a_mail_with_its_attachments(kit: SimpleNamespace) -> None:
    with olefile.OleFileIO(io.BytesIO(FILE)) as second:
        assert second.openstream("__substg1.0_0037001F").read().decode("utf-16-le") == "Offer für März"
    folder = kit.folder()
    storage.write_bytes(f"{folder}/offer.msg", FILE)
    plain = EmailMessage()
    plain["Subject"], plain["From"] = "other", "x@example.org"
    plain.set_content("plain text")
    storage.write_bytes(f"{folder}/other.eml", plain.as_bytes())
    manifest = functools.partial(opening.open_manifest, parsers=parsing.PARSERS)(folder)
    assert (manifest.format, manifest.failed) == ("mail", [])
    found = kit.records(manifest, parsers=parsing.PARSERS)
    assert [(record["kind"], record["subject"], record["name"]) for record in found] == [
        ("message", "Offer für März", None),
        ("attachment", "Offer für März", "terms of März.txt"),
        ("message", "inner", None),
        ("attachment", "Offer für März", "a.csv"),
        ("message", "other", None),
    ]
    first = found[0]
    assert first["from"] == '"Ann \\"A.\\" Öz" <ann@example.org>'
    assert first["to"] == '"Bob" <bob@example.org>, c@example.org'
    assert first["cc"] == '"Dan" <dan@example.org>'
    assert first["date"] == "2024-03-05T09:30:00Z"
    assert first["message_id"].strip("<>") == "1@example.org"
    assert first["text"] == "We agree to 30-60 days."
    assert first["quoted"].startswith("-----Original Message-----")
    assert found[1]["text"] == "terms\n" * 2_000
    assert found[2]["text"] == "inner text"
    assert len({record["_address"] for record in found}) == len(found)
    assert all(record["note"] is None for record in found)


def test_the_headers_that_it_came_with_count_and_html_and_rtf_are_texts() -> None:
    headers = (
        "Received: from x\r\n\tby y\r\nFrom: Real <real@example.org>\r\nContent-Type: multipart/alternative;\r\n\tboundary=z\r\n"
    )
    headers += "MIME-Version: 1.0\r\nDate: Tue, 5 Mar 2024 10:30:00 +0100\r\n\r\n"
    html = "<html><body><p>first<p>sec\u00f6nd</body></html>".encode("cp1252")
    (record,) = parsed(compound_file(msg({0x007D: headers, 0x0037: "s", 0x3FDE: 1252, 0x1013: html}, RECIPIENTS, [])))
    assert record["from"] == "Real <real@example.org>"
    assert record["text"].split() == ["first", "secönd"]
    assert record["date_text"] == "Tue, 5 Mar 2024 10:30:00 +0100"
    rich = compressed_rtf.compress(RTF)
    (record,) = parsed(compound_file(msg({0x0037: "s", 0x1009: rich}, [], [])))
    assert record["text"].splitlines() == ["The price is 30 euros.", "Yours"]
    (record,) = parsed(compound_file(msg({0x0037: "s", 0x1009: b"\0" * 40}, [], [])))
    assert record["note"].startswith("not read: its text is damaged RTF")


def test_a_file_of_outlook_that_is_attached_is_a_mail() -> None:
    outer = EmailMessage()
    outer["Subject"] = "outer"
    outer.set_content("see there")
    outer.add_attachment(FILE, maintype="application", subtype="vnd.ms-outlook", filename="offer.msg")
    found = parsed(outer.as_bytes())
    assert [(record["kind"], record["subject"], record["part"]) for record in found] == [
        ("message", "outer", None),
        ("message", "Offer für März", "2"),
        ("attachment", "Offer für März", "2.2"),
        ("message", "inner", "2.3"),
        ("attachment", "Offer für März", "2.4"),
    ]


@pytest.mark.parametrize(
    "data",
    [FILE[:3_000], FILE[:1_024] + bytes(len(FILE) - 1_024), FILE[:44] + b"\xee" * 80 + FILE[124:]],
    ids=["cut", "zeros", "tables"],
)
def test_a_damaged_file_of_outlook_is_said(data: bytes) -> None:
    notes = [record["note"] or "" for record in parsed(data)]
    assert any("not read" in note or "headers" in note for note in notes)


def test_what_outlook_wraps_is_unpacked() -> None:
    inner = tnef({0x0037: "inner", 0x1000: "deep text"}, [])
    attached = [("TERMS~1.TXT", "terms of März.txt", b"thirty days\n"), ("a.bin", "", b"\0\1\2")]
    data = tnef({0x1000: "wrapped text", 0x0E06: SENT, 0x0017: 1}, attached)
    found = list(attachments.texts("application/ms-tnef", "winmail.dat", "", data))
    assert found == [
        ("", len(data), "wrapped text", ""),
        ("terms of März.txt", 12, "thirty days\n", ""),
        ("a.bin", 3, None, ""),
    ]
    mail = EmailMessage()
    mail["Subject"] = "outer"
    mail.set_content("see there")
    mail.add_attachment(data, maintype="application", subtype="ms-tnef", filename="winmail.dat")
    names = [(record["kind"], record["name"], record["text"]) for record in parsed(mail.as_bytes())]
    assert names[1:3] == [
        ("attachment", "winmail.dat", "wrapped text"),
        ("attachment", "winmail.dat!/terms of März.txt", "thirty days\n"),
    ]
    assert [record["name"] for record in parsed(mail.as_bytes(), texts=False)] == [name for _, name, _ in names]
    nested = data[:-2]  # its last attribute, made one with a mail in it
    place = nested.rfind(struct.pack("<BI", 2, 0x00069005))
    body = struct.pack("<IHHII", 1, 0x0D, 0x3701, 1, 16 + len(inner)) + bytes(16) + inner + bytes(-len(inner) % 4)
    deep = data[:place] + struct.pack("<BII", 2, 0x00069005, len(body)) + body + struct.pack("<H", sum(body) & 0xFFFF)
    assert "deep text" in (list(attachments.texts("", "winmail.dat", "", deep))[-1][2] or "")
    (first, *_) = attachments.texts("", "winmail.dat", "", data[:-4])
    assert first[3] == "read in part: a property ends too early"
    wrong = bytearray(data)
    wrong[data.index(b"thirty")] ^= 1
    assert next(iter(attachments.texts("", "winmail.dat", "", bytes(wrong))))[3] == "a checksum differs"
