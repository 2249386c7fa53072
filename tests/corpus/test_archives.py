"""Members of archives are objects like others: same records, addresses that lead back; hostile ones fail alone."""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import json
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import py7zr
import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from rlm_ray import storage
from rlm_ray.corpus import opening
from rlm_ray.corpus.archive_listing import MAX_DEPTH
from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import InputError, ObjectChanged, ObjectUnreadable, SandboxUnavailable
from rlm_ray.handle.plan import Grep, Where
from rlm_ray.sandbox.outside import isolation, parsing
from rlm_ray.storage.archives import decompressing, members
from tests.documents import docx

open_manifest = functools.partial(opening.open_manifest, parsers=parsing.PARSERS)
LINES = {"a.log": 30, "day=1/b.log": 41, "day=2/c.log": 7}


@pytest.fixture(autouse=True)
def _strict() -> Iterator[None]:
    try:
        isolation.choose("strict")
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    yield
    members.KEPT.clear()


def text_of(name: str) -> bytes:
    return "".join(f"{name} line {number} äöü\n" for number in range(LINES.get(name, 5))).encode()


def zipped(entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return sink.getvalue()


def tarred(entries: dict[str, bytes], mode: str = "w", form: int = tarfile.PAX_FORMAT) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=mode, format=form) as archive:
        for name, data in entries.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return sink.getvalue()


def seven_zipped(
    entries: dict[str, bytes], filters: list[dict[str, int]] | None = None, *, is_encoded: bool = True, password: str | None = None
) -> bytes:
    sink = io.BytesIO()
    with py7zr.SevenZipFile(sink, "w", filters=filters, password=password) as archive:
        archive.set_encoded_header_mode(is_encoded)
        for name, data in entries.items():
            archive.writestr(data, name)
    return sink.getvalue()


def renamed(entries: dict[str, bytes], names: dict[str, str]) -> bytes:
    """A 7z archive with names that its writer refuses, as long as those that they replace."""
    data = seven_zipped(entries, is_encoded=False)
    place, size = struct.unpack("<QQ", data[12:28])
    directory = data[32 + place : 32 + place + size]
    for name, other in names.items():
        assert len(name) == len(other)
        directory = directory.replace(name.encode("utf-16-le"), other.encode("utf-16-le"))
    start = struct.pack("<QQI", place, size, zlib.crc32(directory))
    return data[:8] + struct.pack("<I", zlib.crc32(start)) + start + data[32 : 32 + place] + directory


def recompressed(entries: dict[str, bytes], method: int, compress: Any) -> bytes:
    """A zip whose members are compressed by a method that zipfile does not write."""
    body, directory = b"", b""
    for name, data in entries.items():
        packed, raw = compress(data), name.encode()
        facts = struct.pack("<HHHHHIII", 20, 0x800, method, 0, 0, zlib.crc32(data), len(packed), len(data))
        place = len(body)
        body += b"PK\3\4" + facts + struct.pack("<HH", len(raw), 0) + raw + packed
        directory += b"PK\1\2" + struct.pack("<H", 20) + facts + struct.pack("<HHHHHII", len(raw), 0, 0, 0, 0, 0, place) + raw
    end = struct.pack("<HHHHIIH", 0, 0, len(entries), len(entries), len(directory), len(body), 0)
    return body + directory + b"PK\5\6" + end


def read(shard: Shard) -> list[str]:
    plan = bind((), {"text": "string"})
    return [text for batch in Work(shard, plan).scan() for text in batch.column("text").to_pylist()]


