#!/usr/bin/env bash
# deltalake 1.6.6 cuts timestamps of nanoseconds to microseconds and says nothing; pyiceberg 0.12.0 refuses the same column of a version 2 table.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/pip install -q deltalake==1.6.6 'pyiceberg[sql-sqlite]==0.12.0' pyarrow==26.0.1
env/bin/python - <<'END'
import pathlib
import warnings

import deltalake
import pyarrow
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import UnsupportedPyArrowTypeException

times = pyarrow.table({"t": pyarrow.array([1_700_000_000_123_456_789], pyarrow.timestamp("ns"))})
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    deltalake.write_deltalake("table", times)
kept = deltalake.DeltaTable("table").to_pyarrow_table().column("t").cast(pyarrow.timestamp("ns")).cast(pyarrow.int64()).to_pylist()
print("deltalake kept", kept, "warnings:", [str(item.message) for item in seen])
assert kept == [1_700_000_000_123_456_000] and not seen, "deltalake changed"

here = pathlib.Path.cwd()
catalog = SqlCatalog("c", uri=f"sqlite:///{here}/c.db", warehouse=f"file://{here}/lake")
catalog.create_namespace("n")
try:
    catalog.create_table("n.t", schema=times.schema)
    refused = None
except UnsupportedPyArrowTypeException as error:
    refused = str(error)
print("pyiceberg:", refused)
assert refused is not None and "timestamp[ns]" in refused, "pyiceberg changed"
END
