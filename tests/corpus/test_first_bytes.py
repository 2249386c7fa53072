"""What an object is: by its first bytes, before its name."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import zlib
from collections.abc import Callable
from types import SimpleNamespace

import cramjam
import pyarrow
import pyarrow.parquet
import pytest

from rlm_ray import storage
from rlm_ray.corpus import looking
from rlm_ray.corpus.catalog.signatures import encoding_of_text
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.operations import operations, small_objects
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import InputError, ObjectUnreadable
from rlm_ray.handle.plan import Grep

TEXT = b"2024-01-01 ERROR disk\n2024-01-02 INFO fine\n" * 50


def compressed(data: bytes, codec: str) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, codec) as stream:
        stream.write(data)
    return bytes(sink.getvalue())


def framed(data: bytes) -> bytes:
    return bytes(cramjam.snappy.compress(data))


def hadoop_blocks(*blocks: bytes) -> bytes:
    packed = b""
    for block in blocks:
        pieces = [bytes(cramjam.snappy.compress_raw(part)) for part in (block[:300], block[300:])]
        packed += struct.pack(">I", len(block)) + b"".join(struct.pack(">I", len(piece)) + piece for piece in pieces)
    return packed


@pytest.mark.parametrize("ending", [".log", "", ".bz2", ".gz", ".snappy"])
@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(TEXT),
        gzip.compress(TEXT[:430]) + gzip.compress(TEXT[430:]) + b"\0" * 512,
        gzip.compress(TEXT) + b"not gzip",
        bz2.compress(TEXT),
        lzma.compress(TEXT),
        lzma.compress(TEXT[:430]) + b"\0" * 4 + lzma.compress(TEXT[430:]),
        compressed(TEXT, "zstd"),
        compressed(TEXT, "lz4"),
        framed(TEXT),
        framed(TEXT[:430]) + b"\xfe\x02\0\0\0\0\x80\1\0\0x" + framed(TEXT[430:]),
        hadoop_blocks(TEXT[:430], TEXT[430:]),
        TEXT,
        TEXT.decode().encode("utf-16"),
        TEXT.decode().encode("utf-16-be"),
        TEXT.decode().encode("utf-32"),
        gzip.compress(TEXT.decode().encode("utf-16-le")),
    ],
    ids=lambda value: "",
)
def test_text_under_any_name(kit: SimpleNamespace, data: bytes, ending: str) -> None:
    manifest = open_manifest(kit.object(data, ending))
    assert kit.operate(manifest, "count") == 100
    assert kit.operate(manifest, "count", Grep("ERROR")) == 50
    assert [record["text"] for record in kit.records(manifest)] == TEXT.decode().splitlines()


def test_objects_of_several_encodings_are_one_corpus(kit: SimpleNamespace) -> None:
    base = kit.folder()
    for number, encoding in enumerate(["utf-8", "utf-16", "utf-16-le", "utf-32-be"]):
        storage.write_bytes(f"{base}/{number}.csv", "id;x\n1;ü\n2;b\n".encode(encoding))
    manifest = open_manifest(base)
    assert [record["x"] for record in kit.records(manifest)] == ["ü", "b"] * 4
    assert "utf-16-le" in manifest.reading


def test_binary_is_no_wide_text() -> None:
    assert encoding_of_text(bytes(range(256)) * 4) is None
    assert encoding_of_text(b"\0" * 64) is None
    assert encoding_of_text(b"a\0") is None


def test_parquet_under_another_name(kit: SimpleNamespace) -> None:
    base = kit.folder()
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"level": ["ERROR"] * 3}), sink)
    storage.write_bytes(f"{base}/000000_0", sink.getvalue())
    manifest = open_manifest(base)
    assert (manifest.format, manifest.records) == ("parquet", 3)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"%PDF-1.7\n", "PDF"),
        (b"PK\x03\x04", "zip"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Office"),
        (b"Obj\x01\x04\x16avro.schema", "Avro"),
        (b"ORC\x00", "ORC"),
        (b"PARE", "encrypted"),
        (gzip.compress(b"%PDF-1.7\n" + bytes(100)), "PDF"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_text_fails_by_its_true_kind(kit: SimpleNamespace, head: bytes, kind: str) -> None:
    base = kit.folder()
    storage.write_bytes(f"{base}/b.log", head + bytes(range(256)))
    with pytest.raises(InputError, match=kind):
        open_manifest(base)
    storage.write_bytes(f"{base}/a.log", TEXT)
    manifest = open_manifest(base)
    assert kind in manifest.failed[0]["reason"]
    assert kit.operate(manifest, "count") == 100


def test_the_files_of_a_delta_table_are_no_plain_parquet(kit: SimpleNamespace) -> None:
    base = kit.folder()
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"id": [1]}), sink)
    storage.write_bytes(f"{base}/day=1/a.parquet", sink.getvalue())
    storage.write_bytes(f"{base}/_delta_log/00000000000000000000.json", b"{}\n")
    for uri in (base, f"{base}/day=1"):
        with pytest.raises(InputError, match=r"delta\+"):
            open_manifest(uri)
    assert open_manifest(base, format="parquet").records == 1


def test_an_encrypted_footer_is_not_handed_on(kit: SimpleNamespace) -> None:
    with pytest.raises(InputError, match="encrypted"):
        open_manifest(kit.object(b"PARE" + bytes(40) + b"PARE", ".parquet"))


@pytest.mark.parametrize("first", ["PARENT started", "ORCA swims", "PAR1 is a word here", "BZhello", "Obj of desire"])
def test_a_text_may_begin_with_the_letters_of_a_binary_format(kit: SimpleNamespace, first: str) -> None:
    manifest = open_manifest(kit.object(f"{first}\nERROR disk\n".encode(), ".log"))
    assert [record["text"] for record in kit.records(manifest)] == [first, "ERROR disk"]


@pytest.mark.parametrize(
    ("data", "ending", "kind"),
    [
        (gzip.compress(TEXT), ".log", "compressed by gzip"),
        (TEXT, ".gz", "not compressed by gzip"),
        (bz2.compress(TEXT), ".log", "compressed by bz2"),
        (compressed(TEXT, "zstd"), ".log", "compressed by zstd"),
        (TEXT.decode().encode("utf-16"), ".log", "utf-16"),
        (TEXT.decode().encode("utf-16-le"), ".log", "utf-16-le"),
        (b"%PDF-1.7\n" + bytes(100), ".log", "PDF"),
        (gzip.compress(b"PK\x03\x04" + bytes(100)), ".gz", "zip archive"),
        (b"PAR1" + bytes(100) + b"PAR1", ".jsonl", "Parquet"),
        (TEXT * 1_000, ".log", ""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_object_that_nobody_looked_at_is_what_its_name_says_when_it_is_read(
    kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, data: bytes, ending: str, kind: str
) -> None:
    monkeypatch.setattr(looking, "SOME", 2)
    base = kit.folder()
    plain = b'{"text": "ERROR"}\n' if ending == ".jsonl" else gzip.compress(TEXT) if ending == ".gz" else TEXT
    for number in range(6):
        storage.write_bytes(f"{base}/{number}{ending}", data if number == 3 else plain)
    manifest = open_manifest(base, shard_bytes=1 << 20)
    assert [shard.object for shard in manifest.shards if not shard.unseen] == [0, 5]
    for shard in manifest.shards:
        work = Work(shard, bind((), manifest.schema))
        if shard.object == 3 and kind:
            with pytest.raises(ObjectUnreadable, match=kind):
                list(operations.records(work))
            (found,) = small_objects.together("count", [work] * 4, {})[:1]
            assert found is None or isinstance(found, ObjectUnreadable)
        else:
            assert list(operations.records(work))


def test_where_some_are_not_what_their_names_say_all_are_looked_at(kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "SOME", 3)
    base = kit.folder()
    for number in range(9):
        storage.write_bytes(f"{base}/{number}.log", gzip.compress(TEXT) if number in (3, 4) else TEXT)
    manifest = open_manifest(base)
    assert kit.operate(manifest, "count", Grep("ERROR")) == 450


def test_objects_whose_names_say_nothing_are_all_looked_at(kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "SOME", 2)
    base = kit.folder()
    for number in range(4):
        storage.write_bytes(f"{base}/{number}.log", TEXT)
        storage.write_bytes(f"{base}/{number}.log.1", TEXT)
        storage.write_bytes(f"{base}/part-{number}", gzip.compress(TEXT) if number == 2 else TEXT)
    manifest = open_manifest(base)
    assert kit.operate(manifest, "count", Grep("ERROR")) == 12 * 50
    storage.write_bytes(f"{base}/part-2", TEXT)
    unseen = {shard.uri.removeprefix(f"{base}/") for shard in open_manifest(base).shards if shard.unseen}
    assert unseen == {f"{number}.log{end}" for number in range(4) for end in ("", ".1")} - {"0.log", "3.log.1"}
    monkeypatch.setattr(looking, "MOST", 3)
    monkeypatch.setattr(looking, "FEW", 2)
    unseen = {shard.uri.removeprefix(f"{base}/") for shard in open_manifest(base).shards if shard.unseen}
    assert {"part-1", "part-2"} == {name for name in unseen if name.startswith("part")}


@pytest.mark.parametrize(
    ("data", "kind"),
    [(gzip.compress(TEXT), "compressed by gzip"), (TEXT.decode().encode("utf-16"), "utf-16"), (TEXT, "")],
    ids=["gzip", "utf-16", "text"],
)
def test_a_document_that_nobody_looked_at_is_checked_when_it_is_read(
    kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, data: bytes, kind: str
) -> None:
    monkeypatch.setattr(looking, "SOME", 2)
    base = kit.folder()
    for number in range(3):
        storage.write_bytes(f"{base}/{number}.txt", data if number == 1 else TEXT)
    manifest = open_manifest(base, unit="document")
    assert [shard.unseen for shard in manifest.shards] == [False, True, False]
    work = Work(manifest.shards[1], bind((), manifest.schema))
    if kind:
        with pytest.raises(ObjectUnreadable, match=kind):
            list(operations.records(work))
    else:
        assert [[record["text"] for record in page] for page in operations.records(work)] == [[TEXT.decode()]]


def test_zeros_and_line_breaks_alone_are_no_wide_text() -> None:
    assert encoding_of_text(b"\x00\n\x00\n") is None
    assert encoding_of_text("a\n".encode("utf-16-be")) == "utf-16-be"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x1f\x9d\x90" + bytes(range(200)), "compressed by compress"),
        (lzma.compress(TEXT, format=lzma.FORMAT_ALONE), "compressed by LZMA alone"),
        (zlib.compress(TEXT), "compressed by zlib"),
        (b"\x89LZO\x00\x0d\x0a\x1a\x0a" + bytes(40), "compressed by lzop"),
        (bytes(range(128, 256)) * 4 + bytes(range(32)), "no text in UTF-8"),
        ("Ошибка: диск переполнен\n".encode("koi8-r") * 5, "no text in UTF-8"),
    ],
)
@pytest.mark.parametrize("ending", [".log", "", ".snappy"])
def test_bytes_that_are_no_text_are_refused(kit: SimpleNamespace, data: bytes, kind: str, ending: str) -> None:
    with pytest.raises(InputError, match=kind):
        open_manifest(kit.object(data, ending))


def test_text_in_an_encoding_that_is_given_is_no_bytes(kit: SimpleNamespace) -> None:
    manifest = open_manifest(kit.object("Ошибка: диск\n".encode("koi8-r") * 5, ".log"), encoding="koi8-r")
    assert [record["text"] for record in kit.records(manifest)] == ["Ошибка: диск"] * 5
    accented = open_manifest(kit.object("déjà vu, café\n".encode("latin-1") * 5, ".log"))
    assert len(kit.records(accented)) == 5


@pytest.mark.parametrize("pack", [framed, hadoop_blocks])
def test_snappy_is_read_whole_and_its_damage_is_said(kit: SimpleNamespace, pack: Callable[[bytes], bytes]) -> None:
    text = b"".join(
        b"%d %s\n" % (number, bytes(97 + (number * number >> shift) % 26 for shift in range(40))) for number in range(60_000)
    )
    data = pack(text)
    manifest = open_manifest(kit.object(data, ".log.snappy"))
    assert [record["text"].encode() for record in kit.records(manifest)] == text.splitlines()
    for damaged in (data[:-3], data[:-3] + b"\x7f\x7f\x7f", *([data[:9_000] + b"\0\0\0" + data[9_003:]] if pack is framed else [])):
        with pytest.raises((InputError, ObjectUnreadable), match="cannot be decompressed"):
            kit.records(open_manifest(kit.object(damaged, ".log.snappy")))


def test_a_block_of_hadoop_beyond_its_bound_is_refused(kit: SimpleNamespace) -> None:
    head = hadoop_blocks(TEXT)
    data = head + struct.pack(">I", 1 << 30) + head[4:]
    with pytest.raises((InputError, ObjectUnreadable), match="more than 64 MiB"):
        kit.records(open_manifest(kit.object(data, ".log.snappy")))
