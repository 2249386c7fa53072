"""Any plan over any corpus gives what a plain reading of the plan in Python gives."""

from __future__ import annotations

import datetime
import json
import re
from types import SimpleNamespace
from typing import Any

import pyarrow
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.planning import shard_choice
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.handle.plan import Between, Grep, Select, Slice, Split, Step, Where

_WORDS = ["alpha", "beta", "gamma delta", "Ünï", "error 42", "x\ny", "x\r\n\r\ny z", "", "  ", "a\n\n\nb\n"]
_texts = st.lists(st.sampled_from(_WORDS), max_size=4).map(" ".join)
_days = st.integers(0, 3000).map(lambda days: datetime.datetime(2026, 1, 1) + datetime.timedelta(hours=days))
_rows = st.lists(
    st.fixed_dictionaries(
        {
            "n": st.none() | st.integers(-3, 3),
            "x": st.none() | st.floats(-2, 2, allow_nan=False).map(lambda value: round(value, 1)),
            "text": st.none() | _texts,
            "host": st.none() | st.sampled_from(["h1", "h2"]),
            "ok": st.none() | st.booleans(),
            "ts": st.none() | _days,
        }
    ),
    min_size=1,
    max_size=25,
)
_SCHEMA = pyarrow.schema(
    [("n", "int32"), ("x", "double"), ("text", "string"), ("host", "string"), ("ok", "bool"), ("ts", pyarrow.timestamp("us"))]
)

# -- the oracle: records are (place, span start, value of the split column, dict)


def _holds(value: Any, operator: str, wanted: Any) -> bool:
    if operator == "in":
        return value in wanted
    if operator == "not in":
        return value is not None and value not in wanted
    if wanted is None:
        return (value is None) == (operator == "==")
    if value is None:
        return False
    return {
        "==": value == wanted,
        "!=": value != wanted,
        "<": value < wanted,
        "<=": value <= wanted,
        ">": value > wanted,
        ">=": value >= wanted,
    }[operator]


def _found(record: dict[str, Any], step: Grep) -> bool:
    pattern = re.compile(step.pattern, re.IGNORECASE if step.ignore_case else 0)
    names = [step.column] if step.column else list(record)
    return any(record[name] is not None and pattern.search(_text(record[name])) for name in names) != step.invert


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else value.isoformat() if isinstance(value, datetime.datetime) else repr(value)


def _spans(text: str, step: Split) -> list[tuple[int, int]]:
    separator = {"line": r"\r?\n", "paragraph": r"\r?\n(?:[ \t]*\r?\n)+"}.get(step.by, step.by)
    spans, at = [], 0
    for match in re.finditer(separator, text):
        spans.append((at, match.start()))
        at = match.end()
    spans.append((at, len(text)))
    return [(start, stop) for start, stop in spans if text[start:stop].strip()]


def _plain(records: list[tuple[tuple[int, int, int], dict[str, Any]]], steps: list[Step]) -> Any:
    for step in steps:
        if isinstance(step, Select):
            records = [(place, {name: record[name] for name in step.columns}) for place, record in records]
        elif isinstance(step, Where):
            records = [(p, r) for p, r in records if all(_holds(r[c], operator, value) for c, operator, value in step.conditions)]
        elif isinstance(step, Grep):
            records = [(place, record) for place, record in records if _found(record, step)]
        elif isinstance(step, Slice):
            records = records[step.start : step.stop]
        elif isinstance(step, Between):
            records = [
                (place, record)
                for place, record in records
                if (step.start is None or place >= step.start) and (step.stop is None or place < step.stop)
            ]
        elif isinstance(step, Split):
            records = [
                ((place[0], place[1], place[2] + start), record | {step.column: record[step.column][start:stop]})
                for place, record in records
                if record[step.column] is not None
                for start, stop in _spans(record[step.column], step)
            ]
    return records


def _read(kit: SimpleNamespace, manifest: Manifest, steps: list[Step]) -> list[dict[str, Any]]:
    return [_shown(record) for record in kit.records(manifest, *kit.local(manifest, steps))]


def _shown(record: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime.datetime) else value
        for name, value in record.items()
        if name not in ("_address",)
    }


# -- plans

_conditions = st.one_of(
    st.tuples(st.just("n"), st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), st.integers(-2, 2)),
    st.tuples(st.sampled_from(["n", "x", "text", "ok", "ts", "host"]), st.sampled_from(["==", "!="]), st.none()),
    st.tuples(st.just("n"), st.sampled_from(["in", "not in"]), st.lists(st.none() | st.integers(-2, 2), max_size=3).map(tuple)),
    st.tuples(st.just("x"), st.sampled_from(["<", ">="]), st.integers(-1, 1) | st.sampled_from([-0.5, 0.1])),
    st.tuples(st.just("host"), st.sampled_from(["==", "!=", "<"]), st.sampled_from(["h1", "h2", "h3"])),
    st.tuples(st.just("ok"), st.sampled_from(["==", "!="]), st.booleans()),
)
_patterns = st.sampled_from(["alpha", "a b", r"error \d+", "^beta", "z$", "ü", "h1", r"(alpha|gamma) ", "[x-z]", ""])
_greps = st.builds(Grep, _patterns, column=st.sampled_from([None, "text", "host"]), ignore_case=st.booleans(), invert=st.booleans())
_slices = st.tuples(st.integers(0, 12), st.none() | st.integers(0, 12)).map(
    lambda ends: Slice(ends[0], None if ends[1] is None else max(ends))
)
_places = st.tuples(st.integers(0, 3), st.integers(0, 30), st.integers(0, 9))
_betweens = st.builds(Between, st.none() | _places, st.none() | _places)
_splits = st.builds(Split, st.just("text"), st.sampled_from(["line", "paragraph", " ", "[ae]+|\\d"]))
_steps = st.lists(st.one_of(st.builds(Where, st.tuples(_conditions)), _greps, _slices, _betweens, _splits), max_size=4)


