from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlm_ray.corpus.catalog.address import Address
from rlm_ray.errors import InputError
from rlm_ray.recursion.verbs import citing
from tests.recursion.conftest import World

Make = Callable[..., World]


def words(record: dict[str, Any]) -> str:
    return next(value for name, value in record.items() if name != "_address" and isinstance(value, str) and name != "path")


@pytest.mark.parametrize("corpus", ["logs", "rows", "docs"])
def test_each_record_can_be_cited_and_no_other_words(world: Make, corpus: str) -> None:
    made = world(shard_bytes=300)
    records = list(made[corpus])
    for record in records[:: max(1, len(records) // 12)]:
        assert made.verbs.cite(record, words(record)) == {"address": record["_address"], "quote": words(record)}
        with pytest.raises(InputError, match="is not in the record"):
            made.verbs.cite(record, words(record) + "x")
    assert len(made.service.refused()) > 0
    assert {item["address"] for item in made.service.citations()} <= {record["_address"] for record in records}


def test_a_span_is_cited_by_its_own_words(world: Make) -> None:
    made = world()
    spans = list(made["docs"].split("text", by="paragraph"))
    assert made.verbs.cite(spans[1], "a paragraph")
    with pytest.raises(InputError, match="is not in the record"):
        made.verbs.cite(spans[1], "document 0")  # it stands in the document, but not in the span
    past = Address.parse(spans[1]["_address"])
    with pytest.raises(InputError, match="no record at"):
        made.verbs.cite(str(Address(past.object, past.version, past.unit, past.start, past.stop, "text", (0, 10**6))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"object": "/etc/passwd"}, "no record of this run"),
        ({"object": "s3://elsewhere/a.log"}, "no record of this run"),
        ({"version": "other"}, "no record of this run"),
        ({"unit": "row"}, "no record of this run"),
        ({"start": 3}, "no record at"),  # inside a line
        ({"stop": 5}, "no record at"),
        ({"start": 10**9, "stop": 10**9 + 1}, "no record at"),
    ],
)
def test_an_address_that_is_none_is_refused(world: Make, change: dict[str, Any], message: str) -> None:
    made = world()
    address = Address.parse(made["logs"].head(1)[0]["_address"])
    fields = {name: getattr(address, name) for name in ("object", "version", "unit", "start", "stop")} | change
    with pytest.raises(InputError, match=message):
        made.verbs.cite(str(Address(**fields)))


def test_rows_of_results_can_be_cited(world: Make) -> None:
    made = world()
    row = next(iter(made["rows"].sql("select count(*) n, 'three words here' t from context")))
    assert "/segments/" in row["_address"]
    made.verbs.cite(row, "three words")
    with pytest.raises(InputError, match="is not in the record"):
        made.verbs.cite(row, "four words")
    with pytest.raises(InputError, match="no record of this run"):
        made.verbs.cite(row["_address"].replace("/segments/", "/segments/../"))


def test_a_record_that_changed_since_is_refused(world: Make, tmp_path: Path) -> None:
    made = world()
    record = made["logs"].head(1)[0]
    path = Path(Address.parse(record["_address"]).object)
    before = path.read_bytes()
    try:
        path.write_bytes(before + b"one more line\n")
        with pytest.raises(InputError, match="cannot be read"):
            made.verbs.cite(record, words(record))
    finally:
        path.write_bytes(before)


def test_citations_are_kept_once_and_are_bounded(world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = world()
    first, second, third = made["logs"].head(3)
    for _ in range(2):
        made.verbs.cite(first, "ERROR")
        made.verbs.cite(first)
    assert len(made.service.citations()) == 2
    monkeypatch.setattr(citing, "MAX_CITATIONS", 2)
    with pytest.raises(InputError, match="the most it can have"):
        made.verbs.cite(second)
    made.verbs.cite(first, "ERROR")  # it is there already
    monkeypatch.setattr(citing, "MAX_SHOWN", 3)
    for number in range(10):
        monkeypatch.setattr(citing, "MAX_CITATIONS", 3)
        with pytest.raises(InputError):
            made.verbs.cite(third, f"not there {number}")
    assert len(made.service.refused()) == 3


def test_a_citation_keeps_the_record_s_own_characters(world: Make, tmp_path: Path) -> None:
    made = world()
    record = made["docs"].head(1)[0]
    own = words(record)
    plain = " ".join(own.split()).replace("-", "–").replace("'", "’")
    assert plain != own
    assert made.verbs.cite(record, plain)["quote"].split() == own.split()
    assert len(made.service.citations()) == 1
    assert made.verbs.cite(record, plain) == made.service.citations()[0]
