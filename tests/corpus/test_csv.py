"""CSV: what is read in blocks is what Python's csv reads, to the last quotation mark."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rlm_ray.corpus.opening import open_manifest
from rlm_ray.handle.plan import Grep, Select, Slice, Where

_FIELDS = st.text(st.sampled_from('ab1 ",\n\r\tü'), max_size=6)
_ROWS = st.lists(st.lists(_FIELDS, min_size=2, max_size=2) | st.lists(_FIELDS, max_size=3), min_size=1, max_size=30)
_LOOSE = st.text(st.sampled_from('ab",\n\r'), max_size=300)


def written(rows: list[list[str]], line_end: str, quoting: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator=line_end, quoting=quoting).writerows(rows)
    return text.getvalue()


_FILES = st.builds(written, _ROWS, st.sampled_from(["\n", "\r\n"]), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])) | _LOOSE


@given(_FILES, st.sampled_from([7, 64, 4 << 20]), st.booleans())
@example('x,"a ""quoted"" one"\n"",""\n\n', 7, True)
@example('a,b\nc"c,d\n"e",f\n', 7, False)
@example("a\rb,c\n", 64, False)
def test_as_pythons_csv_reads_it(
    kit: SimpleNamespace, small_pieces: Callable[[int], None], body: str, piece: int, bom: bool
) -> None:
    small_pieces(piece)
    data = (b"\xef\xbb\xbf" if bom else b"") + b"x,y\n" + b"k,l\n" + body.encode()
    manifest = open_manifest(kit.object(data, ".csv"))
    wanted = [row for row in csv.reader(io.StringIO("k,l\n" + body, "")) if row]
    found = kit.records(manifest)
    assert kit.operate(manifest, "count") == len(wanted) == len(found)
    for number, (row, record) in enumerate(zip(wanted, found, strict=True)):
        assert record["_address"].endswith(f"#row={number}")
        if len(row) == 2:
            assert [record["x"], record["y"]] == row
            assert "_error" not in record
        else:
            assert [record["x"], record["y"]] == [None, None]
            assert f"{len(row)} fields" in record["_error"]
    assert [record["y"] for record in kit.records(manifest, Select(("y",)))] == [record["y"] for record in found]
    cut = kit.records(manifest, *kit.local(manifest, [Slice(1, 4)]))
    assert [record["_address"] for record in cut] == [record["_address"] for record in found[1:4]]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("blank", [0, 0.01])
def test_a_long_file(kit: SimpleNamespace, small_pieces: Callable[[int], None], line_end: str, blank: float) -> None:
    small_pieces(600_000)
    draw = random.Random(1)
    given = ["", "a", "a, b", 'say ""so""', "two\nlines", "ü" * 20, '"', ",", "\r\n", "x" * 100]
    rows = [[str(number), draw.choice(given), draw.choice(given)] for number in range(40_000)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=line_end)
    for row in [["n", "x", "y"], *rows]:
        writer.writerow(row)
        if draw.random() < blank:
            text.write(line_end)
    manifest = open_manifest(kit.object(text.getvalue().encode(), ".csv"))
    assert kit.operate(manifest, "count") == len(rows)
    found = kit.records(manifest)
    assert [[str(record["n"]), record["x"], record["y"]] for record in found] == rows
    assert {record["_address"].rpartition("#")[2] for record in found[30_000:30_002]} == {"row=30000", "row=30001"}
    # what a filter leaves has the same places; of its rows alone the other columns are cut
    for step, wanted in ((Grep("so", "y"), 'say ""so""'), (Where((("y", "==", "two\nlines"),)), "two\nlines")):
        kept = kit.records(manifest, step)
        assert [record["_address"] for record in kept] == [record["_address"] for record in found if record["y"] == wanted]
        assert [record["x"] for record in kept] == [row[1] for row in rows if row[2] == wanted]
        assert kit.operate(manifest, "count", step) == len(kept)


def test_values_that_do_not_fit_are_kept_aside_in_a_long_file(kit: SimpleNamespace) -> None:
    lines = ["n,x,b,s"] + [f"{number},{number}.5,true,text {number}" for number in range(30_000)]
    lines[25_001] = 'many,?,maybe,"a, b"'
    lines[28_001] = "1,2"
    manifest = open_manifest(kit.object("\n".join(lines).encode(), ".csv"))
    found = kit.records(manifest)
    assert len(found) == 30_000
    odd = {number: record for number, record in enumerate(found) if "_more" in record or "_error" in record}
    assert sorted(odd) == [25_000, 28_000]
    assert {key: value for key, value in odd[25_000].items() if key != "_address"} == {
        "n": None,
        "x": None,
        "b": None,
        "s": "a, b",
        "_more": {"n": "many", "x": "?", "b": "maybe"},
    }
    assert "2 fields where the header has 4" in odd[28_000]["_error"]
    assert kit.operate(manifest, "count", Where((("n", ">=", 29_990),))) == 10


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_other_encodings(kit: SimpleNamespace, encoding: str) -> None:
    data = 'name,n\nmüller,1\n"groß, klein",2\n'.encode(encoding)
    manifest = open_manifest(kit.object(data, ".csv"), encoding=encoding)
    assert [(record["name"], record["n"]) for record in kit.records(manifest)] == [("müller", 1), ("groß, klein", 2)]


def test_bytes_that_are_no_text(kit: SimpleNamespace) -> None:
    manifest = open_manifest(kit.object(b"a,b\n1,x\xffy\n2,fine\n", ".csv"))
    assert [(record["a"], record["b"]) for record in kit.records(manifest)] == [(1, "x\ufffdy"), (2, "fine")]
    assert json.dumps(manifest.schema) == json.dumps({"a": "int64", "b": "string", "_more": "json", "_error": "string"})
