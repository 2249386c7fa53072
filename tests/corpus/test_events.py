"""Events: whatever the cut into shards, the records are those that a plain reader over the whole object finds."""

from __future__ import annotations

import gzip
import json
import re
from types import SimpleNamespace
from typing import Any

import numpy
import pyarrow
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from rlm_ray import storage
from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.catalog.signatures import Signature, signature
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.operations import operations
from rlm_ray.corpus.operations.lookup import shard_of
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.logs import event_search
from rlm_ray.corpus.reading.logs.beginnings import SHAPES, fits, found_in, pattern_of
from rlm_ray.corpus.reading.logs.layout import LogOptions
from rlm_ray.corpus.reading.text import streams
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import InputError
from rlm_ray.handle.plan import Between, Grep, Where

_ISO = r"^\d{4}-\d\d-\d\d \d\d:\d\d"
_BEGIN = ["2024-01-05 10:00:00 ERROR broken", "2024-01-05 10:00:01 INFO é 漢字", "2024-01-05 10:00"]
_GO_ON = ["\tat a.b(C.java:1)", "Caused by: X", "", "2024", "\r", "  2024-01-05 10:00:00", "x" * 50]
_LINES = st.lists(
    st.tuples(st.sampled_from(_BEGIN + _GO_ON * 2), st.sampled_from(["\n", "\n", "\r\n"])).map("".join), min_size=1, max_size=20
)


