#!/usr/bin/env bash
# deltalake 1.6.6 writes the statistics of [NaN, 1.0] as least 1.0 and greatest 1.0; its own pyarrow dataset then prunes the file for f != 1.0 and loses the row with NaN, which polars 2.1.0 finds in the same table.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/pip install -q deltalake==1.6.6 polars==2.1.0 pyarrow==26.0.1
env/bin/python - <<'END'
import deltalake
import polars
import pyarrow
import pyarrow.dataset

deltalake.write_deltalake("table", pyarrow.table({"f": [float("nan"), 1.0], "n": [1, 2]}))
table = deltalake.DeltaTable("table")
(action,) = pyarrow.table(table.get_add_actions(flatten=True)).select(["min.f", "max.f"]).to_pylist()
by_dataset = table.to_pyarrow_dataset().to_table(filter=pyarrow.dataset.field("f") != 1.0).column("n").to_pylist()
without_statistics = table.to_pyarrow_dataset().to_table().filter(pyarrow.dataset.field("f") != 1.0).column("n").to_pylist()
by_polars = polars.scan_delta("table").filter(polars.col("f") != 1.0).collect()["n"].to_list()
print("statistics:", action)
print("rows with f != 1.0: dataset", by_dataset, "- dataset, filtered after reading", without_statistics, "- polars", by_polars)
assert action == {"min.f": 1.0, "max.f": 1.0}, "the statistics changed"
assert (by_dataset, without_statistics, by_polars) == ([], [1], [1]), "the rows changed"
END
