"""DuckDB and Arrow, as a sandbox for tables loads them: without NumPy, which takes half of the time and which SQL does not need.

Imported there alone: elsewhere NumPy would be missed.
"""

from __future__ import annotations

import sys

sys.modules.setdefault("numpy", None)  # type: ignore[arg-type]  # Arrow does without, where there is none

import duckdb  # noqa: E402
import pyarrow  # noqa: E402
import pyarrow.ipc  # noqa: E402

from rlm_ray.corpus.meaning.readable import readable  # noqa: E402

__all__ = ["duckdb", "pyarrow", "readable"]
