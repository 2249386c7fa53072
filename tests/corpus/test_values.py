from __future__ import annotations

import pickle

import pytest

from rlm_ray.handle.values import Budget, Counts, Description, size


@pytest.mark.parametrize(
    ("nbytes", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.0 KB"),
        (99_949, "99.9 KB"),
        (123_456, "123 KB"),
        (1_500_000, "1.5 MB"),
        (2_000_000_000, "2.0 GB"),
        (10**13, "10.0 TB"),
        (10**17, "100000 TB"),
        (None, "unknown size"),
    ],
)
def test_sizes_as_people_write_them(nbytes: int | None, shown: str) -> None:
    assert size(nbytes) == shown


def test_a_description_prints_a_line_an_entry() -> None:
    told = Description(
        kind="parquet", nbytes=1_500_000, records=12_345, schema={"ts": "timestamp[us]", "msg": "string"}, failed=["a"]
    )
    assert print_of(told) == (
        "kind: parquet\nnbytes: 1,500,000 (1.5 MB)\nrecords: 12,345\nschema: \n  ts: timestamp[us]\n  msg: string\nfailed: \n  a"
    )
    assert told["records"] == 12_345


def test_a_long_description_is_cut_and_says_so() -> None:
    told = Description(schema={f"c{number}": "string" for number in range(100)}, failed=list(range(30)), note=["x" * 1_000])
    text = print_of(told)
    assert "… and 40 more" in text
    assert "… and 10 more" in text
    assert "[700 characters cut]" in text
    assert len(told["schema"]) == 100


def test_flags_are_not_numbers() -> None:
    assert print_of(Description(done=True)) == "done: True"


def test_counts_say_what_is_not_listed() -> None:
    counts = Counts({"a": 5, "b": 2}, distinct=1_002)
    assert repr(counts) == "{'a': 5, 'b': 2, … 1,000 more values not listed}"
    assert repr(Counts({"a": 1}, 1)) == "{'a': 1}"
    assert counts == {"a": 5, "b": 2}
    again = pickle.loads(pickle.dumps(counts))
    assert (again, again.distinct) == (counts, 1_002)


def test_a_budget_prints_in_one_line() -> None:
    assert repr(Budget({"calls left": 1_996, "dollars left": None, "dollars spent": 0.25})) == (
        "calls left: 1,996; dollars left: unlimited; dollars spent: 0.25"
    )


def print_of(value: object) -> str:
    assert str(value) == repr(value)
    return str(value)