TEXTS = {name: text_of(name) for name in LINES}
ARCHIVES = {
    "deflated.zip": zipped(TEXTS),
    "stored.zip": zipped(TEXTS, zipfile.ZIP_STORED),
    "bzip2.zip": zipped(TEXTS, zipfile.ZIP_BZIP2),
    "lzma.zip": zipped(TEXTS, zipfile.ZIP_LZMA),
    "zstd.zip": recompressed(TEXTS, 93, zstandard.compress),
    "xz.ZIP": recompressed(TEXTS, 95, lzma.compress),
    "behind-a-program.zip": b"#!/bin/sh\nexit\n" + zipped(TEXTS),
    "plain.tar": tarred(TEXTS),
    "old.tar": tarred(TEXTS, form=tarfile.USTAR_FORMAT),
    "gnu.tar.gz": tarred(TEXTS, "w:gz", tarfile.GNU_FORMAT),
    "b.tbz2": tarred(TEXTS, "w:bz2"),
    "x.tar.xz": tarred(TEXTS, "w:xz"),
    "z.tar.zst": zstandard.compress(tarred(TEXTS)),
    "lzma2.7z": seven_zipped(TEXTS, [{"id": py7zr.FILTER_LZMA2, "preset": 7}]),
    "filtered.7z": seven_zipped(TEXTS, [{"id": py7zr.FILTER_X86}, {"id": py7zr.FILTER_LZMA2, "preset": 7}]),
    "lzma.7z": seven_zipped(TEXTS, [{"id": py7zr.FILTER_LZMA}]),
    "deflate.7Z": seven_zipped(TEXTS, [{"id": py7zr.FILTER_DEFLATE}]),
    "bzip2.7z": seven_zipped(TEXTS, [{"id": py7zr.FILTER_BZIP2}]),
    "zstd.7z": seven_zipped(TEXTS, [{"id": py7zr.FILTER_ZSTD}]),
    "stored.7z": seven_zipped(TEXTS, [{"id": py7zr.FILTER_COPY}], is_encoded=False),
    "two.tar": tarred({"a.log": TEXTS["a.log"]}) + tarred({name: TEXTS[name] for name in list(TEXTS)[1:]}),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_members_are_objects(name: str, kit: SimpleNamespace) -> None:
    uri = f"{kit.folder()}/{name}"
    storage.write_bytes(uri, ARCHIVES[name])
    manifest = open_manifest(uri)
    assert not manifest.failed
    assert {shard.uri for shard in manifest.shards} == {f"{uri}!/{member}" for member in LINES}
    found = kit.records(manifest)
    assert [record["text"] for record in found] == b"".join(TEXTS.values()).decode().splitlines()
    assert [record["day"] for record in found] == [None] * 30 + ["1"] * 41 + ["2"] * 7
    assert kit.operate(manifest, "count") == 78
    assert kit.operate(manifest, "count", Grep("b.log line 4")) == 2
    assert kit.operate(manifest, "count", Where((("day", "==", "2"),))) == 7
    for record in found[:: len(found) // 4]:  # an address is enough to read a record
        address = Address.parse(record["_address"])
        assert storage.read_range(address.object, address.start, address.stop, version=address.version).decode() == record["text"]


def test_every_format_in_an_archive(kit: SimpleNamespace) -> None:
    rows = [{"n": number, "name": f"name {number}"} for number in range(200)]
    table = pyarrow.Table.from_pylist(rows)
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink, row_group_size=50)
    csv = "n,name\n" + "".join(f"{row['n']},{row['name']}\n" for row in rows)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    entries = {
        "t.csv": csv.encode(),
        "u.csv.gz": gzip.compress(csv.encode()),
        "t.jsonl": lines.encode(),
        "u.jsonl.bz2": bz2.compress(lines.encode()),
        "t.json": json.dumps(rows).encode(),
        "t.parquet": sink.getvalue(),
        "t.docx": docx([["first", "second"]]),
    }
    for ending, archive in (
        ("zip", zipped(entries)),
        ("zip", zipped(entries, zipfile.ZIP_STORED)),
        ("tgz", tarred(entries, "w:gz")),
        ("tar", tarred(entries)),
        ("7z", seven_zipped(entries)),
    ):
        uri = f"{kit.folder()}/all.{ending}"
        storage.write_bytes(uri, archive)
        for format, files in (("csv", 2), ("jsonl", 2), ("json", 1), ("parquet", 1)):
            manifest = open_manifest(uri, format=format)
            found = kit.records(manifest)
            assert [{"n": record["n"], "name": record["name"]} for record in found] == rows * files, format
            assert kit.operate(manifest, "count", Where((("n", ">=", 150),))) == 50 * files
        text = kit.records(open_manifest(f"{uri}!/*.docx", unit="document"), parsers=parsing.PARSERS)
        assert [(record["path"], record["text"]) for record in text] == [("t.docx", "first\n\nsecond\n\n")]
        with pytest.raises(InputError, match="several"):
            open_manifest(uri)


def test_archives_in_archives_up_to_a_depth(kit: SimpleNamespace) -> None:
    data, name = text_of("deep.log"), "deep.log"
    for level in range(MAX_DEPTH + 1):
        data = zipped({name: data}) if level % 2 else tarred({name: data}, "w:gz" if level == 2 else "w")
        name = f"level{level}." + ("zip" if level % 2 else "tgz" if level == 2 else "tar")
    uri = f"{kit.folder()}/{name}"
    storage.write_bytes(uri, data)
    with pytest.raises(InputError, match=f"archives lie more than {MAX_DEPTH} deep in each other"):
        open_manifest(uri)
    with tarfile.open(fileobj=io.BytesIO(data)) as outermost:
        inner = outermost.extractfile(outermost.getmembers()[0])
        assert inner is not None
        uri = f"{kit.folder()}/inner.zip"
        storage.write_bytes(uri, inner.read())
    manifest = open_manifest(uri)
    assert manifest.shards[0].uri == f"{uri}!/level2.tgz!/level1.zip!/level0.tar!/deep.log"
    assert [record["text"] for record in kit.records(manifest)] == text_of("deep.log").decode().splitlines()


def test_hostile_members_fail_alone(kit: SimpleNamespace) -> None:
    entries = {
        "fine.log": text_of("fine.log"),
        "../out.log": b"x\n",
        "/etc/abs.log": b"x\n",
        "C:\\win.log": b"x\n",
        "bomb.log": bytes(80 << 20),
    }
    damaged = bytearray(zipped({"broken.log": text_of("broken.log") * 50}))
    damaged[60:70] = bytes(10)
    for archive, ending in ((zipped(entries), "zip"), (tarred(entries | {"bomb.log": b""}), "tar")):
        uri = f"{kit.folder()}/hostile.{ending}"
        storage.write_bytes(uri, archive)
        manifest = open_manifest(uri)
        reasons = {entry["object"].partition("!/")[2]: entry["reason"] for entry in manifest.failed}
        assert reasons["../out.log"] == "its name leads out of the archive"
        assert reasons["etc/abs.log"] == reasons["C:/win.log"] == "its name is absolute"
        if ending == "zip":
            assert "grows to more than 250 times" in reasons["bomb.log"]
        assert len(kit.records(manifest)) == 5
    folder = kit.folder()
    storage.write_bytes(f"{folder}/damaged.zip", bytes(damaged))
    storage.write_bytes(f"{folder}/a.zip", zipped({"fine.log": text_of("fine.log")}))
    fine, broken = open_manifest(folder).shards
    assert len(read(fine)) == 5
    with pytest.raises(ObjectUnreadable, match=r"broken\.log cannot be read from its archive"):
        read(broken)


def test_a_member_that_grows_beyond_what_its_archive_says(kit: SimpleNamespace) -> None:
    for size in (10, 1 << 20):  # the directory says another size than the data have
        data = bytearray(zipped({"liar.log": b"a line of a text\n" * 100}))
        for mark, place in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
            at = data.index(mark) + place
            data[at : at + 4] = struct.pack("<I", size)
        uri = f"{kit.folder()}/liar.zip"
        storage.write_bytes(uri, bytes(data))
        with pytest.raises(InputError, match="cannot be read from its archive"):
            open_manifest(uri)


def test_members_that_share_their_bytes_are_refused(kit: SimpleNamespace) -> None:
    data = zipped({"kernel.log": text_of("kernel.log") * 40})
    start = data.index(b"PK\1\2")
    entry = data[start : data.index(b"PK\5\6")]
    end = struct.pack("<HHHHIIH", 0, 0, 50, 50, 50 * len(entry), start, 0)
    uri = f"{kit.folder()}/overlapping.zip"
    storage.write_bytes(uri, data[:start] + entry * 50 + b"PK\5\6" + end)
    with pytest.raises(InputError, match="those of another member too"):
        open_manifest(uri)


def test_archives_that_cannot_be_read_are_named(kit: SimpleNamespace) -> None:
    folder = kit.folder()
    storage.write_bytes(f"{folder}/a.log", b"one\n")
    storage.write_bytes(f"{folder}/b.zip", b"no zip at all")
    storage.write_bytes(f"{folder}/c.tar", b"no tar at all" * 100)
    storage.write_bytes(f"{folder}/cut.tar", tarred(TEXTS)[:1500])
    storage.write_bytes(f"{folder}/d.tar.gz", gzip.compress(tarred(TEXTS))[:-100])
    manifest = open_manifest(folder)
    reasons = {entry["object"].removeprefix(f"{folder}/"): entry["reason"] for entry in manifest.failed}
    assert "not a zip file" in reasons["b.zip"]
    assert "damaged" in reasons["c.tar"]
    assert "damaged" in reasons["cut.tar"]
    assert "cannot be" in reasons["d.tar.gz"]
    assert kit.records(manifest)[0]["text"] == "one"


def test_a_password_and_an_unknown_method_are_said(kit: SimpleNamespace) -> None:
    data = bytearray(zipped(TEXTS))
    for at in [at for at in range(len(data)) if data.startswith(b"PK\1\2", at)][:1]:
        data[at + 8] |= 1
    for at in [at for at in range(len(data)) if data.startswith(b"PK\1\2", at)][1:2]:
        data[at + 10] = 9
    uri = f"{kit.folder()}/locked.zip"
    storage.write_bytes(uri, bytes(data))
    manifest = open_manifest(uri)
    assert [entry["reason"] for entry in manifest.failed] == [
        "it is protected by a password",
        "it is compressed by Deflate64, which is not read",
    ]
    assert len(kit.records(manifest)) == 7


def test_two_members_of_one_name_are_both_read(kit: SimpleNamespace) -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("a.log", "old\n")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.log", "new\n")
    uri = f"{kit.folder()}/twice.zip"
    storage.write_bytes(uri, sink.getvalue())
    manifest = open_manifest(uri)
    assert [shard.uri.partition("!/")[2] for shard in manifest.shards] == ["a.log", "a!2.log"]
    assert [record["text"] for record in kit.records(manifest)] == ["old", "new"]


def test_links_are_named_and_hard_links_lead_to_their_member(kit: SimpleNamespace) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, kind, target in (
            ("a.log", tarfile.REGTYPE, ""),
            ("b.log", tarfile.LNKTYPE, "a.log"),
            ("c.log", tarfile.SYMTYPE, "/etc/passwd"),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            entry.size = 4 if kind == tarfile.REGTYPE else 0
            archive.addfile(entry, io.BytesIO(b"one\n"))
    uri = f"{kit.folder()}/links.tar"
    storage.write_bytes(uri, sink.getvalue())
    manifest = open_manifest(uri)
    assert [record["text"] for record in kit.records(manifest)] == ["one", "one"]
    assert manifest.reading == f"1 link or device of {uri} left out"


def test_members_by_path_and_glob(kit: SimpleNamespace) -> None:
    folder = kit.folder()
    storage.write_bytes(f"{folder}/a.zip", ARCHIVES["deflated.zip"])
    storage.write_bytes(f"{folder}/b.tgz", ARCHIVES["gnu.tar.gz"])
    assert kit.operate(open_manifest(f"{folder}/a.zip!/a.log"), "count") == 30
    assert kit.operate(open_manifest(f"{folder}/a.zip!/day=1"), "count") == 41
    assert kit.operate(open_manifest(f"{folder}/a.zip!/a.log", f"{folder}/b.tgz!/day=2/*"), "count") == 37
    with pytest.raises(InputError, match="no archive there has such a member"):
        open_manifest(f"{folder}/a.zip!/none.log")


def test_an_archive_that_changed_is_noticed(tmp_path: Path, kit: SimpleNamespace) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(ARCHIVES["deflated.zip"])
    manifest = open_manifest(str(path))
    path.write_bytes(ARCHIVES["stored.zip"])
    with pytest.raises(ObjectChanged):
        kit.records(manifest)


def test_a_compressed_tar_is_read_in_one_pass(kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {f"{number:04}.log": f"{number}\n".encode() * 100 for number in range(60)}
    uri = f"{kit.folder()}/many.tar.gz"
    storage.write_bytes(uri, tarred(names, "w:gz"))
    manifest = open_manifest(uri)
    opened: list[Any] = []
    original = members._decompressed
    monkeypatch.setattr(members, "_decompressed", lambda *args: opened.append(args) or original(*args))
    assert [record["text"] for record in kit.records(manifest)] == [str(number) for number in range(60) for _ in range(100)]
    assert len(opened) == 1


def test_a_7z_archive_is_read_in_one_pass_with_its_empty_members(kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {f"{number:04}.log": f"{number}\n".encode() * (number * 37 % 101) for number in range(60)}
    uri = f"{kit.folder()}/many.7z"
    storage.write_bytes(uri, seven_zipped(names | {"large.log": text_of("large.log") * 100_000}))
    manifest = open_manifest(uri)
    assert not manifest.failed
    opened: list[Any] = []
    original = decompressing._folder
    monkeypatch.setattr(decompressing, "_folder", lambda *args: opened.append(args) or original(*args))
    found = [record["text"] for record in kit.records(manifest)]
    assert found[:-500_000] == [str(number) for number in range(60) for _ in range(number * 37 % 101)]
    assert found[-500_000:] == text_of("large.log").decode().splitlines() * 100_000
    assert len(opened) == 1


def test_7z_archives_that_are_damaged_or_locked_are_said(kit: SimpleNamespace) -> None:
    fine = seven_zipped({"broken.log": b"", "a.log": text_of("a.log"), "b.log": text_of("b.log")}, [{"id": py7zr.FILTER_COPY}])
    damaged = bytearray(fine)
    damaged[32 + len(text_of("a.log")) + 4] ^= 255  # a byte of b.log
    folder = kit.folder()
    for name, data in {
        "damaged.7z": bytes(damaged),
        "cut.7z": fine[:-9],
        "directory.7z": fine[:-20] + bytes(20),
        "none.7z": b"no archive at all, but a text",
        "locked.7z": seven_zipped(TEXTS, password="secret"),
        "ppmd.7z": seven_zipped(TEXTS, [{"id": py7zr.FILTER_PPMD, "order": 6, "mem": 24}]),
        "hostile.7z": renamed({"aaaaout.log": b"x\n", "babs.log": b"x\n"}, {"aaaaout.log": "a/../../out", "babs.log": "/abs.log"}),
        "bomb.7z": seven_zipped({"bomb.log": bytes(80 << 20)}),
    }.items():
        storage.write_bytes(f"{folder}/{name}", data)
    manifest = open_manifest(folder)
    reasons = {entry["object"].removeprefix(f"{folder}/"): entry["reason"] for entry in manifest.failed}
    assert reasons["none.7z"].endswith("it is no 7z archive")
    assert "directory is damaged" in reasons["cut.7z"]
    assert "directory is damaged" in reasons["directory.7z"]
    assert reasons["locked.7z!/a.log"] == "it is protected by a password"
    assert reasons["ppmd.7z!/a.log"] == "it is compressed by PPMd, which is not read"
    assert "250 times" in reasons["bomb.7z!/bomb.log"]
    assert reasons["hostile.7z!/a/../../out"] == "its name leads out of the archive"
    assert reasons["hostile.7z!/abs.log"] == "its name is absolute"
    texts = {}
    for shard in manifest.shards:
        try:
            texts[shard.uri.removeprefix(f"{folder}/")] = read(shard)
        except ObjectUnreadable as error:
            texts[shard.uri.removeprefix(f"{folder}/")] = [str(error)]
    assert texts["damaged.7z!/a.log"] == text_of("a.log").decode().splitlines()
    assert "its checksum differs from that of its archive" in texts["damaged.7z!/b.log"][0]
