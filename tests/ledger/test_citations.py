from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.ledger.citations import is_in, normalised, own_words

WORDS = ["the", "disk", "of", "node", "n17", "was", "full", "at", "03:17", "and", "Gerät", "4", "wrote", "“no", "space", "left”"]


def test_a_thousand_quotes_one_in_twenty_altered() -> None:
    """Every altered quote is refused, and no true one."""
    draw = random.Random(5)
    records = [{"_address": "…", "text": " ".join(draw.choices(WORDS, k=40)), "host": f"n{number}"} for number in range(50)]
    for number in range(1_000):
        record = draw.choice(records)
        words = record["text"].split()
        first = draw.randrange(len(words) - 8)
        quote = draw.choice((" ", "  ", "\n")).join(words[first : first + draw.randint(3, 8)])
        if number % 20:
            assert is_in(quote, record)
            continue
        place = draw.choice([place for place, character in enumerate(quote) if not character.isspace()])
        altered = quote[:place] + "¤" + quote[place + 1 :]
        assert not is_in(altered, record)


@given(st.text(), st.text(), st.text())
def test_what_is_in_a_text_is_found(before: str, quote: str, behind: str) -> None:
    # a character may join with its neighbours in NFKC, so the quote stands between spaces
    assert is_in(quote, {"text": f"{before} {quote} {behind}"}) == bool(normalised(quote))


def test_case_and_letters_count() -> None:
    assert not is_in("Disk full", {"text": "disk full"})
    assert not is_in("", {"text": "disk full"})
    assert not is_in("   ", {"text": "disk full"})


def test_our_columns_are_not_quoted_and_rows_are_as_a_model_sees_them() -> None:
    row = {"_address": "s3://lake/a@1#row=1", "host": "n1", "code": 507, "user": None}
    assert is_in('"host":"n1","code":507', row)
    assert not is_in("s3://lake", row)
    assert not is_in("user", row)


@pytest.mark.parametrize(
    ("quote", "text", "own"),
    [
        ("30-60 days", "within 30‑60\u00a0days of notice", "30‑60\u00a0days"),
        ('the "Supplier"', "by the “Supplier”.", "the “Supplier”"),
        ("party's duty", "each party’s duty", "party’s duty"),
        ("cooperate", "shall co\u00adoperate fully", "co\u00adoperate"),
        ("the file", "see the\n ﬁle", "the\n ﬁle"),
        ("a b", "x a b y", "a b"),
        ("Café", "the Cafe\u0301 is", "Cafe\u0301"),
    ],
)
def test_a_citation_keeps_the_words_of_the_record(quote: str, text: str, own: str) -> None:
    assert own_words(quote, {"_address": "x", "text": text}) == own


def test_other_words_are_no_quote() -> None:
    assert own_words("30 60 days", {"text": "30-60 days"}) is None
    assert own_words("3060 days", {"text": "30-60 days"}) is None
    assert own_words("zz", {"_address": "zz", "text": "y"}) is None
