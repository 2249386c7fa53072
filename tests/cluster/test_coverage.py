"""Coverage of a whole run on Ray: recursive calls, tasks, an interrupted run that goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

import rlm_ray
from rlm_ray.testing import ModelServer, each

ROOT = """```repl
parts = context.where([("n", "<", 40)]).chunks(tokens=250)
said = rlm_map("How many are bad?", parts, schema={"bad": "integer"})
Final = sum(row["bad"] for row in said.ok)
```"""
BELOW = """```repl
rows = llm_each("Is it bad?", context, schema={"verdict": ["yes", "no"]})
Final = {"bad": rows.where([("verdict", "==", "yes")]).count()}
```"""


def test_recursive_calls_add_to_it_and_the_terminal_tells_it(
    ray_local: Any, model_server: Callable[..., ModelServer], tmp_path: Path, run_dir: Path
) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    for part in range(2):
        numbers = range(40 * part, 40 * part + 40)
        rows = pyarrow.table({"n": numbers, "text": [f"{'bad' if n % 4 == 0 else 'ok'} {n} " + "x" * 20 for n in numbers]})
        pyarrow.parquet.write_table(rows, folder / f"{part}.parquet", row_group_size=10)
    reader = each(lambda text: "yes" if "bad" in text else "no")
    server = model_server(root={"How many are bad, of all?": [ROOT], "": lambda messages: BELOW}, leaf=reader)
    settings = server.settings(run_dir=str(run_dir), max_depth=1, address="auto")
    answer = rlm_ray.ask(rlm_ray.open(str(folder), shard_bytes=1), "How many are bad, of all?", settings)
    assert answer.value == 10, answer.message
    told = answer.coverage["records"]
    assert told == {"total": 80, "excluded": 40, "read_by_code": 0, "read_by_model": 40, "not_read": 0}
    shards = pyarrow.parquet.ParquetFile(f"{answer.run}/coverage.parquet").read().to_pylist()
    assert [shard["model_records"] for shard in shards] == [10] * 4 + [0] * 4
    assert [shard["excluded_records"] for shard in shards] == [0] * 4 + [10] * 4
    calls = {path.name.split(".")[0] for path in Path(answer.run, "coverage").iterdir()}
    assert "0" in calls
    assert len(calls) > 1  # each recursive call has a log of its own
    assert rlm_ray.resume(answer.run, settings).coverage == answer.coverage
