"""Holds tables of other readers' public test data against what those readers say of them. Outside CI: it needs the data.

``python -m tests.public_tables DELTA_KERNEL_RS DUCKDB_ICEBERG [-v]`` takes check-outs of those two repositories, with the archives
below ``kernel/tests`` unpacked beside themselves, and prints the lines of the table in docs/data.md; with ``-v`` each table's.

A Delta table is held against the Parquet files that its writers expect of it (as `rlm_ray` reads plain Parquet), or else against
the number of rows that delta-rs counts; an Iceberg table against what pyiceberg scans.
"""

from __future__ import annotations

import collections
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rlm_ray
from rlm_ray.corpus.meaning.readable import readable

_MOST_ROWS = 5_000


@dataclass(frozen=True)
class Outcome:
    """What came of one table.

    Attributes
    ----------
    name : str
    rows : int or None
        None where it was refused.
    verdict : str
        `equal`, `count` (only the number of rows was compared), `alone` (no other reader read it), `differs`, or the reason.
    """

    name: str
    rows: int | None
    verdict: str


def _values(records: Iterable[dict[str, Any]]) -> collections.Counter[str]:
    return collections.Counter(
        json.dumps({name: value for name, value in record.items() if name != "_address"}, sort_keys=True) for record in records
    )


def _outcome(name: str, uri: str, expected: collections.Counter[str] | None, count: int | None) -> Outcome:
    try:
        corpus = rlm_ray.open(uri)
        rows = corpus.count()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is printed
        return Outcome(name, None, str(error))
    if expected is not None and rows <= _MOST_ROWS:
        return Outcome(name, rows, "equal" if _values(corpus.head(_MOST_ROWS)) == expected else "differs")
    if count is not None:
        return Outcome(name, rows, "count" if count == rows else "differs")
    return Outcome(name, rows, "alone")


def _delta(root: Path) -> Iterator[Outcome]:
    import deltalake

    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        place = next((path for path in (folder, folder / "delta", folder / "table") if (path / "_delta_log").is_dir()), None)
        if place is None or folder.name.startswith("300k"):
            continue
        files = [str(path) for path in (folder / "expected").rglob("*.parquet")]
        expected, count = None, None
        if files:
            plain = rlm_ray.open(*files, format="parquet")
            count = plain.count()
            expected = _values(plain.head(_MOST_ROWS)) if count <= _MOST_ROWS else None
        else:
            try:
                count = deltalake.DeltaTable(place).to_pyarrow_dataset().count_rows()
            except Exception:  # noqa: BLE001 - a reader that does not read it
                count = None
        yield _outcome(folder.name, f"delta+{place}", expected, count)


def _iceberg(root: Path) -> Iterator[Outcome]:
    from pyiceberg.table import StaticTable

    os.chdir(root)  # the tables name their files from here
    for folder in sorted({path.parent for path in Path("data/persistent").rglob("*metadata.json*") if path.is_file()}):
        found = sorted(folder.glob("*metadata.json*"), key=lambda path: (len(path.name) if path.name[0] == "v" else 0, path.name))
        hint = folder / "version-hint.text"
        hinted = [path for path in found if hint.is_file() and path.name.startswith(f"v{hint.read_text().strip()}.")]
        file = (hinted or found[-1:])[0]
        try:
            scanned = StaticTable.from_metadata(str(file)).scan().to_arrow()
            columns = {name: readable(scanned.column(name).combine_chunks()) for name in scanned.column_names if scanned.num_rows}
            rows = [{name: values[row] for name, values in columns.items()} for row in range(scanned.num_rows)]
            expected, count = _values(rows), scanned.num_rows
        except Exception:  # noqa: BLE001 - a reader that does not read it
            expected, count = None, None
        yield _outcome(str(folder.parent).removeprefix("data/persistent/"), f"iceberg+{file.resolve()}", expected, count)


def _line(name: str, outcomes: list[Outcome], other: str) -> str:
    read = [outcome for outcome in outcomes if outcome.rows is not None]
    by = collections.Counter(outcome.verdict for outcome in read)
    rows = sum(outcome.rows or 0 for outcome in read)
    said = f"{by['equal']} by values and {by['count']} by count {other}, {by['alone']} read here alone, {by['differs']} other"
    return f"| {name} | {len(read)} of {len(outcomes)} | {rows:,} | {said} | {len(outcomes) - len(read)} |"


def main(delta: str, iceberg: str, *flags: str) -> None:
    """Print the lines."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    tests = Path(delta).resolve() / "kernel" / "tests"
    parts = [
        ("delta-kernel-rs, golden tables", [*_delta(tests / "golden_data")], "to the expected files"),
        ("delta-kernel-rs, test tables", [*_delta(tests / "data")], "to delta-rs"),
        ("duckdb-iceberg, persistent tables", [*_iceberg(Path(iceberg).resolve())], "to pyiceberg"),
    ]
    for name, outcomes, other in parts:
        print(_line(name, outcomes, other))
        for outcome in outcomes if "-v" in flags else []:
            print(f"    {outcome.name}: {outcome.rows}, {outcome.verdict:.200}")


if __name__ == "__main__":
    main(*sys.argv[1:])
