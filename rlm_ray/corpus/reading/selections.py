"""Stores the places that a `filter` selected, as one small Parquet file per shard in the run directory."""

from __future__ import annotations

import io

import pyarrow
import pyarrow.parquet

from rlm_ray import storage
from rlm_ray.corpus.reading.apply import Selections
from rlm_ray.errors import InputError

SCHEMA = pyarrow.schema([("shard", pyarrow.int64()), ("pos", pyarrow.int64()), ("char", pyarrow.int64())])


def selection_uri(run_dir: str, selection: str, shard: int) -> str:
    """Return the file of one shard's part of a selection."""
    return storage.join(run_dir, "selections", selection, f"{shard:08d}.parquet")


def save_selection(run_dir: str, selection: str, shard: int, places: list[tuple[int, int]]) -> None:
    """Write the places `(position, char)` that were kept of one shard; also where there are none."""
    positions, chars = [place[0] for place in places], [place[1] for place in places]
    table = pyarrow.table({"shard": [shard] * len(places), "pos": positions, "char": chars}, schema=SCHEMA)
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer, compression="zstd")
    storage.write_bytes(selection_uri(run_dir, selection, shard), buffer.getvalue())


def selections_of(run_dir: str | None) -> Selections:
    """Return the function with which a scan reads the selections of a run."""

    def load(selection: str, shard: int) -> pyarrow.Table:
        if run_dir is None:
            raise InputError(f"Selection {selection} belongs to a run, and there is none here. Filter again.")
        data = storage.read_bytes(selection_uri(run_dir, selection, shard))
        return pyarrow.parquet.read_table(pyarrow.BufferReader(data))

    return load
