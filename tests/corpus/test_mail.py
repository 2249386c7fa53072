"""Mail as records: what Python's email package finds in the same bytes, addresses that lead back, damage that stays where it is."""

from __future__ import annotations

import datetime
import email
import email.policy
import functools
import gzip
import importlib.util
import io
import itertools
import json
import zipfile
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlm_ray import storage
from rlm_ray.corpus import opening
from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.operations import operations
from rlm_ray.corpus.operations.lookup import shard_of
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import SandboxUnavailable
from rlm_ray.handle.plan import Grep, Where
from rlm_ray.sandbox.inside.parsers.mail import records as parser
from rlm_ray.sandbox.outside import isolation, parsing
from tests.mails import mail, mbox, own_text, with_attachments

open_manifest = functools.partial(opening.open_manifest, parsers=parsing.PARSERS)


@pytest.fixture(autouse=True)
def _strict() -> None:
    try:
        isolation.choose("strict")
    except SandboxUnavailable as error:
        pytest.skip(str(error))


def parsed(data: bytes, **options: Any) -> list[dict[str, Any]]:
    """What the parser finds, in this process: for what needs no sandbox to be seen."""
    given = {"low": 0, "high": 1 << 62, "texts": True, "each": False, "plain": [], "skip": {}} | options
    found = []
    for text in parser.read(io.BytesIO(data), given):
        columns = json.loads(text)["columns"]
        found += [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return found


def records(kit: SimpleNamespace, manifest: Any, *steps: Any) -> list[dict[str, Any]]:
    return kit.records(manifest, *steps, parsers=parsing.PARSERS)


MAILS = [with_attachments(0), mail(1), mail(2, parent=0), mail(3, parent=1), with_attachments(4)]
BOX = mbox([bytes(item) for item in MAILS])


def test_a_mailbox_is_messages_and_attachments(kit: SimpleNamespace) -> None:
    uri = kit.object(BOX, ".mbox")
    manifest = open_manifest(uri, shard_bytes=3_000)
    assert len(manifest.shards) > 2
    found = records(kit, manifest)
    messages = [record for record in found if record["kind"] == "message" and record["part"] is None]
    for record, item in zip(messages, MAILS, strict=True):
        for column, name in (("from", "from"), ("to", "to"), ("cc", "cc"), ("subject", "subject"), ("date_text", "date")):
            assert record[column] == str(item[name])
        moment = email.utils.parsedate_to_datetime(str(item["date"])).astimezone(datetime.UTC)
        assert record["date"] == moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        assert f"<{record['message_id']}>" == item["message-id"]
    assert [record["thread"] for record in messages] == ["m0@north.example", "m1@north.example"] * 2 + ["m4@north.example"]
    assert [record["text"] for record in messages] == [own_text(number).rstrip("\n") for number in range(5)]
    assert messages[2]["quoted"].splitlines()[1:] == ["> lot 0?", "> please"]
    attached = [record for record in found if record["thread"] == "m0@north.example" and record["kind"] == "attachment"]
    assert [(record["name"], record["text"], record["note"]) for record in attached] == [
        ("Vertrag größer 0.docx", "Contract 0\n\n", None),
        ("prices.csv", "lot;price\n0;10\n", None),
        ("logo.png", None, None),
        ("terms.zip", None, None),
        ("terms.zip!/terms/secret.txt", "the secret of lot 0\n", None),
        ("terms.zip!/../out.txt", None, "its name leads out of the archive"),
    ]
    inner = [record for record in found if record["kind"] == "message" and record["part"]]
    assert [record["text"] for record in inner] == [own_text(1_000).rstrip("\n"), own_text(1_004).rstrip("\n")]
    assert len({record["_address"] for record in found}) == len(found) == 5 + 2 + 2 * 6
    for record in found:  # the way of a citation
        address = Address.parse(record["_address"])
        shard = shard_of(manifest, address)
        assert shard is not None
        again = operations.run("record", Work(shard, bind((), manifest.schema), parsers=parsing.PARSERS), {"address": str(address)})
        assert again == record
    data = storage.read_range(uri, *_place(attached[0]))
    assert data.startswith(b"Content-Type: application/vnd.openxml")


def _place(record: dict[str, Any]) -> tuple[int, int]:
    address = Address.parse(record["_address"])
    return address.start, address.stop


def test_one_question_over_mails_and_attachments(kit: SimpleNamespace) -> None:
    manifest = open_manifest(kit.object(gzip.compress(BOX), ".mbox.gz"))
    steps = [Where((("thread", "==", "m0@north.example"),)), Grep("lot 0|secret")]
    found = records(kit, manifest, *steps)
    assert [record["name"] or record["message_id"] for record in found] == [
        "m0@north.example",
        "terms.zip!/terms/secret.txt",
        "m2@north.example",
    ]
    dates = Where((("date", ">=", "2024-03-04"), ("kind", "==", "message"), ("part", "==", None)))
    assert [record["message_id"] for record in records(kit, manifest, dates)] == ["m3@north.example", "m4@north.example"]


def test_eml_maildir_and_mails_in_archives(kit: SimpleNamespace, tmp_path: Path) -> None:
    for number, item in enumerate(MAILS[1:4]):
        folder = tmp_path / ("cur" if number else "new")
        folder.mkdir(exist_ok=True)
        (folder / f"170000000{number}.M1P{number}.host{':2,S' if number else ''}").write_bytes(bytes(item).replace(b"\n", b"\r\n"))
    found = records(kit, open_manifest(str(tmp_path)))
    assert {record["text"] for record in found} == {own_text(number).rstrip("\n") for number in (1, 2, 3)}
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, item in enumerate(MAILS[:2]):
            archive.writestr(f"export/{number}.eml", bytes(item))
    inside = records(kit, open_manifest(kit.object(sink.getvalue(), ".zip")))
    assert [record["message_id"] for record in inside if record["kind"] == "message"] == [
        "m0@north.example",
        "m1000@north.example",
        "m1@north.example",
    ]


def test_columns_without_texts_are_the_same_records(kit: SimpleNamespace) -> None:
    manifest = open_manifest(kit.object(BOX, ".mbox"))
    whole = records(kit, manifest)
    work = Work(manifest.shards[0], bind((), manifest.schema), parsers=parsing.PARSERS)
    batches = list(work.scan(columns=["kind", "name"]))
    assert [row for batch in batches for row in batch.select(["kind", "name"]).to_pylist()] == [
        {"kind": record["kind"], "name": record["name"]} for record in whole
    ]
    assert operations.run("count", work, {}) == len(whole)


@pytest.mark.parametrize("size", [1, 700, 1_500, 4_000])
def test_each_record_once_wherever_shards_end(kit: SimpleNamespace, size: int) -> None:
    whole = parsed(BOX)
    edges = [*range(0, len(BOX), size if size > 1 else 997), 1 << 62]
    found = [record for low, high in itertools.pairwise(edges) for record in parsed(BOX, low=low, high=high)]
    assert found == whole


def leaves(message: EmailMessage) -> Iterator[EmailMessage]:
    for part in message.walk():
        if not part.is_multipart():
            yield part  # type: ignore[misc]


@pytest.mark.skipif(importlib.util.find_spec("test.test_email") is None, reason="this Python has no tests of its own")
def test_the_mails_of_pythons_own_tests() -> None:
    """Headers and payloads as Python's email package reads them, in mails that are wrong in many ways."""
    spec = importlib.util.find_spec("test.test_email")
    assert spec is not None
    assert spec.origin is not None
    files = sorted((Path(spec.origin).parent / "data").glob("msg_*.txt"))
    assert len(files) > 40
    for path in files:
        data = path.read_bytes()
        found = parsed(data)
        expected: Any = email.message_from_bytes(data, policy=email.policy.compat32)
        first = found[0]
        for column in ("subject", "from"):
            raw = expected[column]
            if raw is not None:
                shown = str(email.header.make_header(email.header.decode_header(str(raw))))
                assert " ".join((first[column] or "").split()) == " ".join(shown.split()), path.name
        sizes = {len(part.get_payload(decode=True) or b"") for part in leaves(expected)}
        attached = [record["size"] for record in found if record["kind"] == "attachment" and record["content_type"][:5] == "image"]
        assert set(attached) <= sizes, path.name


def test_wrong_headers_charsets_and_dates() -> None:
    data = (
        b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n =?UTF-8?B?IQ==?=\r\nFrom: \xc4nne <a@b.c>\r\n"
        b"Date: Fri, 1 Mar 2024 09:30:00 CET\r\n"
        b"References: <r1@x> <r2@x>\r\nContent-Type: text/plain; charset=no-such-thing\r\n\r\nK\xe4se\r\n"
    )
    (record,) = parsed(data)
    assert (record["subject"], record["from"], record["text"]) == ("Grüße!", "Änne <a@b.c>", "Käse")
    assert (record["date"], record["date_text"], record["thread"]) == (None, "Fri, 1 Mar 2024 09:30:00 CET", "r1@x")
    assert record["note"] == "charset 'no-such-thing' is not known"
    (bare,) = parsed(b"no headers at all\nhere\n")
    assert bare["note"] == "it has no headers"


@pytest.mark.parametrize(
    ("head", "body", "note"),
    [
        (
            'multipart/encrypted; boundary="b"',
            "--b\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n--b--\n",
            "encrypted (PGP)",
        ),
        ("text/plain", "-----BEGIN PGP MESSAGE-----\n\nhQ==\n-----END PGP MESSAGE-----\n", "encrypted (PGP)"),
        ("application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m", "MIAG\n", "encrypted (S/MIME)"),
        (
            "application/pkcs7-mime; smime-type=signed-data; name=smime.p7m",
            "MIAG\n",
            "signed, and packed into the signature (S/MIME)",
        ),
        ('multipart/mixed; boundary="none"', "text\n", "its boundary is missing"),
        (
            'multipart/signed; boundary="b"',
            "--b\n\nhi\n--b\nContent-Type: application/pgp-signature\n\nx\n--b--\n",
            "a signature (PGP)",
        ),
    ],
)
def test_what_cannot_be_read_is_said(head: str, body: str, note: str) -> None:
    found = parsed(f"From: a@b.c\nContent-Type: {head}\n\n{body}".encode())
    assert note in [part for record in found for part in (record["note"] or "").split("; ")]


def test_hostile_mails_fail_alone(kit: SimpleNamespace) -> None:
    nested = b"".join(b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (level, level) for level in range(10_000))
    wide = b'Content-Type: multipart/mixed; boundary="b"\n\n' + b"--b\n\nx\n" * 20_000 + b"--b--\n"
    long = b"Subject: " + b"x" * (1 << 20) + b"\nX: " + b"\n y" * 300_000 + b"\n\nbody\n"
    bomb = EmailMessage()
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.txt", bytes(200 << 20))
    bomb.set_content("see the file")
    bomb.add_attachment(sink.getvalue(), maintype="application", subtype="zip", filename="bomb.zip")
    hostile = [nested, wide, long, bytes(bomb)]
    box = mbox([bytes(mail(0)), *hostile, bytes(mail(1))])
    found = records(kit, open_manifest(kit.object(box, ".mbox")))
    assert [found[0]["text"], found[-1]["text"]] == [own_text(0).rstrip("\n"), own_text(1).rstrip("\n")]
    notes = {part for record in found for part in (record["note"] or "").split("; ")}
    assert "its parts lie more than 50 deep in each other" in notes
    assert "only the first 256 KiB of its headers" in notes
    assert "more than 64 MiB unpacked" in notes
    assert len([record for record in found if record["kind"] == "message" and not record["part"]]) == 6


def test_a_mail_that_ends_its_parser_is_passed_over(kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real child that dies on one mail: first its attachments are left, then it."""

    def dies(kind: str, source: Any, options: dict[str, Any]) -> Iterator[Any]:
        data = source.read(0, len(BOX))
        begin = data.index(b"\nFrom ", data.index(b"lot 2")) + 1
        if str(begin) not in options["skip"] and options["low"] <= begin:
            yield from parsing.parse(kind, source, {**options, "high": begin})
            raise ValueError("its parser was stopped: the sandbox's process died of SIGSEGV")
        yield from parsing.parse(kind, source, options)

    monkeypatch.setattr(parsing, "PARSERS", parsing.Parsers(parsing.PARSERS.extract, dies))
    found = kit.records(open_manifest(kit.object(BOX, ".mbox")), parsers=parsing.PARSERS)
    messages = [record for record in found if record["kind"] == "message" and not record["part"]]
    assert [record["message_id"] for record in messages] == [
        "m0@north.example",
        "m1@north.example",
        "m2@north.example",
        None,
        "m4@north.example",
    ]
    assert messages[3]["note"] == "not read: its parser was stopped: the sandbox's process died of SIGSEGV"
    assert len({record["_address"] for record in found}) == len(found)
