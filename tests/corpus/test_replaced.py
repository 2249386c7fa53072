"""Bytes that are no text are shown as U+FFFD in their place, and counted by object: no error, and no secret either."""

from __future__ import annotations

import gzip
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rlm_ray.corpus.catalog.signatures import Signature, signature
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.operations import operations
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading import decode_replacements
from rlm_ray.corpus.reading.work import Work
from rlm_ray.handle.plan import Grep

_BAD = b"sound\ncaf\xe9 \xff\xfe\nlate\n"


def _scan(uri: str, run: str, operation: str = "lengths", *steps: object, **options: object) -> None:
    manifest = open_manifest(uri, **options)  # type: ignore[arg-type]
    for shard in manifest.shards:
        operations.run(operation, Work(shard, bind(steps, manifest.schema), run), {})  # type: ignore[arg-type]


@settings(max_examples=30)
@given(lines=st.lists(st.binary(max_size=12), min_size=1, max_size=8))
def test_what_is_counted_is_what_is_replaced(kit: SimpleNamespace, lines: list[bytes]) -> None:
    data = b"\n".join(line.replace(b"\n", b"") for line in lines) + b"\n"
    assume(signature(data) == Signature())  # else it is another kind of file, or of another encoding
    run = kit.folder()
    uri = kit.object(data, ".log")
    _scan(uri, run)
    counted = sum(item["bytes"] for item in decode_replacements.found(run))
    body = data.removeprefix(b"\xef\xbb\xbf")
    kept = body.decode("utf-8", "ignore").encode()
    assert counted == len(body) - len(kept)


@pytest.mark.parametrize(
    ("extension", "data", "options"),
    [
        (".log", _BAD, {}),
        (".log.gz", gzip.compress(_BAD), {}),
        (".txt", _BAD, {"unit": "document"}),
        (".jsonl", b'{"a": "caf\xe9"}\n{"a": "\xff\xfe"}\n', {}),
        (".csv", b"a,b\ncaf\xe9,1\n\xff\xfe,2\n", {}),
        (".csv", b'a,b\n"caf\xe9\nx",1\n\xff\xfe,2\n', {}),
    ],
    ids=["lines", "gzip", "document", "jsonl", "csv", "csv with line breaks"],
)
def test_every_format_counts(kit: SimpleNamespace, extension: str, data: bytes, options: dict[str, str]) -> None:
    run = kit.folder()
    uri = kit.object(data, extension)
    _scan(uri, run, **options)
    assert decode_replacements.found(run) == [{"object": uri, "bytes": 3}]
    texts = "".join(str(record) for record in kit.records(open_manifest(uri, **options)))
    assert texts.count("\ufffd") == 3


def test_the_most_that_one_scan_has_found_is_kept(kit: SimpleNamespace) -> None:
    run = kit.folder()
    uri = kit.object(_BAD, ".log")
    clean = kit.object("caf\ufffd\n".encode(), ".log")  # the character itself is text
    for _ in range(2):
        _scan(uri, run)
        _scan(uri, run, "lengths", Grep("sound"))
        _scan(clean, run)
    assert decode_replacements.found(run) == [{"object": uri, "bytes": 3}]
    shards = open_manifest(uri, shard_bytes=4)
    for shard in shards.shards:
        operations.run("lengths", Work(shard, bind((), shards.schema), other := run + "-2"), {})
    assert decode_replacements.found(other) == [{"object": uri, "bytes": 3}]


def test_wide_encodings_count_too(kit: SimpleNamespace) -> None:
    run = kit.folder()
    uri = kit.object("fine\nodd ".encode("utf-16-le") + b"\x00\xd8" + "!\n".encode("utf-16-le"), ".txt")
    _scan(uri, run, encoding="utf-16-le")
    assert [item["object"] for item in decode_replacements.found(run)] == [uri]


def test_nothing_is_written_where_nothing_was_replaced(kit: SimpleNamespace, tmp_path: Path) -> None:
    run = tmp_path / "run"
    _scan(kit.object(b"all well\n", ".log"), str(run))
    assert not run.exists()
    assert decode_replacements.found(str(run)) == []
