"""Arrow batches as JSON-able records: what a verb returns to root code and what a prompt shows."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import polars
import pyarrow

from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.meaning.readable import interval_text, readable
from rlm_ray.corpus.meaning.types import is_flat

_PLACES = ("_pos", "_end", "_char", "_char_end")


def to_records(
    batch: pyarrow.RecordBatch, shard: Shard, schema: Mapping[str, str], span: str | None = None
) -> list[dict[str, Any]]:
    """Return a scan's batch as dicts, each with its `_address`.

    Times are ISO texts (with a zone: in UTC), decimals texts (exact), bytes text where they are UTF-8 and else `base64:…`;
    nested columns are lists and dicts. `_more` and `_error` are left out where they are
    null, except in the results of sub-calls.

    Parameters
    ----------
    span : str, optional
        The column that was split.
    """
    names, optional = _shown(batch, shard)
    columns = [column_values(batch.column(name), schema.get(name, "string")) for name in names]
    addresses = batch_addresses(batch, shard, span).to_list()
    records = []
    for index, address in enumerate(addresses):
        record = {"_address": address}
        for name, column in zip(names, columns, strict=True):
            value = column[index]
            if value is not None or name not in optional:
                record[name] = value
        records.append(record)
    return records


def to_json(batch: pyarrow.RecordBatch, shard: Shard, schema: Mapping[str, str], span: str | None = None) -> bytes:
    """Return what `to_records` does as a JSON array, for who only passes it on: some ten times faster where all columns are flat.

    Parameters
    ----------
    span : str, optional
        The column that was split.
    """
    names, optional = _shown(batch, shard)
    series = [batch_addresses(batch, shard, span).alias("_address")]
    for name in names:
        array = batch.column(name)
        if name in optional and array.null_count == len(array):
            continue
        column = None if name in optional else _flat_column(name, array, schema.get(name, "string"))
        if column is None:
            return json.dumps(to_records(batch, shard, schema, span), ensure_ascii=False).encode("utf-8", "replace")
        series.append(column)
    written = io.BytesIO()
    polars.DataFrame(series).write_json(written)
    data = written.getvalue()
    try:
        data.decode()
    except UnicodeDecodeError:  # as in `_texts`
        return data.decode(errors="replace").encode()
    return data


def _shown(batch: pyarrow.RecordBatch, shard: Shard) -> tuple[list[str], tuple[str, ...]]:
    """The columns that a record shows besides its address, and those that are left out where they are null."""
    names = [name for name in batch.schema.names if name not in (*_PLACES, "_address")]
    return names, () if shard.traits.is_result else ("_more", "_error")


def _flat_column(name: str, array: pyarrow.Array, kind: str) -> polars.Series | None:
    """A column as polars writes it in the JSON that `column_values` would give; None where it does not."""
    types = pyarrow.types
    if not is_flat(kind):
        return None
    if types.is_string(array.type) or types.is_integer(array.type) or types.is_boolean(array.type):
        return polars.Series(name, array)
    if types.is_floating(array.type):
        numbers = polars.Series(name, array.cast(pyarrow.float64()))
        # polars writes NaN and infinities as null
        return numbers if numbers.drop_nulls().is_finite().all() else None
    values = column_values(array, kind)
    texts = all(value is None or isinstance(value, str) for value in values)
    return polars.Series(name, values, dtype=polars.String) if texts else None


def batch_addresses(batch: pyarrow.RecordBatch, shard: Shard, span: str | None = None) -> polars.Series:
    """Return the address of each record of a batch. Rows of a result keep the one that they came with.

    It is what `address.Address` writes, without making one for every record.
    """
    places = polars.DataFrame({name: polars.Series(batch.column(name)) for name in _PLACES})
    first, last = polars.col("_char"), polars.col("_char_end")
    place = polars.format("row={}", "_pos") if shard.in_rows else polars.format("bytes={}-{}", "_pos", "_end")
    column = polars.lit(f"&column={quote(span or '', safe='')}&chars=")
    chars = polars.when(last.is_null()).then(polars.lit("")).otherwise(polars.concat_str(column, first, polars.lit("-"), last))
    made = places.select(polars.concat_str(polars.lit(f"{shard.uri}@{shard.version}#"), place, chars)).to_series()
    if "_address" not in batch.schema.names:
        return made
    stored = polars.Series(batch.column("_address"))
    return stored.zip_with(stored.is_not_null(), made)


def column_values(array: pyarrow.Array, kind: str) -> list[Any]:
    """Return a column's values as JSON-able ones."""
    if not is_flat(kind) and pyarrow.types.is_string(array.type):
        return [None if text is None else parsed(text) for text in array.to_pylist()]
    return readable(array)


def parsed(text: str) -> Any:
    """Return the value of a JSON text; the text itself where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def json_column(array: pyarrow.Array) -> pyarrow.Array:
    """Return a column of any type as JSON text."""
    texts = [None if value is None else json.dumps(value, ensure_ascii=False) for value in readable(array)]
    return pyarrow.array(texts, pyarrow.string())


def text_column(array: pyarrow.Array, kind: str) -> pyarrow.Array:
    """Return a column of a type that is kept as text: UUIDs and intervals, and numbers and times of several types."""
    stored = array.storage if isinstance(array, pyarrow.ExtensionArray) else array
    if kind not in ("uuid", "interval"):
        return pyarrow.array([None if value is None else str(value) for value in readable(array)], pyarrow.string())
    if not pyarrow.types.is_fixed_size_binary(stored.type):
        return stored.cast(pyarrow.string())
    if kind == "interval":
        return pyarrow.array([None if value is None else interval_text(value) for value in stored.to_pylist()], pyarrow.string())
    texts = polars.Series(stored.cast(pyarrow.binary())).bin.encode("hex")
    cuts = [texts.str.slice(start, length) for start, length in ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))]
    parts = polars.DataFrame([cut.alias(str(number)) for number, cut in enumerate(cuts)])
    made = parts.select(polars.concat_str(polars.all(), separator="-")).to_series()
    return made.to_arrow(compat_level=polars.CompatLevel.oldest()).cast(pyarrow.string())
