"""ORC files, a stripe at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import IO, Any

from rlm_ray.sandbox.inside.parsers.tables.arrow import message, pyarrow

#: Bytes of a batch, about.
_BATCH_BYTES, _LEAST_ROWS = 8 << 20, 256


def read(file: IO[bytes], options: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the schema as an Arrow IPC stream, then the rows `[low, high)` of some `columns` in batches; None is all columns.

    With `schema` the schema alone; the number of rows stands in its metadata.
    """
    from pyarrow import orc

    try:
        opened = orc.ORCFile(pyarrow.PythonFile(file, mode="r"))
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"it is damaged: {str(error)[:200]}") from None
    yield message(opened.schema.with_metadata({"rows": str(opened.nrows)}))
    if options["schema"]:
        return
    columns = [name for name in options["columns"] if name in opened.schema.names] if options["columns"] is not None else None
    first = 0
    for number in range(opened.nstripes):
        if first >= options["high"]:
            return
        batch = _stripe(opened, number, columns or opened.schema.names[:1])
        low, high = max(0, options["low"] - first), min(batch.num_rows, options["high"] - first)
        rows = max(_LEAST_ROWS, batch.num_rows * _BATCH_BYTES // max(1, batch.nbytes))
        for start in range(low, high, rows):
            yield message(batch.slice(start, min(rows, high - start)))
        first += batch.num_rows


def _stripe(opened: Any, number: int, columns: list[str]) -> pyarrow.RecordBatch:
    try:
        return opened.read_stripe(number, columns=columns)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error)[:200]
    for name in columns if len(columns) > 1 else ():
        try:
            opened.read_stripe(number, columns=[name])
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"its column {name!r} cannot be read in stripe {number}: {str(error)[:200]}") from None
    raise ValueError(f"its stripe {number} cannot be read: {reason}")
