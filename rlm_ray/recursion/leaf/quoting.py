"""Where the quotes of an answer stand: in a record as the model was shown it, or in one record of a chunk."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from rlm_ray.ledger.citations import is_in, own_words
from rlm_ray.types.json import Record

#: Gets a quote; returns it in the record's own characters, or None where it does not stand there.
Own = Callable[[str], str | None]


def in_record(record: Record) -> Own:
    """Look for quotes in one record.

    Examples
    --------
    >>> in_record({"text": "within 30–60 days"})("30-60  days")
    '30–60 days'
    """
    return lambda quote: own_words(quote, record)


def in_chunk(records: Sequence[Record], shown: str) -> Own:
    """Look for quotes in a chunk, of which this text was shown: each must stand in one record, so that it can be cited."""

    def own(quote: str) -> str | None:
        in_json = json.dumps(quote, ensure_ascii=False)[1:-1]  # as a row shows it
        if not any(is_in(form, {"text": shown}) for form in (quote, in_json)):
            return None
        return next((found for record in records if (found := own_words(quote, record)) is not None), None)

    return own


def place_of(quote: str, records: Sequence[Record]) -> str | None:
    """Return the address of the first record that has a quote."""
    found = next((record.get("_address") for record in records if is_in(quote, record)), None)
    return found if isinstance(found, str) else None
