"""The three parts of a run's corpora that people draw from: what its answer names, what a model read beside it, and the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.operations.lookup import shard_of
from rlm_ray.errors import InputError
from rlm_ray.handle.plan import Place
from rlm_ray.ledger import coverage

FOUND, LEFT, UNREAD = "found", "left", "unread"


@dataclass(slots=True)
class Known:
    """Places of a corpus' records that the answer names, and of those that a model read beside them."""

    found: set[Place] = field(default_factory=set)
    left: set[Place] = field(default_factory=set)

    def stratum(self, place: Place) -> str:
        """Return which part a record belongs to."""
        return FOUND if place in self.found else LEFT if place in self.left else UNREAD


def known(run: str, manifests: Mapping[str, Manifest], named: Iterator[str]) -> dict[str, Known]:
    """Return what a run found and what its models read, by corpus.

    Parameters
    ----------
    run : str
        Its directory. Its read logs are read.
    named : iterator of str
        Addresses that the answer names; a part of a record stands for the record.
    """
    noted = coverage.noted(run)
    parts = {name: Known() for name in manifests}
    for text in named:
        try:
            address = Address.parse(text)
        except InputError:
            continue
        for name, manifest in manifests.items():
            if (shard := shard_of(manifest, address)) is not None:
                parts[name].found.add((shard.index, address.start, 0))
    for name, manifest in manifests.items():
        coverage.resolve(name, manifest, noted)
        for index in sorted({shard for corpus, shard in noted.shards if corpus == name}):
            starts, _ = coverage.seen(noted, name, manifest.shards[index])
            parts[name].left.update((index, int(start), 0) for start in starts)
        parts[name].left -= parts[name].found
    return parts


def addresses(value: Any) -> Iterator[str]:
    """Yield the texts of an answer that may be addresses.

    Examples
    --------
    >>> list(addresses({"rows": [{"_address": "a@1#row=3", "n": 3}], "why": "none"}))
    ['a@1#row=3']
    """
    if isinstance(value, str):
        if "#row=" in value or "#bytes=" in value:
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from addresses(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from addresses(item)
