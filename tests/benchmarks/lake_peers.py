"""The peers and limits of `lake.py`: bare engines on one thread, commands, and plain downloads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

LITERAL, REGEX = "refused by peer 77", r"timeout after 9\d\d ms .* node-1[0-3]"
FORMATS = {"parquet": "parquet", "text": "log", "gzip": "log.gz", "jsonl": "jsonl", "csv": "csv"}
SQL = "select host, count(*) as n, sum(took) as took, max(took) as most from context group by host"
SQL_COMBINE = "select host, sum(n) as n, sum(took) as took, max(most) as most from context group by host"
Case = dict[str, Any]


def polars_way(case: Case) -> Callable[[], Any]:
    """Bare polars, without addresses of text and without versions."""
    import polars

    kind, verb = case["kind"], case["verb"]
    column = polars.col("message" if kind != "text" else "line")
    where = {
        "where": polars.col("level") == "ERROR",
        "literal": column.str.contains(LITERAL, literal=True),
        "regex": column.str.contains(REGEX),
    }

    def scan() -> polars.LazyFrame:
        if kind == "parquet":
            options = json.loads(os.environ["LAKE_OPTIONS"]) if case["uri"].startswith("s3://") else None
            return polars.scan_parquet(case["uri"] + "/*.parquet", row_index_name="row", storage_options=options)
        reader = {"jsonl": polars.scan_ndjson, "csv": polars.scan_csv}[kind]
        return reader(case["uri"] + f"/*.{FORMATS[kind]}")

    def run() -> Any:
        frame = scan()
        if verb in ("where", "count"):
            frame = frame.filter(where[verb]) if verb in where else frame
            return frame.select(polars.len()).collect(engine="streaming").item()
        if verb in ("count_by", "sql"):
            took = [polars.col("took").sum(), polars.col("took").max().alias("most")] if verb == "sql" else []
            return frame.group_by("host").agg(polars.len(), *took).collect(engine="streaming").height
        return frame.filter(where[verb]).collect(engine="streaming").height

    return run


def duckdb_way(case: Case) -> Callable[[], Any]:
    """Bare duckdb on one thread."""
    import duckdb

    reader = {"parquet": "read_parquet", "jsonl": "read_json", "csv": "read_csv"}[case["kind"]]
    source = f"{reader}('{case['uri']}/*.{FORMATS[case['kind']]}')"
    queries = {
        "count": f"select count(*) from {source}",
        "where": f"select count(*) from {source} where level = 'ERROR'",
        "literal": f"select count(message) from (select * from {source} where contains(message, '{LITERAL}'))",
        "regex": f"select count(message) from (select * from {source} where regexp_matches(message, '{REGEX}'))",
        "count_by": f"select count(*) from (select host, count(*) from {source} group by host)",
        # all of it is asked for: behind a bare count it would not be computed
        "sql": f"select count(*), sum(n), sum(took), max(most) from ({SQL.replace('context', source)})",
        # all columns are asked for: a bare count would not read them
        "sample": f"select count(columns(*)) from (select * from {source} using sample reservoir(100 rows) repeatable (1))",
    }
    connection = duckdb.connect(config={"threads": case["threads"]})
    return lambda: connection.execute(queries[case["verb"]]).fetchall()[0][0]


def arrow_way(case: Case) -> Callable[[], Any]:
    """pyarrow.dataset on one thread."""
    import pyarrow.compute as pc
    import pyarrow.dataset

    data, threads = pyarrow.dataset.dataset(case["uri"], format="parquet"), case["threads"] > 1
    if threads:
        pyarrow.set_cpu_count(case["threads"])
    filters = {
        "where": pc.field("level") == "ERROR",
        "literal": pc.match_substring(pc.field("message"), LITERAL),
        "regex": pc.match_substring_regex(pc.field("message"), REGEX),
    }
    verb = case["verb"]
    if verb in ("where", "count"):
        return lambda: data.count_rows(filter=filters.get(verb), use_threads=threads)
    if verb == "count_by":
        return lambda: data.to_table(columns=["host"], use_threads=threads).group_by("host").aggregate([([], "count_all")]).num_rows
    return lambda: data.to_table(filter=filters[verb], use_threads=threads).num_rows


def python_way(case: Case) -> Callable[[], Any]:
    """What a person writes with pyarrow and a loop, on one thread."""
    import pyarrow.dataset

    def run() -> int:
        found: dict[str, int] = {}
        for batch in pyarrow.dataset.dataset(case["uri"], format="parquet").to_batches(use_threads=False):
            for record in batch.to_pylist():
                found[record["level"]] = found.get(record["level"], 0) + 1
        return sum(found.values())

    return run


def daft_way(case: Case) -> Callable[[], Any]:
    """Bare daft; its threads are those that the process may use."""
    import daft

    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: case["threads"]])
    column, verb = daft.col("message"), case["verb"]

    def run() -> int:
        frame = daft.read_parquet(case["uri"] + "/*.parquet")
        if verb in ("count_by", "sql"):
            took = [daft.col("took").sum(), daft.col("took").max().alias("most")] if verb == "sql" else []
            return len(frame.groupby("host").agg(daft.col("level").count().alias("n"), *took).collect())
        wheres = {"where": daft.col("level") == "ERROR", "literal": column.contains(LITERAL), "regex": column.regexp(REGEX)}
        frame = frame.where(wheres[verb]) if verb in wheres else frame
        return int(frame.count_rows() if verb in ("count", "where") else len(frame.collect()))

    return run


def command_way(*words: str) -> Callable[[Case], Callable[[], Any]]:
    """A command over the files of a folder; what it prints is thrown away."""

    def make(case: Case) -> Callable[[], Any]:
        if shutil.which(words[0]) is None:
            raise ImportError(words[0])
        files = sorted(str(path) for path in Path(case["uri"]).iterdir())
        # grep stops at the first line that it finds where nobody reads what it prints
        out = subprocess.PIPE if words[0] in ("grep", "rg") else subprocess.DEVNULL
        return lambda: subprocess.run([*words, *files], stdout=out, check=False).returncode

    return make


def listing_way(case: Case) -> Callable[[], Any]:
    """A bare listing: what opening costs at least."""
    if not case["uri"].startswith("s3://"):
        return lambda: sum(
            os.stat(os.path.join(base, name)).st_size > 0 for base, _, names in os.walk(case["uri"]) for name in names
        )
    import pyarrow.fs

    filesystem = arrow_s3()
    return lambda: len(filesystem.get_file_info(pyarrow.fs.FileSelector(case["uri"][5:], recursive=True)))


def footers_way(case: Case) -> Callable[[], Any]:
    """All footers, with pyarrow."""
    import pyarrow.parquet

    return lambda: sum(pyarrow.parquet.read_metadata(path).num_rows for path in Path(case["uri"]).iterdir())


def download_way(case: Case) -> Callable[[], Any]:
    """The same bytes by two parallel ranged reads of 16 MB, thrown away: the limit of this store."""
    from concurrent.futures import ThreadPoolExecutor

    import pyarrow.fs

    filesystem = arrow_s3()
    found = filesystem.get_file_info(pyarrow.fs.FileSelector(case["uri"][5:]))
    block = 16 << 20
    ranges = [(info.path, at, min(block, info.size - at)) for info in found for at in range(0, info.size, block)]

    def read(piece: tuple[str, int, int]) -> int:
        with filesystem.open_input_file(piece[0]) as file:
            return len(file.read_at(piece[2], piece[1]))

    def run() -> int:
        with ThreadPoolExecutor(2) as pool:
            return sum(pool.map(read, ranges))

    return run


def arrow_s3() -> Any:
    """The C++ file system for the store that the environment names."""
    import pyarrow.fs

    return pyarrow.fs.S3FileSystem(
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=os.environ["AWS_ENDPOINT_URL"].partition("//")[2],
        scheme="http",
        region="us-east-1",
    )


#: (kind, verb) -> who else does it. On S3, those of `REMOTE` instead.
TABLES = {"polars": polars_way, "duckdb": duckdb_way}
LAKES = TABLES | {"pyarrow": arrow_way, "daft": daft_way}
LOCAL: dict[tuple[str, str], dict[str, Callable[[Case], Callable[[], Any]]]] = {
    ("many", "open"): {"os.walk and stat": listing_way},
    ("parquet", "open"): {"pyarrow footers": footers_way},
    ("text", "open"): {},
    **{("parquet", verb): LAKES for verb in ("count", "where", "literal", "regex", "count_by")},
    ("parquet", "sample"): {"duckdb": duckdb_way},
    ("parquet", "sql"): TABLES | {"daft": daft_way},
    ("parquet", "aggregate"): {"python": python_way},
    ("parquet", "chunks"): {},
    ("parquet", "cut"): {},
    ("text", "count"): {"wc -l": command_way("wc", "-l"), "cat": command_way("cat")},
    ("text", "literal"): {
        "rg -F": command_way("rg", "-j1", "-c", "-F", LITERAL),
        "grep -F": command_way("grep", "-c", "-F", LITERAL),
    },
    ("text", "regex"): {"rg": command_way("rg", "-j1", "-c", REGEX), "grep -P": command_way("grep", "-c", "-P", REGEX)},
    ("text", "sample"): {},
    ("text", "chunks"): {},
    ("text", "cut"): {"cat": command_way("cat")},
    ("gzip", "literal"): {"zcat": command_way("zcat")},
    **{(kind, verb): TABLES for kind in ("jsonl", "csv") for verb in ("count", "where", "literal", "count_by")},
}
REMOTE: dict[tuple[str, str], dict[str, Callable[[Case], Callable[[], Any]]]] = {
    ("many", "open"): {"bare listing": listing_way},
    ("parquet", "open"): {},
    ("parquet", "where"): {"polars": polars_way},
    ("parquet", "regex"): {"polars": polars_way, "download": download_way},
    ("parquet", "count_by"): {"polars": polars_way},
    ("text", "count"): {"download": download_way},
    ("text", "literal"): {"download": download_way},
    ("text", "regex"): {"download": download_way},
    ("text", "lookup"): {},
    ("jsonl", "where"): {"download": download_way},
}
