from __future__ import annotations

import datetime

import pyarrow
import pytest

from rlm_ray.errors import InputError
from rlm_ray.sandbox.outside.events import Limits
from rlm_ray.sandbox.outside.queries import Bound, QuerySandbox


def arrow(rows):
    return arrow_of(pyarrow.Table.from_pylist(rows))


def arrow_of(table):
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


@pytest.fixture(scope="module")
def tables():
    with QuerySandbox(level="strict", limits=Limits(memory=2 << 30, grace_seconds=0.5)) as found:
        yield found


ROWS = [
    {"host": "a", "n": 1, "seen": datetime.datetime(2026, 1, 2, 3)},
    {"host": "b", "n": 2, "seen": None},
    {"host": "a", "n": 5, "seen": None},
]


def test_sql_runs_over_a_table(tables):
    query = "select host, sum(n) as n, min(seen) as seen from context group by host order by host"
    assert tables.sql(query, arrow(ROWS), 20.0) == [
        {"host": "a", "n": 6, "seen": "2026-01-02T03:00:00"},
        {"host": "b", "n": 2, "seen": None},
    ]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("select nothing_like_it from context", "Binder Error"),
        ("selekt", "Parser Error"),
        ("select * from read_csv('/etc/passwd')", "disabled|Permission"),
        ("select * from read_text('/etc/hostname')", "disabled|Permission"),
        ("copy context to '/tmp/made.csv'", "disabled|Permission"),
        ("attach '/tmp/made.db'", "disabled|Permission"),
        ("install httpfs", "disabled|Permission"),
        ("load '/tmp/x.duckdb_extension'", "disabled|Permission"),
        ("set enable_external_access = true", "Cannot change|locked"),
    ],
)
def test_sql_that_cannot_work_or_must_not_is_told(tables, query, message):
    with pytest.raises(InputError, match=message):
        tables.sql(query, arrow(ROWS), 20.0)


def test_sql_that_takes_too_long_is_stopped(tables):
    with pytest.raises(InputError, match=r"took more than 1 s|was stopped"):
        tables.sql("select count(*) from range(10000000000) a, range(1000000) b where a.range % 7 = b.range % 5", arrow(ROWS), 1.0)
    assert tables.sql("select count(*) as n from context", arrow(ROWS), 20.0) == [{"n": 3}]


def test_sql_is_refused_where_it_cannot_be_shut_in():
    with pytest.raises(InputError, match="noopen"):
        QuerySandbox(level="noopen", limits=Limits())


def test_a_query_is_checked_without_running(tables):
    nothing = arrow([{"host": "a", "n": 1, "seen": None}])
    assert tables.bind("select host, sum(n) n from context where seen is null group by 1", nothing, 20.0) == Bound(
        ("host", "n", "seen"), ("host", "n")
    )
    assert tables.bind("select n as m from context", nothing, 20.0) == Bound(("n",), ("m",))
    with pytest.raises(InputError, match="single statement"):
        tables.bind("describe context; select 1", nothing, 20.0)


def test_a_large_table_comes_in_parts_and_is_read_where_it_lies(tables):
    table = pyarrow.table({"host": pyarrow.array(["a", "b", None] * 50_000).dictionary_encode(), "n": list(range(150_000))})
    data = memoryview(arrow_of(table))
    query = "select host, count(*) as n, max(n) as most from context group by host order by host nulls first"
    expected = [
        {"host": None, "n": 50_000, "most": 149_999},
        {"host": "a", "n": 50_000, "most": 149_997},
        {"host": "b", "n": 50_000, "most": 149_998},
    ]
    for cut in (7, 100_000):  # the same table again, and then one of other columns
        assert tables.sql(query, [data[:cut], data[cut:]], 20.0) == expected
    assert tables.sql("select typeof(host) as t from context limit 1", [data], 20.0) == [{"t": "VARCHAR"}]
    assert tables.sql("select * from context", arrow([{"host": 1, "other": "x"}]), 20.0) == [{"host": 1, "other": "x"}]


def test_times_to_the_nanosecond_are_texts(tables):
    whole = "timestamp_ns '2026-01-02 03:04:05"
    query = f"select {whole}.123456789' as fine, {whole}' as plain, null::timestamp_ns as none"
    (row,) = tables.sql(query, arrow(ROWS), 20.0)
    assert row == {"fine": "2026-01-02T03:04:05.123456789", "plain": "2026-01-02T03:04:05", "none": None}
