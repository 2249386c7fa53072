"""Arrow as parsers of tables load it: behind the walls, without NumPy, which takes longer to load than most files to read."""

from __future__ import annotations

import sys

sys.modules.setdefault("numpy", None)  # type: ignore[arg-type]  # Arrow does without, where there is none

import pyarrow  # noqa: E402
import pyarrow.ipc  # noqa: E402

__all__ = ["message", "pyarrow"]

#: Metadata of a column that is JSON text.
JSON_MARK = {b"rlm_ray": b"json"}


def message(batch: pyarrow.RecordBatch | pyarrow.Schema) -> bytes:
    """Return a batch, or a schema alone, as an Arrow IPC stream."""
    sink = pyarrow.BufferOutputStream()
    schema = batch if isinstance(batch, pyarrow.Schema) else batch.schema
    with pyarrow.ipc.new_stream(sink, schema) as writer:
        if isinstance(batch, pyarrow.RecordBatch):
            writer.write_batch(batch)
    data: bytes = sink.getvalue().to_pybytes()
    return data