def _lines(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """Of each line: its place, its end, the end with its line break, and its bytes. No part of the package is used."""
    found = []
    at = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    while at < len(data):
        stop = data.find(b"\n", at) + 1 or len(data)
        line = data[at:stop].removesuffix(b"\n")
        line = line.removesuffix(b"\r")
        found.append((at, at + len(line), stop, line))
        at = stop
    return found


def _plain(data: bytes, pattern: str, size: int) -> list[tuple[int, str, bool]]:
    """The events of an object: place, text, and whether each continues one that was cut. The second reader of text."""
    events: list[list[Any]] = []
    last_cell = begun = None
    for place, end, _, line in _lines(data):
        cell = place // size
        own = re.search(pattern, line.decode("utf-8", "replace")) is not None
        is_cut = not own and cell != last_cell and begun != cell - 1
        if own or is_cut or not events:
            events.append([place, end, is_cut and bool(events)])
        events[-1][1] = end
        last_cell, begun = cell, cell if own else begun
    return [(place, data[place:end].decode("utf-8", "replace"), is_cut) for place, end, is_cut in events]


def _found(kit: SimpleNamespace, manifest: Any, *steps: Any) -> list[tuple[int, str, bool]]:
    records = kit.records(manifest, *steps)
    return [(Address.parse(item["_address"]).start, item["text"], "_error" in item) for item in records]


def _plainly_found(lines: list[str]) -> str:
    """The pattern that a sample of these lines shows."""
    return _ISO if any(re.search(_ISO, line) for line in lines) else r"^[^\s})\].]"


def _text(lines: list[str], has_mark: bool) -> bytes:
    data = (b"\xef\xbb\xbf" if has_mark else b"") + "".join(lines).encode()
    assume(signature(data) == Signature())
    return data


@settings(max_examples=25)
@given(lines=_LINES, shard_bytes=st.integers(40, 300), piece=st.integers(1, 200), size=st.sampled_from([16, 64, 200, 1 << 20]),
       has_mark=st.booleans())  # fmt: skip
@example(lines=["\tat x\n"] * 9, shard_bytes=7, piece=9, size=16, has_mark=True)
def test_any_cut_into_shards_gives_the_events_of_a_plain_reader(
    kit: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    lines: list[str],
    shard_bytes: int,
    piece: int,
    size: int,
    has_mark: bool,
) -> None:
    monkeypatch.setattr(streams, "PIECE", piece)
    data = _text(lines, has_mark)
    uri = kit.object(data, ".log")
    for options in (LogOptions(_ISO, size), LogOptions(event_bytes=size)):
        pattern = _ISO if options.event_start else _plainly_found(lines)
        manifest = open_manifest(uri, unit="event", shard_bytes=shard_bytes, logs=options)
        found = _found(kit, manifest)
        assert found == _plain(data, pattern, size)
        assert kit.operate(manifest, "count") == len(found)
        for record in kit.records(manifest)[-3:]:
            address = Address.parse(record["_address"])
            kept = storage.read_range(uri, address.start, address.stop, version=address.version)
            assert kept.decode("utf-8", "replace") == record["text"]
            shard = shard_of(manifest, address)
            assert shard is not None
            assert operations.run("record", Work(shard, bind((), manifest.schema)), {"address": record["_address"]}) == record


@given(lines=_LINES, compression=st.sampled_from(["gzip", "zstd"]), piece=st.integers(1, 200), size=st.sampled_from([64, 1 << 20]),
       low=st.integers(0, 400), length=st.integers(1, 400))  # fmt: skip
def test_compressed_streams_have_the_same_events_also_from_their_middle(
    kit: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    lines: list[str],
    compression: str,
    piece: int,
    size: int,
    low: int,
    length: int,
) -> None:
    monkeypatch.setattr(streams, "PIECE", piece)
    data = _text(lines, False)
    packed = gzip.compress(data) if compression == "gzip" else pyarrow.Codec("zstd").compress(data, asbytes=True)
    uri = kit.object(packed, ".log.gz" if compression == "gzip" else ".log.zst")
    manifest = open_manifest(uri, unit="event", logs=LogOptions(_ISO, size))
    expected = _plain(data, _ISO, size)
    assert _found(kit, manifest) == expected
    part = Between((0, low, 0), (0, low + length, 0))
    assert _found(kit, manifest, part) == [item for item in expected if low <= item[0] < low + length]


_SAID = ["2024-01-05 10:00:00 ERROR broken", "\tat a.b", "Caused by: é", "x" * 30, ""]
_CONTAINER = st.lists(
    st.tuples(st.sampled_from(["stdout", "stderr"]), st.sampled_from("FFP"), st.sampled_from(_SAID)), min_size=2, max_size=25
)


def _plain_container(data: bytes, pattern: str, size: int) -> list[tuple[int, str, bool]]:
    """The events of a container's log. The second reader of these."""
    form = re.compile(r"(\S+ (stdout|stderr) ([FP]) ?)(.*)", re.DOTALL)
    events: list[list[Any]] = []
    streams_seen: dict[str, dict[str, Any]] = {}
    for place, _, _, line in _lines(data):
        match = form.fullmatch(line.decode())
        assert match is not None
        prefix, stream, tag, said = match.groups()
        cell = place // size
        state = streams_seen.setdefault(stream, {"cell": None, "begun": None, "tag": "F", "event": None})
        is_near = state["cell"] is not None and state["cell"] >= cell - 1
        goes_on = state["tag"] == "P" and is_near
        own = not goes_on and re.search(pattern, said) is not None
        forced = not own and state["cell"] != cell and state["begun"] != cell - 1
        if own or forced:
            state["event"] = [place, prefix + said, forced and is_near]
            events.append(state["event"])
        else:
            state["event"][1] += said if goes_on else "\n" + said
        state |= {"cell": cell, "tag": tag, "begun": cell if own else state["begun"]}
    return [(place, text, is_cut) for place, text, is_cut in events]


@settings(max_examples=20)
@given(lines=_CONTAINER, shard_bytes=st.integers(40, 600), piece=st.integers(1, 300), size=st.sampled_from([50, 150, 1 << 20]))
def test_container_streams_are_told_apart_and_partial_lines_joined(
    kit: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    lines: list[tuple[str, str, str]],
    shard_bytes: int,
    piece: int,
    size: int,
) -> None:
    monkeypatch.setattr(streams, "PIECE", piece)
    data = "".join(
        f"2016-10-06T00:17:09.66979420{number % 10}Z {stream} {tag} {said}\n" for number, (stream, tag, said) in enumerate(lines)
    )
    uri = kit.object(data.encode(), ".log")
    manifest = open_manifest(uri, unit="event", shard_bytes=shard_bytes, logs=LogOptions(_ISO, size))
    assert "container" in manifest.reading
    expected = _plain_container(data.encode(), _ISO, size)
    assert _found(kit, manifest) == expected
    assert kit.operate(manifest, "count") == len(expected)
    for record in kit.records(manifest)[-2:]:
        shard = shard_of(manifest, Address.parse(record["_address"]))
        assert shard is not None
        assert operations.run("record", Work(shard, bind((), manifest.schema)), {"address": record["_address"]}) == record


@given(lines=_LINES, word=st.sampled_from(["ERROR", "at a", "Caused", "(?i)info$", "^2024", r"broken\n\tat", "漢", "nowhere"]),
       size=st.sampled_from([64, 1 << 20]))  # fmt: skip
def test_a_search_by_blocks_finds_the_same_events(
    kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, lines: list[str], word: str, size: int
) -> None:
    monkeypatch.setattr(event_search, "_BLOCK", 32)
    monkeypatch.setattr(event_search, "_REACH", 16)
    data = _text(lines + ["2024-01-05 10:00:02 quiet\n"] * 20 + lines, False)
    manifest = open_manifest(kit.object(data, ".log"), unit="event", logs=LogOptions(event_bytes=size))
    every = _found(kit, manifest)
    assert _found(kit, manifest, Grep(word)) == [item for item in every if re.search(word, item[1]) is not None]


@given(data=st.lists(st.sampled_from([*"0123456789:-/ TJan,[<", "é", "\x7f", "@", "?", "\x1f", "ÿ"]), max_size=40).map("".join),
       shape=st.sampled_from(SHAPES))  # fmt: skip
@example(data="2024-01-05 10:00", shape="9999-99-99 99:99")
def test_a_shape_finds_what_its_pattern_does(data: str, shape: str) -> None:
    memory = numpy.frombuffer(data.encode(), numpy.uint8)
    found = fits(memory, numpy.array([0]), numpy.array([len(memory)]), shape)
    assert bool(found[0]) == (re.match(pattern_of(shape), data) is not None)


@pytest.mark.parametrize(
    ("line", "shape"),
    [
        (
            "2015-07-29 17:41:44,747 - INFO  [QuorumPeer[myid=1]/0:0:0:0:0:0:0:0:2181:FastLeaderElection@774] - x",
            "9999-99-99 99:99",
        ),
        ("[Thu Jun 09 06:07:04 2005] [notice] LDAP: Built with OpenLDAP LDAP SDK", "[aaa aaa _9 99:99:99"),
        ("Jun 14 15:16:01 combo sshd(pam_unix)[19939]: authentication failure", "aaa _9 99:99:99"),
        ("Jun  4 15:16:01 combo sshd(pam_unix)[19939]: authentication failure", "aaa _9 99:99:99"),
        ("I0304 12:00:00.123456    1 main.go:10] started", "a9999 99:99:99"),
        ("<34>1 2003-10-11T22:14:15.003Z host su - ID47 - x", "<9"),
        ("081109 203615 148 INFO dfs.DataNode$PacketResponder: x", "999999 999999 "),
        ('10.0.0.1 - - [05/Jan/2024:10:00:00 +0000] "GET / HTTP/1.1" 200 5', r"^\S+ \S+ \S+ \[[0-9]{2}/[A-Z]"),
        ("ERROR:root:it broke", r"^(?:\[ *)?(?:TRACE|DEBUG|INFO"),
    ],
)
def test_what_begins_events_is_found_from_a_sample(line: str, shape: str) -> None:
    found = found_in([[line, "  goes on", "Caused by: x", line, "Traceback (most recent call last):", "x"]])
    assert (*found.shapes, *found.patterns)[0].startswith(shape)


def test_a_file_without_times_has_events_by_indent_and_one_that_begins_inside_an_event_is_read(kit: SimpleNamespace) -> None:
    folder = kit.folder()
    storage.write_bytes(f"{folder}/a.log", b"started\n  at once\n}\nstopped\n")
    assert [item[1] for item in _found(kit, open_manifest(folder, unit="event"))] == ["started\n  at once\n}", "stopped"]
    inside = b"\tat x\n\tat y\n" + b"2024-01-05 10:00:00 ERROR z\n\tat z\n" * 3
    manifest = open_manifest(kit.object(inside, ".log"), unit="event")
    assert [item[1].count("\n") for item in _found(kit, manifest)] == [1, 1, 1, 1]


def test_an_event_without_end_is_cut_and_says_so(kit: SimpleNamespace) -> None:
    data = b"2024-01-05 10:00:00 ERROR\n" + b"\tat somewhere\n" * 1_000
    manifest = open_manifest(kit.object(data, ".log"), unit="event", shard_bytes=3_000, logs=LogOptions(event_bytes=1_000))
    records = kit.records(manifest)
    assert max(len(record["text"]) for record in records) < 2_100
    assert "".join(record["text"] + "\n" for record in records).encode() == data
    assert [record.get("_error") for record in records] == [
        None,
        *["continues an event of more than 1,000 bytes"] * (len(records) - 1),
    ]
    assert len(kit.records(manifest, Where((("_error", "!=", None),)))) == len(records) - 1


def test_a_pattern_that_is_none_and_a_unit_that_does_not_go_are_refused(kit: SimpleNamespace) -> None:
    with pytest.raises(InputError, match="event_start="):
        LogOptions("(")
    with pytest.raises(InputError, match="event_bytes="):
        LogOptions(event_bytes=0)
    uri = kit.object(json.dumps({"a": 1}).encode() + b"\n", ".jsonl")
    with pytest.raises(InputError, match="unit='event' does not go with jsonl"):
        open_manifest(uri, unit="event")
