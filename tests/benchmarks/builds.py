"""Two builds beside each other in one run: the lake's verbs, wide batches and the sandbox's walls, as ratios new to old.

    git worktree add /tmp/old COMMIT
    python tests/benchmarks/builds.py --old /tmp/old [--megabytes 64] [--rounds 3] [--parts lake,fanout,isolation]

Both builds run on this interpreter's packages, one after the other in each round, each with its own benchmark files. Of each
measure the best of all rounds counts; the last line of a part is the geometric mean of its ratios. Below 1 the new build is
faster. A measure that only one of the builds has is left out, and that is said.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

NEW = Path(__file__).resolve().parents[2]
#: The verbs of `lake.py` that scan; those of a few microseconds say nothing here.
CASES = [
    (kind, verb)
    for kind, verbs in {
        "parquet": ("where", "literal", "regex", "count_by"),
        "text": ("count", "literal", "regex"),
        "gzip": ("count", "literal"),
        "jsonl": ("count", "where", "count_by"),
        "csv": ("count", "where", "count_by"),
        "many": ("open",),
    }.items()
    for verb in verbs
]
#: The smallest measure that is compared: CPU seconds come in steps of a hundredth.
LEAST = {"lake": 0.05}
_ISOLATION = re.compile(r"^  (.{28})\s+([\d.]+) \(")


def run(tree: Path, file: str, *flags: str) -> str:
    """Run a benchmark of a build; returns what it prints, or nothing where it fails."""
    environment = os.environ | {
        "PYTHONPATH": str(tree),
        "POLARS_MAX_THREADS": "1" if file == "lake.py" else "",
        "DO_NOT_TRACK": "1",
    }
    environment = {name: value for name, value in environment.items() if value}
    command = [sys.executable, str(tree / "tests" / "benchmarks" / file), *flags]
    done = subprocess.run(command, env=environment, cwd=tree, capture_output=True, text=True, check=False, timeout=1_200)
    if done.returncode:
        print(f"{file} of {tree} failed: {done.stderr.strip()[-200:]}", file=sys.stderr)
        return ""
    return done.stdout


def lake(tree: Path, folder: Path) -> dict[str, float]:
    """Return the CPU seconds of every verb, on one thread."""
    found = {}
    for kind, verb in CASES:
        case = {
            "who": "ours",
            "kind": kind,
            "verb": verb,
            "uri": str(folder / kind),
            "rounds": 3,
            "ray": 0,
            "threads": 1,
            "daft": None,
        }
        if lines := run(tree, "lake.py", "--child", json.dumps(case)).splitlines():
            found[f"{kind} {verb}"] = json.loads(lines[-1])["cpu"]
    return found


def fanout(tree: Path, _: Path) -> dict[str, float]:
    """Return the seconds of flat batches, and of a batch of recursive calls."""
    rows: list[dict[str, Any]] = json.loads(run(tree, "fanout.py", "--sizes", "64,256", "--recursive", "16", "--json") or "[]")
    return {
        f"{row.get('kind', 'batch')} of {row['count']}": float(row["seconds"])
        for row in rows
        if row.get("engine") == "rlm_ray" and "seconds" in row
    }


def isolation(tree: Path, _: Path) -> dict[str, float]:
    """Return the milliseconds of every measure at level strict."""
    text = run(tree, "isolation.py", "--rounds", "3").partition("strict:\n")[2].partition("\nnoopen:")[0]
    return {match[1].strip(): float(match[2]) for line in text.splitlines() if (match := _ISOLATION.match(line))}


def main() -> None:
    """Run both builds and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, required=True, help="a work tree of the older build")
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", default="lake,fanout,isolation")
    given = parser.parse_args()
    parts = {"lake": lake, "fanout": fanout, "isolation": isolation}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "lake"
        make = [
            "--folder",
            str(folder),
            "--megabytes",
            str(given.megabytes),
            "--files",
            "4",
            "--objects",
            "2000",
            "--stores",
            "local",
        ]
        run(NEW, "lake.py", *make, "--only", "nothing of it")
        for name in given.parts.split(","):
            best: tuple[dict[str, float], dict[str, float]] = ({}, {})
            for _ in range(given.rounds):
                for tree, found in zip((given.old, NEW), best, strict=True):
                    for measure, value in parts[name](tree, folder).items():
                        found[measure] = min(value, found.get(measure, value))
            old, new = best
            ratios = []
            for measure in {**old, **new}:
                before, after = old.get(measure), new.get(measure)
                if before is None or after is None:
                    print(f"{name:10} {measure:30} only in one of the builds")
                elif min(before, after) < LEAST.get(name, 1e-9):
                    print(f"{name:10} {measure:30} {before:10.4f} -> {after:10.4f}   too short to compare: use more megabytes")
                else:
                    ratios.append(after / before)
                    print(f"{name:10} {measure:30} {before:10.4f} -> {after:10.4f}   x {ratios[-1]:.2f}")
            if ratios:
                mean = statistics.geometric_mean(ratios)
                print(f"{name:10} geometric mean of {len(ratios)}: x {mean:.2f}, most x {max(ratios):.2f}")


if __name__ == "__main__":
    main()
