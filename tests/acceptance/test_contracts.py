"""One recursive call per contract: each splits its document and asks leaf calls; one row each comes back, with its address.

40 of the 510 contracts by default; all of them with RLM_RAY_TEST_FULL=1.
"""

from __future__ import annotations

import json
import os

import pyarrow.parquet as pq
import pytest

import rlm_ray
from rlm_ray.corpus.catalog.address import Address
from rlm_ray.testing import each

CONTRACTS = 510 if os.environ.get("RLM_RAY_TEST_FULL") == "1" else 40

ROOT = [
    """
print(context.describe())
parts = [context[at : at + 1] for at in range(context.count())]
found = rlm_map("Which law governs this contract?", parts, schema={"law": "string", "chunks": "integer", "path": "string"})
print(found.count(), "rows,", found.failed.count(), "failed", found.failed.head(3))""",
    "Final = found",
]
CHILD = [
    """
[document] = context.head(2)
chunks = context.split("text", by="paragraph", max_chars=4_000).chunks(tokens=2_000)
said = llm_map("Which law governs the contract? null where this part does not say.", chunks, schema={"law": "string"})
laws = said.ok.where([("law", "!=", None)]).count_by("law")
print(said.count(), laws)""",
    "Final = {'law': next(iter(laws), None), 'chunks': said.ok.count(), 'path': document['path']}",
]


@pytest.fixture(scope="module")
def contracts(data) -> dict[str, str]:
    rows: dict[str, str] = {}
    for part in sorted((data / "contracts").glob("part-*.parquet")):
        rows |= {row["file"]: row["text"] for row in pq.read_table(part).to_pylist()}
    assert len(rows) == 510
    step = len(rows) // CONTRACTS
    return {name: rows[name] for name in sorted(rows)[::step][:CONTRACTS]}


def test_one_recursive_call_per_contract(ask, s3, data, contracts):
    url = f"s3://{s3.bucket()}/contracts"
    for name, text in contracts.items():
        s3.put(f"{url}/{name}", text)
    gold = json.loads((data / "contracts" / "gold.json").read_text("utf-8"))["governing_law"]

    def law(shown: str) -> str | None:
        """Say what the experts found, where the part that is shown speaks of it at all."""
        lines = shown.splitlines()
        [name] = gold.keys() & set(lines)
        return gold[name] if any("govern" in line.lower() for line in lines if line != name) else None

    root = {"Which contracts": ROOT, "Which law governs": CHILD}
    corpus = rlm_ray.open(url, unit="document")
    answer = ask(corpus, root, each(law), "Which contracts have which law?", max_calls=20_000)
    assert answer.complete, answer.message
    rows = list(answer.table)
    assert [row["path"] for row in rows] == list(contracts)
    assert [Address.parse(row["_address"]).object for row in rows] == [f"{url}/{name}" for name in contracts]
    assert [row["_part"] for row in rows] == list(range(CONTRACTS))
    assert not any(row["_error"] for row in rows)
    named = {name: gold[name] if "govern" in text.lower() else None for name, text in contracts.items()}
    assert {row["path"]: row["law"] for row in rows} == named
    # two turns of the root, two of each child, and the calls about its chunks
    assert answer.usage["calls"] == 2 + 2 * CONTRACTS + sum(row["chunks"] for row in rows)
    for row in rows:
        size = len(contracts[row["path"]].encode())
        assert row["chunks"] >= size / 8_000, "a chunk holds 2,000 tokens at most"
