"""Single needles in haystacks: by a search of the code's own, and by a model that is shown every chunk."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

import rlm_ray
from rlm_ray.testing import each

HAYSTACKS = range(15)
GREP = """
import re
found = context.grep(f"special magic [a-z]+ for {KEY} is:")
print(found.count(), "of", context.count(), found.text(max_chars=300))
[Final] = [match for record in found for match in re.findall(f"special magic [a-z]+ for {KEY} is: ([-0-9a-f]+)", record["text"])]
"""
MAP = """
chunks = context.split("text", by=r"[.?!] |\\n", max_chars=2_000).chunks(tokens=1_000)
said = llm_map(f"What is the magic value for {KEY}? null where this part does not say.", chunks, schema={"value": "string"})
print(len(chunks), "chunks,", said.failed.count(), "failed")
Final = [row["value"] for row in said.where([("value", "!=", None)])]
"""
STRING = """
parts = [context[at : at + 5_000] for at in range(0, len(context), 4_500)]
said = llm_query_batched([f"What is the magic value for {KEY}? Say nothing else, or null.\\n\\n{part}" for part in parts])
Final = sorted({value for value in said if value != "null"})
"""


@pytest.fixture(scope="module")
def haystacks(data) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (data / "sniah" / "sniah_8192.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == len(HAYSTACKS)
    return rows


def reader(key: str) -> Any:
    """A leaf that reads: it answers with the needle where the text that it is shown has it."""

    def read(text: str) -> str | None:
        found = re.search(rf"special magic [a-z]+ for {key} is: ([-0-9a-f]+)", text)
        return found[1] if found else None

    return each(read)


@pytest.mark.parametrize("number", HAYSTACKS)
@pytest.mark.parametrize("unit", ["line", "document"])
def test_grep_finds_the_needle(ask, haystacks, tmp_path, number, unit):
    row = haystacks[number]
    (tmp_path / "haystack.txt").write_text(row["context"], "utf-8")
    corpus = rlm_ray.open(str(tmp_path / "haystack.txt"), unit=unit)
    answer = ask(corpus, [f"KEY = {row['key']!r}\n{GREP}"], question=row["question"])
    assert [answer.value] == row["outputs"]
    assert answer.usage["calls"] == 1


@pytest.mark.parametrize("number", HAYSTACKS)
def test_a_model_that_reads_every_chunk_finds_the_needle(ask, haystacks, tmp_path, number):
    row = haystacks[number]
    (tmp_path / "haystack.txt").write_text(row["context"], "utf-8")
    corpus = rlm_ray.open(str(tmp_path / "haystack.txt"), unit="document")
    cell = f"KEY = {row['key']!r}\n{MAP}"  # some haystacks repeat themselves: equal chunks would be one call
    answer = ask(corpus, [cell], reader(row["key"]), question=row["question"], share_answers=False)
    assert answer.value == row["outputs"]
    assert answer.usage["calls"] >= 9  # a chunk of 1,000 tokens is a call: none holds the whole haystack


def test_a_string_that_is_the_context(ask, haystacks):
    row = haystacks[7]
    answer = ask(row["context"], [f"KEY = {row['key']!r}\n{STRING}"], reader(row["key"]), question=row["question"])
    assert answer.value == row["outputs"]
