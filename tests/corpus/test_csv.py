"""CSV: what is read in blocks is what Python's csv reads, to the last quotation mark."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.reading.text.dialect import Given
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
@example(',"\na,b\n', 7, False)
def test_as_pythons_csv_reads_it(
    kit: SimpleNamespace, small_pieces: Callable[[int], None], body: str, piece: int, bom: bool
) -> None:
    small_pieces(piece)
    data = (b"\xef\xbb\xbf" if bom else b"") + b"x,y\n" + b"k,l\n" + body.encode()
    uri = kit.object(data, ".csv")
    shards = open_manifest(uri).shards
    plain = Given(",", '"', "").to_text()
    # the dialect is given: drawn bytes may look like another
    manifest = open_manifest(uri, dialect=Given(",", '"', ""))
    assert shards[0].dialect == ""
    assert manifest.shards[0].dialect == plain
    wanted = [row for row in csv.reader(io.StringIO("k,l\n" + body, "")) if row]
    found = kit.records(manifest)
    if any("not closed" in record.get("_error", "") for record in found):
        # Python's reader takes all behind an open quote into one field, without a word
        with pytest.raises(csv.Error):
            list(csv.reader(io.StringIO("k,l\n" + body, ""), strict=True))
        return
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


@pytest.mark.parametrize(
    ("data", "names", "first"),
    [
        ("id;amount;text\n1;5,50;a\n2;6,10;b\n", ["id", "amount", "text"], [1, "5,50", "a"]),
        ("id\tmessage\n1\ta, b\n2\tc\n", ["id", "message"], [1, "a, b"]),
        ("id|message\n1|a, b\n2|c\n", ["id", "message"], [1, "a, b"]),
        ("sep=;\nid;x\n1;a\n", ["id", "x"], [1, "a"]),
        ('id,message\n1,"he said \\"no\\" twice"\n2,"stop \\"now, please\\""\n', ["id", "message"], [1, 'he said "no" twice']),
        ("id\tmessage\n1\t\\N\n2\ta\\tb\n", ["id", "message"], [1, None]),
        (",level,level\n0,a,b\n", ["unnamed", "level", "level_2"], [0, "a", "b"]),
        ('path,n\n"C:\\",1\n"D:\\",2\n', ["path", "n"], ["C:\\", 1]),
    ],
)
def test_dialects_are_found(kit: SimpleNamespace, data: str, names: list[str], first: list[Any]) -> None:
    manifest = open_manifest(kit.object(data.encode(), ".csv"))
    assert list(manifest.schema)[:-2] == names
    records = kit.records(manifest)
    assert [records[0][name] for name in names] == first
    assert not any("_error" in record for record in records)
    assert manifest.reading


def test_a_quote_that_never_closes_costs_one_record(kit: SimpleNamespace) -> None:
    lines = [f"{number},message {number}" for number in range(1, 1001)]
    lines[9] = '10,"screen broken'
    lines[500] = '501,"a, b"'
    found = kit.records(open_manifest(kit.object(("id,message\n" + "\n".join(lines) + "\n").encode(), ".csv")))
    assert len(found) == 1000
    assert [number for number, record in enumerate(found) if "_error" in record] == [9]
    assert found[500]["message"] == "a, b"
    cut = kit.records(open_manifest(kit.object(b'id,message\n1,"one"\n2,"cut off he', ".csv")))
    assert ["_error" in record for record in cut] == [False, True]


def test_numbers_are_exact(kit: SimpleNamespace) -> None:
    data = b"a,b,c,d\n1234567890123456789,12345678901234567890,1.5,1\n1234567890123456788,1,1234567890123456789,2\n"
    manifest = open_manifest(kit.object(data, ".csv"))
    assert [manifest.schema[name] for name in "abcd"] == ["int64", "string", "string", "int64"]
    rows = "".join(f"{number},1.5\n" for number in range(1_200)) + "007,1234567890123456789\n"
    late = kit.records(open_manifest(kit.object(b"n,x\n" + rows.encode(), ".csv")))[-1]
    assert late["_more"] == {"n": "007", "x": "1234567890123456789"}


def test_many_columns(kit: SimpleNamespace) -> None:
    names = [f"c{number}" for number in range(20_000)]
    data = ",".join(names) + "\n" + ",".join("1" for _ in names) + "\n"
    record = kit.records(open_manifest(kit.object(data.encode(), ".csv")))[0]
    assert record["c19999"] == 1
    assert len(record) == 20_001


def test_wide_records_are_read_in_work_that_grows_with_their_columns(kit: SimpleNamespace, tmp_path: Path) -> None:
    asked = [0]
    columns = polars.DataFrame.columns

    def counting(frame: polars.DataFrame) -> list[str]:
        asked[0] += 1
        return columns.fget(frame)  # type: ignore[attr-defined]

    def names_listed(width: int) -> int:
        path = tmp_path / f"{width}.csv"
        path.write_text(",".join(f"c{number}" for number in range(width)) + "\n" + ",".join(map(str, range(width))) + "\n")
        manifest = open_manifest(str(path))
        asked[0] = 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(polars.DataFrame, "columns", property(counting))
            (record,) = kit.records(manifest)
        assert record[f"c{width - 1}"] == width - 1
        return asked[0]

    # each of them lists all names: as many as there are columns would be quadratic
    assert names_listed(300) == names_listed(30)


def test_what_is_no_number_is_one_among_numbers(kit: SimpleNamespace) -> None:
    rows = kit.records(open_manifest(kit.object(b"x,y\n1.5,NaN\nNaN,a\ninf,b\n-Infinity,c\n1e400,d\n", ".csv")))
    assert [repr(row["x"]) for row in rows] == ["1.5", "nan", "inf", "-inf", "None"]
    assert [row["y"] for row in rows] == ["NaN", "a", "b", "c", "d"]
    assert rows[4]["_more"] == {"x": "1e400"}
