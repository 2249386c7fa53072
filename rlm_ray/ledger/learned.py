"""What runs learned of the tokens of calls, by model and kind of text: one small file beside the runs of a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping

from rlm_ray import storage
from rlm_ray.errors import StorageError

FILE = ".tokens.json"
#: Calls that a model's row counts at most: older ones fade, so that a change of its tokenizer is learned.
MOST_CALLS = 2_000

#: Sums by name: calls, bytes, prompt tokens, completion tokens, answers.
Sums = list[int]


def load(base: str) -> dict[str, Sums]:
    """Return the sums by `model kind`; nothing where the file is not there or cannot be read: it is only an estimate."""
    try:
        data = storage.find_bytes(storage.join(base, FILE))
        rows = json.loads(data) if data is not None else {}
    except (StorageError, ValueError):
        return {}
    return {name: row for name, row in rows.items() if isinstance(row, list) and len(row) == 5} if isinstance(rows, dict) else {}


def add(base: str, news: Mapping[str, Sums]) -> None:
    """Add sums to the file. Of two runs that write at once the later one stands."""
    if not any(row[0] for row in news.values()):
        return
    rows = load(base)
    for name, row in news.items():
        total = [old + new for old, new in zip(rows.get(name, [0] * len(row)), row, strict=True)]
        if total[0] > MOST_CALLS:
            total = [value * MOST_CALLS // total[0] for value in total]
        rows[name] = total
    try:
        storage.write_bytes(storage.join(base, FILE), json.dumps(rows, sort_keys=True).encode())
    except StorageError:
        return  # a folder of runs that cannot be written has told so elsewhere
