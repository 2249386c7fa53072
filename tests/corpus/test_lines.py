"""Text by line: whatever the cut into shards, the records are the object's lines, once, in order."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any

import pyarrow
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from rlm_ray import storage
from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.catalog.signatures import Signature, signature
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.operations import operations
from rlm_ray.corpus.planning import shard_choice
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.text import streams
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import InputError, ObjectUnreadable
from rlm_ray.handle.plan import Between, Grep, Slice

_PIECES = st.sampled_from(["a", "b c", "é", "漢字", "😀", "\r", "\t", "\x00", "x" * 40, ""])
_LINES = st.lists(st.tuples(st.lists(_PIECES, max_size=5).map("".join), st.sampled_from(["\n", "\r\n"])), max_size=12)


@st.composite
def _texts(draw: Any) -> bytes:
    text = "".join(line + end for line, end in draw(_LINES)) + "".join(draw(st.lists(_PIECES, max_size=3)))
    data = (b"\xef\xbb\xbf" if draw(st.booleans()) else b"") + text.encode()
    assume(signature(data) == Signature())  # else it is another kind of file, or of another encoding
    return data


def _expected(data: bytes) -> list[str]:
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    return [line.removesuffix(b"\r").decode("utf-8", "replace") for line in lines]


@given(data=_texts(), shard_bytes=st.integers(1, 60), piece=st.integers(1, 50))
@example(data=b"\xef\xbb\xbfa\n", shard_bytes=1, piece=1)
@example(data=b"\xef\xbb\xbf\n\nb", shard_bytes=2, piece=2)
@example(data=b"\n\n\n", shard_bytes=1, piece=50)
@example(data=b"a\r", shard_bytes=1, piece=1)
def test_shards_give_every_line_once(
    kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, data: bytes, shard_bytes: int, piece: int
) -> None:
    monkeypatch.setattr(streams, "PIECE", piece)
    if not data:
        data = b"\n"
    uri = kit.object(data, ".log")
    manifest = open_manifest(uri, shard_bytes=shard_bytes)
    found = kit.records(manifest)
    assert [record["text"] for record in found] == _expected(data)
    assert kit.operate(manifest, "count") == len(found)
    for record in found:
        address = Address.parse(record["_address"])
        assert (address.object, address.unit) == (uri, "bytes")
        assert storage.read_range(uri, address.start, address.stop, version=address.version).decode() == record["text"]


@given(data=_texts(), compression=st.sampled_from(["gzip", "zstd"]), piece=st.integers(1, 50))
def test_compressed_text_is_one_shard_with_the_same_lines(
    kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, data: bytes, compression: str, piece: int
) -> None:
    monkeypatch.setattr(streams, "PIECE", piece)
    packed = gzip.compress(data) if compression == "gzip" else pyarrow.Codec("zstd").compress(data, asbytes=True)
    manifest = open_manifest(kit.object(packed, ".log.gz" if compression == "gzip" else ".log.zst"), shard_bytes=10)
    assert len(manifest.shards) == 1
    found = kit.records(manifest)
    assert [record["text"] for record in found] == _expected(data)
    for record in found:
        address = Address.parse(record["_address"])
        assert data[address.start : address.stop].decode() == record["text"]


@given(data=_texts(), shard_bytes=st.integers(1, 60), cuts=st.lists(st.integers(0, 300), max_size=4))
def test_ranges_of_bytes_share_the_lines_out(kit: SimpleNamespace, data: bytes, shard_bytes: int, cuts: list[int]) -> None:
    data = data or b"\n"
    manifest = open_manifest(kit.object(data, ".txt"), shard_bytes=shard_bytes)
    places = [(min(cut // shard_bytes, len(manifest.shards) - 1), cut, 0) for cut in sorted(cuts)]
    parts = zip([None, *places], [*places, None], strict=True)
    found = [record["text"] for start, stop in parts for record in kit.records(manifest, Between(start, stop))]
    assert found == _expected(data)
    parts = zip([None, *places], [*places, None], strict=True)
    assert sum(kit.operate(manifest, "count", Between(start, stop)) for start, stop in parts) == len(found)


@given(
    data=_texts(),
    shard_bytes=st.integers(1, 60),
    piece=st.integers(1, 50),
    cut=st.integers(0, 100),
    drawn=st.randoms(use_true_random=False),
    compression=st.sampled_from([None, "gzip"]),
)
def test_lines_by_their_number_are_those_of_the_scan(
    kit: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    data: bytes,
    shard_bytes: int,
    piece: int,
    cut: int,
    drawn: Random,
    compression: str | None,
) -> None:
    monkeypatch.setattr(streams, "PIECE", piece)
    data = data or b"\n"
    packed, name = (gzip.compress(data), ".log.gz") if compression else (data, ".log")
    manifest = open_manifest(kit.object(packed, name), shard_bytes=shard_bytes)
    steps = (Between((min(cut // shard_bytes, len(manifest.shards) - 1), cut, 0), None),)
    for one in (
        Work(shard, bind(steps, manifest.schema)) for shard in shard_choice.shards_for(bind(steps, manifest.schema), manifest)
    ):
        found = [record for page in operations.records(one) for record in page]
        ordinals = sorted(drawn.sample(range(len(found)), drawn.randint(0, len(found))))
        assert operations.run("at", one, {"ordinals": ordinals}) == [found[ordinal] for ordinal in ordinals]


@given(lines=st.lists(st.binary(max_size=20), min_size=1, max_size=10), shard_bytes=st.integers(1, 60))
def test_damaged_utf8_is_replaced_and_keeps_its_place(kit: SimpleNamespace, lines: list[bytes], shard_bytes: int) -> None:
    data = b"\n".join(line.replace(b"\n", b"") for line in lines) + b"\nsound \xff needle\n"
    assume(signature(data) == Signature())  # else it is another kind of file, or of another encoding
    manifest = open_manifest(kit.object(data, ".log"), shard_bytes=shard_bytes)
    assert [record["text"] for record in kit.records(manifest)] == _expected(data)
    (needle,) = kit.records(manifest, Grep(r"^sound . needle$"))
    address = Address.parse(needle["_address"])
    assert data[address.start : address.stop] == b"sound \xff needle"


def test_a_line_longer_than_many_pieces_and_shards(kit: SimpleNamespace, small_pieces: Any) -> None:
    small_pieces(1 << 10)
    long = "x" * 300_000 + "needle"
    manifest = open_manifest(kit.object(f"first\n{long}\nlast".encode(), ".log"), shard_bytes=5_000)
    assert [record["text"] for record in kit.records(manifest)] == ["first", long, "last"]
    assert kit.operate(manifest, "count", Grep("needle$")) == 1


def test_a_line_beyond_the_limit_is_a_reason(kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = open_manifest(kit.object(b"a\n" + b"y" * 5_000 + b"\n", ".log"))
    monkeypatch.setattr(streams, "MAX_RECORD", 2_000)
    monkeypatch.setattr(streams, "PIECE", 500)
    with pytest.raises(ObjectUnreadable, match=r"object.log has a line of more than .* at byte 2\."):
        kit.records(manifest)


@pytest.mark.parametrize(("encoding", "text"), [("latin-1", "naïve café"), ("cp1252", "5 € – ok"), ("shift_jis", "日本語")])
def test_other_encodings(kit: SimpleNamespace, encoding: str, text: str) -> None:
    data = f"{text}\r\n{text}!\n".encode(encoding)
    manifest = open_manifest(kit.object(data, ".txt"), shard_bytes=5, encoding=encoding)
    found = kit.records(manifest)
    assert [record["text"] for record in found] == [text, text + "!"]
    address = Address.parse(found[1]["_address"])
    assert data[address.start : address.stop].decode(encoding) == text + "!"


@pytest.mark.parametrize("encoding", ["cp037", "klingon"])
def test_an_encoding_that_cannot_be_cut_is_refused(kit: SimpleNamespace, encoding: str) -> None:
    with pytest.raises(InputError, match=encoding):
        open_manifest(kit.object(b"a\n", ".txt"), encoding=encoding)


@pytest.mark.parametrize("extension", [".log.gz", ".log.zst"])
def test_a_damaged_stream_is_unreadable(kit: SimpleNamespace, extension: str) -> None:
    data = b"line\n" * 100_000
    packed = gzip.compress(data) if extension.endswith("gz") else pyarrow.Codec("zstd").compress(data, asbytes=True)
    uri = kit.object(packed, extension)
    manifest = open_manifest(uri)
    storage.write_bytes(uri, packed[: len(packed) // 2])
    from dataclasses import replace

    shard = replace(manifest.shards[0], version="", size=len(packed) // 2)
    from rlm_ray.corpus.reading.scan import scan

    with pytest.raises(ObjectUnreadable, match=r"object\.log\.(gz|zst) cannot be"):
        list(scan(shard, bind([], manifest.schema)))


def test_several_members_of_one_gzip_file(kit: SimpleNamespace) -> None:
    manifest = open_manifest(kit.object(gzip.compress(b"a\nb") + gzip.compress(b"c\nd\n"), ".log.gz"))
    assert [record["text"] for record in kit.records(manifest)] == ["a", "bc", "d"]


def test_several_frames_of_one_zstd_file(kit: SimpleNamespace) -> None:
    codec = pyarrow.Codec("zstd")
    packed = codec.compress(b"a\nb", asbytes=True) + codec.compress(b"c\nd\n", asbytes=True)
    assert [record["text"] for record in kit.records(open_manifest(kit.object(packed, ".log.zst")))] == ["a", "bc", "d"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("extension", [".txt", ".txt.gz", ".jsonl", ".csv", "document"])
def test_wide_encodings_are_recoded(
    kit: SimpleNamespace, small_pieces: Callable[[int], None], encoding: str, extension: str
) -> None:
    small_pieces(16)
    lines = [f"{number}, größer 😀 {'x' * number}" for number in range(40)]
    if extension == ".jsonl":
        lines = [json.dumps({"text": line}, ensure_ascii=False) for line in lines]
    if extension == ".csv":
        lines = ["text", *(f'"{line}"' for line in lines)]
    whole = "\r\n".join(lines)
    marked = "\ufeff" * encoding.endswith("e") + whole  # a mark that the codec does not take is one of UTF-8 then
    data = marked.encode(encoding)
    name = ".txt" if extension == "document" else extension
    uri = kit.object(gzip.compress(data) if name.endswith("gz") else data, name)
    manifest = open_manifest(uri, encoding=encoding, unit="document" if extension == "document" else None, shard_bytes=100)
    assert len(manifest.shards) == 1
    found = kit.records(manifest)
    if extension == "document":
        assert [record["text"] for record in found] == [whole]
        return
    assert [record["text"] for record in found] == [f"{number}, größer 😀 {'x' * number}" for number in range(40)]
    assert kit.operate(manifest, "count") == 40
    assert kit.records(manifest, *kit.local(manifest, [Slice(7, 9)])) == found[7:9]
    if extension.startswith(".txt"):
        place = Address.parse(found[3]["_address"])
        assert whole.encode()[place.start : place.stop].decode() == lines[3]  # a mark is no part of the text
        assert open_manifest(uri, encoding="latin-1").fingerprint != manifest.fingerprint


def test_half_a_wide_character_is_replaced(kit: SimpleNamespace) -> None:
    data = "fine\nodd ".encode("utf-16-le") + b"\x00\xd8" + "!\n".encode("utf-16-le") + b"x"
    manifest = open_manifest(kit.object(data, ".txt"), encoding="utf-16-le")
    assert [record["text"] for record in kit.records(manifest)] == ["fine", "odd \ufffd!", "\ufffd"]
