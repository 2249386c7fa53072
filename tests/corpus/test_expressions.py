"""What cannot work is said before anything is read."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.corpus.meaning.searching import may_be_found
from rlm_ray.corpus.meaning.types import arrow_type, is_flat, type_name, unite
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.planning.expressions import check_pattern
from rlm_ray.errors import InputError
from rlm_ray.handle.plan import Grep, Select, Split, Step, Where

_SCHEMA = {
    "n": "int64",
    "ok": "bool",
    "ts": "timestamp[us]",
    "day": "date32[day]",
    "text": "string",
    "tags": "list<element: string>",
}


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(?=a)", "look-around"),
        ("(?<!a)b", "look-around"),
        (r"(a)\1", "backreferences"),
        ("[", "unclosed character class"),
        ("a{2,1}", "invalid repetition"),
        ("(a", "unclosed group"),
        ("a{1000}{1000}{1000}", "size limit"),
        ("*", "repetition operator missing"),
    ],
)
def test_patterns_that_do_not_compile(pattern: str, said: str) -> None:
    for ignore_case in (False, True):
        with pytest.raises(InputError) as refused:
            check_pattern(pattern, ignore_case)
        message = str(refused.value)
        assert said in message
        assert "no look-around, no back-references" in message
        assert len(message) < 400


@pytest.mark.parametrize("pattern", [r"timeout after \d+", "(?i)a|B", r"\p{Greek}", "(?x) a b # c", "", "ü", r"\bword\b", "^$"])
def test_patterns_that_compile(pattern: str) -> None:
    check_pattern(pattern)
    check_pattern(pattern, ignore_case=True)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (Where((("level", "==", "x"),)), "no column 'level'. Columns: n (int64), ok (bool), ts"),
        (Where((("n", "==", "x"),)), "Column 'n' is int64 and cannot be compared with 'x' (str). Give a number."),
        (Where((("n", "in", (1, "x")),)), "cannot be compared with 'x'"),
        (Where((("n", "==", True),)), "cannot be compared with True"),
        (Where((("n", "<", None),)), "Compare with == or != None"),
        (Where((("ok", "==", 1),)), "Give True or False"),
        (Where((("text", ">", 5),)), "Give a text"),
        (Where((("ts", "==", "yesterday"),)), "Write '2026-01-31 12:00:00'"),
        (Where((("ts", "==", 17),)), "Give a time such as"),
        (Where((("day", "==", "31.1.2026"),)), "Write '2026-01-31'"),
        (Grep("x", column="nope"), "no column 'nope'"),
        (Grep("(?=x)"), "look-around"),
        (Split("n"), "is int64, not text"),
        (Split("nope"), "no column 'nope'"),
        (Split("text", "x*"), "also matches the empty text"),
        (Split("text", "("), "unclosed group"),
        (Select(("n", "nope")), "no column 'nope'"),
    ],
)
def test_steps_that_do_not_fit(step: Step, said: str) -> None:
    with pytest.raises(InputError) as refused:
        bind([step], _SCHEMA)
    assert said in str(refused.value)


def test_columns_after_a_select() -> None:
    assert bind([Select(("text", "n"))], _SCHEMA).columns == {"text": "string", "n": "int64"}
    with pytest.raises(InputError, match="no column 'ok'"):
        bind([Select(("text",)), Where((("ok", "==", True),))], _SCHEMA)
    with pytest.raises(InputError, match="No column can hold 'x'"):
        bind([Select(("n",)), Grep("x")], _SCHEMA)
    result = {"label": "string", "_address": "string", "_error": "string"}
    assert bind([Select(("label",)), Where((("_error", "==", None),))], result).columns == result


def test_spans_of_two_columns_are_refused() -> None:
    schema = {"a": "string", "b": "string"}
    bind([Split("a"), Split("a", "line")], schema)
    with pytest.raises(InputError, match="Split 'a' further"):
        bind([Split("a"), Split("b")], schema)


@pytest.mark.parametrize(
    ("pattern", "ignore_case", "found"),
    [
        ("a+b", False, ["aab"]),
        (r"a\+b", False, ["a+b"]),
        ("A", True, ["a+b", "aab", "x.y a", "line\nbreak"]),
        (".", False, ["a+b", "aab", "x.y a", "É", "line\nbreak"]),
        (r"x\.y", False, ["x.y a"]),
        ("é", True, ["É"]),
        ("x|break", False, ["x.y a", "line\nbreak"]),
        ("X|BREAK", True, ["x.y a", "line\nbreak"]),
        ("^break", False, []),
        ("(?m)^break", False, ["line\nbreak"]),
        ("", False, ["a+b", "aab", "x.y a", "É", "line\nbreak", ""]),
    ],
)
def test_what_a_search_finds(kit: SimpleNamespace, pattern: str, ignore_case: bool, found: list[str]) -> None:
    import pyarrow

    texts = ["a+b", "aab", "x.y a", "É", "line\nbreak", "", None]
    manifest = open_manifest(kit.parquet(pyarrow.table({"text": texts}), f"{kit.folder()}/a.parquet"))
    assert [record["text"] for record in kit.records(manifest, Grep(pattern, ignore_case=ignore_case))] == found
    rest = [record["text"] for record in kit.records(manifest, Grep(pattern, ignore_case=ignore_case, invert=True))]
    assert rest == [text for text in texts if text not in found]


@pytest.mark.parametrize(
    ("left", "right", "both"),
    [
        ("uint8", "int8", "int16"),
        ("uint64", "int64", "json"),
        ("int32", "float", "double"),
        ("float", "double", "double"),
        ("decimal128(10, 2)", "decimal128(5, 4)", "decimal128(12, 4)"),
        ("decimal128(10, 2)", "int64", "decimal128(22, 2)"),
        ("decimal128(10, 2)", "double", "double"),
        ("decimal128(20, 2)", "float", "decimal"),
        ("decimal128(38, 2)", "int8", "decimal128(38, 2)"),
        ("decimal128(38, 0)", "decimal128(38, 38)", "decimal"),
        ("decimal", "int8", "decimal"),
        ("timestamp[s]", "timestamp[us]", "timestamp[us]"),
        ("timestamp[ms]", "timestamp[ns]", "timestamp"),
        ("timestamp[ms, tz=UTC]", "timestamp[ns, tz=Europe/Berlin]", "timestamptz"),
        ("timestamptz", "timestamp[ns, tz=UTC]", "timestamptz"),
        ("timestamp", "timestamptz", "json"),
        ("halffloat", "float", "float"),
        ("timestamp[us, tz=UTC]", "timestamp[us, tz=Europe/Berlin]", "timestamp[us, tz=UTC]"),
        ("timestamp[us]", "timestamp[us, tz=UTC]", "json"),
        ("date32[day]", "timestamp[us]", "timestamp[us]"),
        ("bool", "int64", "json"),
        ("list<element: int64>", "list<element: string>", "json"),
        ("null", "list<element: string>", "list<element: string>"),
    ],
)
def test_types_that_unite(left: str, right: str, both: str) -> None:
    assert unite(left, right) == unite(right, left) == both
    assert unite(both, left) == both or both == "json"


def test_flat_types_have_the_name_of_their_arrow_type() -> None:
    import pyarrow as pa

    kinds: list[Any] = [pa.int8(), pa.uint64(), pa.float32(), pa.bool_(), pa.string(), pa.binary(), pa.date32(), pa.null()]
    kinds += [pa.timestamp("ns"), pa.timestamp("us", "UTC"), pa.time64("ns"), pa.duration("us"), pa.decimal128(38, 10)]
    for kind in kinds:
        assert arrow_type(type_name(kind)) == kind
    for nested in (pa.list_(pa.int8()), pa.struct([("a", pa.int8())]), pa.map_(pa.string(), pa.int8())):
        assert not is_flat(type_name(nested))


@pytest.mark.parametrize(
    ("pattern", "kind", "may"),
    [
        ("ERROR", "int64", False),
        (r"\b500\b", "int64", True),
        ("(?i)error|5", "int64", True),
        ("(?i)(error|fail)", "int64", False),
        ("(?P<code>err)?", "int64", True),
        ("(?<code>err)1", "int64", False),
        ("erro?r{0,2}1+", "int64", False),
        ("(e r 1)(?x)", "int64", True),
        ("e*5", "int64", True),
        ("[a-z&&[^x]]5", "int64", True),
        ("[]x]b", "int64", False),
        (r"\p{Greek}x", "int64", False),
        (r"\x41x", "int64", False),
        ("1e+16", "double", True),
        ("nan", "double", True),
        ("2026-01-31T12", "timestamp[us]", True),
        ("x", "timestamp[us]", False),
        ("true", "bool", True),
        ("fault", "bool", False),
        ("x", "binary", True),
    ],
)
def test_where_a_pattern_may_be_found(pattern: str, kind: str, may: bool) -> None:
    assert may_be_found(pattern, kind) is may


@given(st.from_regex(r"(\(\?i\))?([-a-f0-9.]|\\d|\[0-9\]|\([0-9a]\|[ef]\)|[a5][?*+]){1,6}", fullmatch=True), st.integers())
def test_no_number_that_a_pattern_finds_is_left_out(pattern: str, number: int) -> None:
    if re.search(pattern, str(number)):
        assert may_be_found(pattern, "int64")