@given(rows=_rows, files=st.integers(1, 3), group=st.integers(1, 9), shard_bytes=st.sampled_from([1, 500, 1 << 20]), steps=_steps)
def test_plans_over_parquet(
    kit: SimpleNamespace, rows: list[dict[str, Any]], files: int, group: int, shard_bytes: int, steps: list[Step]
) -> None:
    size = -(-len(rows) // files)
    tables = [pyarrow.Table.from_pylist(rows[at : at + size], schema=_SCHEMA) for at in range(0, len(rows), size)]
    folder = kit.folder()
    uris = [kit.parquet(table, f"{folder}/{number}.parquet", row_group_size=group) for number, table in enumerate(tables)]
    manifest = open_manifest(folder, shard_bytes=shard_bytes)
    owner = {uri: [shard for shard in manifest.shards if shard.uri == uri] for uri in uris}
    placed = []
    for uri, table in zip(uris, tables, strict=True):
        for position, row in enumerate(table.to_pylist()):
            (shard,) = [shard for shard in owner[uri] if shard.start <= position < shard.stop]
            placed.append(((shard.index, position, 0), row))
    expected = _plain(placed, steps)
    found = kit.records(manifest, *kit.local(manifest, steps))
    assert [_shown(record) for record in found] == [_shown(record) for _, record in expected]
    addresses = [Address.parse(record["_address"]) for record in found]
    assert [address.start for address in addresses] == [place[1] for place, _ in expected]
    if any(isinstance(step, Split) for step in steps):
        for address, (place, record) in zip(addresses, expected, strict=True):
            assert address.column == "text"
            assert address.chars == (place[2], place[2] + len(record["text"]))
            whole = tables[uris.index(address.object)].column("text")[address.start].as_py()
            assert whole[address.chars[0] : address.chars[1]] == record["text"]
    assert kit.operate(manifest, "count", *steps) == len(expected)
    local = kit.local(manifest, steps)
    shards = shard_choice.shards_for(bind(local, manifest.schema), manifest)
    for shard, known in zip(shards, shard_choice.known_counts(bind(local, manifest.schema), shards), strict=True):
        assert known is None or known == sum(place[0] == shard.index for place, _ in expected)


@given(rows=_rows, shard_bytes=st.sampled_from([1, 60, 500, 1 << 20]), steps=_steps)
def test_plans_over_jsonl(kit: SimpleNamespace, rows: list[dict[str, Any]], shard_bytes: int, steps: list[Step]) -> None:
    rows = [{name: value for name, value in row.items() if name != "ts"} for row in rows]
    # one line that names every type, so that the sample has them
    rows = [{"n": 1, "x": 0.5, "text": "alpha", "host": "h1", "ok": True}, *rows]
    steps = [step for step in steps if not isinstance(step, Where) or step.conditions[0][0] != "ts"]
    lines = [json.dumps(row).encode() + b"\n" for row in rows]
    manifest = open_manifest(kit.object(b"".join(lines), ".jsonl"), shard_bytes=shard_bytes)
    placed, at = [], 0
    for row, line in zip(rows, lines, strict=True):
        placed.append(((at // shard_bytes, at, 0), row))
        at += len(line)
    expected = _plain(placed, steps)
    assert _read(kit, manifest, steps) == [record for _, record in expected]
    assert kit.operate(manifest, "count", *steps) == len(expected)


@given(rows=_rows, steps=_steps, n=st.integers(1, 7), max_bytes=st.sampled_from([1, 100, 1 << 20]))
def test_pages_share_the_records_out(
    kit: SimpleNamespace, rows: list[dict[str, Any]], steps: list[Step], n: int, max_bytes: int
) -> None:
    folder = kit.folder()
    kit.parquet(pyarrow.Table.from_pylist(rows, schema=_SCHEMA), f"{folder}/a.parquet", row_group_size=4)
    manifest = open_manifest(folder, shard_bytes=1)
    everything = kit.records(manifest, *kit.local(manifest, steps))
    found: list[Any] = []
    after = None
    while True:
        page = kit.operate(manifest, "page", *steps, *([Between(tuple(after))] if after else []), n=n, max_bytes=max_bytes)
        assert len(page["records"]) <= n
        found += page["records"]
        after = page["after"]
        if after is None:
            break
        assert page["records"]
    assert found == everything
    assert kit.operate(manifest, "head", *steps, n=n) == everything[:n]
