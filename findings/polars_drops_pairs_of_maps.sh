#!/usr/bin/env bash
# polars 2.1.0 reads a Parquet map with the key "a" twice as one pair; pyarrow 26.0.1, which wrote the file, reads both. The Parquet format lets readers meet such maps.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/pip install -q polars==2.1.0 pyarrow==26.0.1
env/bin/python - <<'END'
import polars
import pyarrow
import pyarrow.parquet

pairs = [[("a", 1), ("a", 2)], [("b", 3)]]
pyarrow.parquet.write_table(pyarrow.table({"m": pyarrow.array(pairs, pyarrow.map_(pyarrow.string(), pyarrow.int64()))}), "m.parquet")
by_pyarrow = pyarrow.parquet.read_table("m.parquet").column("m").to_pylist()
frame = polars.read_parquet("m.parquet")
by_polars = frame.to_arrow().column("m").to_pylist()
frame.write_parquet("again.parquet")
again = pyarrow.parquet.read_table("again.parquet").column("m").to_pylist()
print("pyarrow:", by_pyarrow)
print("polars:", by_polars, frame.schema["m"])
print("written again by polars:", again)
assert by_pyarrow == pairs, "pyarrow changed"
assert by_polars == again == [[("a", 2)], [("b", 3)]], "polars changed"
END
