"""Infers columns and record length from the first records of a corpus. Each reader of text takes its own sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.errors import InputError, StorageError

#: Of one object.
SAMPLE_LINES = 1_000
SAMPLE_BYTES = 256 << 10
#: Objects that are tried until one has a record.
_TRIED = 20


@dataclass(frozen=True, slots=True)
class Sample:
    """What a sample says.

    Attributes
    ----------
    schema : dict
        Columns and type names.
    width : float
        Average bytes of a record.
    note : str
        How the objects are read, where that was found out.
    dialect : str, optional
        What shards carry of it from now on; None where they carry it already.
    """

    schema: dict[str, str]
    width: float = 1.0
    note: str = ""
    dialect: str | None = None


def first_sample(shards: Sequence[Shard], sampled: Callable[[Shard], Sample | None], empty: dict[str, str]) -> Sample:
    """Return the sample of the first shard that has records; one with the columns `empty` where none has.

    Raises
    ------
    InputError
        No shard with records can be read.
    """
    reason: Any = None
    for shard in shards[:_TRIED]:
        try:
            found = sampled(shard)
        except StorageError as error:
            reason = error
            continue
        if found is not None:
            return found
    if reason is not None:
        raise InputError(f"No object could be sampled for its columns; the last one: {reason}")
    return Sample(empty)
