"""The readers of formats: what each is asked for, what it says of itself, and that a new one is a file and a line."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace

import polars
import pytest

from rlm_ray.corpus.catalog.formats import FORMATS, Format
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.operations.lookup import record_at
from rlm_ray.corpus.planning import shard_choice
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.reader import ReadRequest, reader_of
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import InputError
from rlm_ray.handle.plan import Grep, Select, Slice, Split, Where

NAMES = ("parquet", "segment", "lines", "jsonl", "json", "csv", "document")


@pytest.fixture
def properties() -> Iterator[Format]:
    # the line that a contributor adds to the table
    added = Format(
        name="properties", reader="tests.corpus.property_files", unit="row", option="properties", extensions=(".kv",), is_cut=True
    )
    FORMATS.add(added)
    yield added
    FORMATS.remove("properties")


def test_a_format_is_one_file_and_one_line(kit: SimpleNamespace, properties: Format) -> None:
    rng = random.Random(5)
    rows = [(rng.choice(["host", "port", "user"]), f"v{rng.randrange(50)}={number}") for number in range(2_000)]
    uri = kit.object("".join(f"{key}={value}\n" for key, value in rows).encode(), ".kv")
    manifest = open_manifest(uri, shard_bytes=5_000)
    assert (manifest.format, manifest.unit, manifest.schema) == ("properties", "row", {"key": "string", "value": "string"})
    assert len(manifest.shards) > 3
    records = kit.records(manifest)
    assert [(record["key"], record["value"]) for record in records] == rows
    ports = [row for row in rows if row[0] == "port"]
    assert kit.operate(manifest, "count", Where((("key", "==", "port"),))) == len(ports)
    assert kit.operate(manifest, "count", Grep("v7=", "value"), Slice(2, 40)) == min(38, sum("v7=" in v for _, v in rows) - 2)
    counts = kit.operate(manifest, "count_by", column="key", limit=10)
    assert dict(map(tuple, counts["counts"])) == Counter(key for key, _ in rows)
    page = kit.operate(manifest, "page", Select(("value",)), Slice(700, 1_400), n=5, after=None)
    assert [record["value"] for record in page["records"]] == [value for _, value in rows[700:705]]
    spans = kit.operate(manifest, "count", Split("value", "="))
    assert spans == 2 * len(rows)
    borders = kit.operate(manifest, "chunk_ranges", target_bytes=4_000)
    assert sum(border[3] for border in borders) == len(rows)
    for number in (0, 777, 1_999):
        address = records[number]["_address"]
        work = next(
            Work(shard, bind((), manifest.schema))
            for shard in shard_choice.shards_for(bind((), manifest.schema), manifest)
            if shard.start <= int(address.rpartition("bytes=")[2].split("-")[0]) < shard.stop
        )
        assert record_at(work, {"address": address}) == records[number]


def test_a_format_is_named_or_known_by_its_ending(kit: SimpleNamespace, properties: Format) -> None:
    uri = kit.object(b"a=1\nb=2\n", ".conf")
    assert open_manifest(uri).format == "lines"
    assert open_manifest(uri, format="properties").format == "properties"
    with pytest.raises(InputError, match=r"format='ini' is not known. Use one of parquet, text, .*sheet, mail, properties"):
        open_manifest(uri, format="ini")


def test_names_and_endings_belong_to_one_format() -> None:
    for taken in (Format(name="csv", reader="x", unit="row"), Format(name="mine", reader="x", unit="row", extensions=(".pq",))):
        with pytest.raises(InputError, match="is there already"):
            FORMATS.add(taken)
    assert FORMATS.by_extension(".pq").name == "parquet"


@pytest.mark.parametrize("name", NAMES)
def test_every_format_has_a_reader_that_fits_its_facts(name: str) -> None:
    facts, reader = FORMATS[name], reader_of(name)
    assert (reader.sample is None) == (not facts.is_text)
    assert reader.compares_versions == facts.is_text
    assert (reader.query is not None) == (reader.filters == "all") == (not facts.is_text)
    assert reader.takes_ordinals == facts.lines_are_records
    assert not facts.has_footers or facts.is_counted


@pytest.mark.parametrize(("ending", "format"), [(".log", "lines"), (".jsonl", "jsonl"), (".csv", "csv")])
def test_a_reader_of_text_takes_predicates_and_a_range(kit: SimpleNamespace, ending: str, format: str) -> None:
    line = {"lines": "n{0}", "jsonl": '{{"text": "n{0}"}}', "csv": "n{0}"}[format]
    data = ("text\n" if format == "csv" else "") + "".join(line.format(number) + "\n" for number in range(100))
    manifest = open_manifest(kit.object(data.encode(), ending))
    shard = manifest.shards[0]
    whole = polars.concat(reader_of(format).read(ReadRequest(shard, manifest.schema, ["text"], 0, None)))
    assert whole["text"].to_list() == [f"n{number}" for number in range(100)]
    low, high = whole["_pos"][30], whole["_pos"][60]
    request = ReadRequest(shard, manifest.schema, ["text"], low, high, [polars.col("text").str.ends_with("5")], early=True)
    assert polars.concat(reader_of(format).read(request))["text"].to_list() == ["n35", "n45", "n55"]


def test_lines_are_found_by_their_number(kit: SimpleNamespace) -> None:
    manifest = open_manifest(kit.object(b"".join(b"line %d\n" % number for number in range(500)), ".log"))
    request = ReadRequest(manifest.shards[0], manifest.schema, ["text"], 0, None, ordinals=[0, 7, 499])
    found = polars.concat(reader_of("lines").read(request))
    assert found["text"].to_list() == ["line 0", "line 7", "line 499"]
