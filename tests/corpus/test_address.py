from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.corpus.catalog.address import Address
from rlm_ray.errors import InputError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("s3://lake/day=1/a.parquet@5d41#row=17", Address("s3://lake/day=1/a.parquet", "5d41", "row", 17, 18)),
        ("s3://lake/a.log@9f2c#bytes=10-20", Address("s3://lake/a.log", "9f2c", "bytes", 10, 20)),
        ("/tmp/a b/ü.txt@17-5#bytes=0-0", Address("/tmp/a b/ü.txt", "17-5", "bytes", 0, 0)),
        ("memory://x@#row=0", Address("memory://x", "", "row", 0, 1)),
        ("user@host/a@v#row=1", Address("user@host/a", "v", "row", 1, 2)),
        (
            "s3://c/a.txt@77aa#bytes=0-58211&column=text&chars=1200-1380",
            Address("s3://c/a.txt", "77aa", "bytes", 0, 58211, "text", (1200, 1380)),
        ),
        ("a@1#row=3&column=a%26b%3Dc&chars=0-5", Address("a", "1", "row", 3, 4, "a&b=c", (0, 5))),
    ],
)
def test_both_ways(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert str(address) == text
    assert pickle.loads(pickle.dumps(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s3://lake/a.log",
        "a@1",
        "a@1#",
        "a@1#row=",
        "a@1#row=x",
        "a@1#line=5",
        "@1#row=5",
        "a@1#row=5&column=x",
        "a@1#row=-5",
        None,
        5,
    ],
)
def test_what_is_no_address(text: object) -> None:
    with pytest.raises(InputError, match=r"is no address\. Take the '_address' of a record"):
        Address.parse(text)  # type: ignore[arg-type]


def test_a_long_text_is_cut_in_the_message() -> None:
    with pytest.raises(InputError) as caught:
        Address.parse("x" * 10_000)
    assert len(str(caught.value)) < 300


_names = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)
_numbers = st.integers(0, 1 << 50)


@given(
    name=_names,
    version=st.text(alphabet="0123456789abcdef-", max_size=12),
    rows=st.booleans(),
    place=st.tuples(_numbers, _numbers),
    span=st.none() | st.tuples(_names, st.tuples(_numbers, _numbers)),
)
def test_any_address_comes_back(
    name: str, version: str, rows: bool, place: tuple[int, int], span: tuple[str, tuple[int, int]] | None
) -> None:
    start, stop = (place[0], place[0] + 1) if rows else place
    column, chars = span if span is not None else (None, None)
    address = Address(name, version, "row" if rows else "bytes", start, stop, column, chars)
    assert Address.parse(str(address)) == address
