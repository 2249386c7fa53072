"""The list of many runs: the first page, and the next look at it, beside reading every run again as `rlm-ray runs` does.

Run as `python -m tests.benchmarks.ui 3000`; prints ratios of one session.
"""

from __future__ import annotations

import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rlm_ray import history
from rlm_ray.testing import ModelServer
from rlm_ray.ui.catalog import Catalog
from rlm_ray.ui.pages import list_page


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main(count: int) -> None:
    """Make one real run, copy it, and look at the list."""
    import rlm_ray

    with tempfile.TemporaryDirectory() as folder, ModelServer(root=["```repl\nFinal = 7\n```"]) as server:
        base = Path(folder) / "runs"
        base.mkdir()
        rlm_ray.ask("a text", "Which?", server.settings(run_dir=str(base), run_id="run-0"))
        for number in range(1, count):
            shutil.copytree(base / "run-0", base / f"run-{number}")
        every = seconds(lambda: history.runs(str(base)).rows())
        catalog = Catalog(str(base))
        first = seconds(lambda: list_page(catalog, "", "", "", 1))
        again = seconds(lambda: list_page(catalog, "", "", "", 1))
        catalog._ends = 0.0  # as after the seconds for which a listing holds
        later = seconds(lambda: list_page(catalog, "", "", "", 2))
        by_state = seconds(lambda: list_page(catalog, "", "complete", "", 1))
        print(f"{count:,} runs; reading each as `rlm-ray runs` does: {every:.2f} s")
        for name, took in (("first page", first), ("at once again", again), ("listed again", later), ("by state", by_state)):
            print(f"{name:16} {took:.3f} s   {every / took:8.1f} times as fast")
        print(f"memory at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3_000)
