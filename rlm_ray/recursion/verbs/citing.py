"""`cite`: evidence for the answer, checked against the record that it names when it is given.

A quote that is not there is refused, counted and shown; it never stands beside those that are.
"""

from __future__ import annotations

from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import InputError
from rlm_ray.ledger.citations import own_words
from rlm_ray.recursion.jobs.scheduler import Job
from rlm_ray.recursion.ports import ShardFailure
from rlm_ray.recursion.verbs.scans import Scans
from rlm_ray.types.run import Citation, RefusedCitation

MAX_CITATIONS = 100_000
#: Refused citations that are shown; all are counted.
MAX_SHOWN = 1_000


class Citing:
    """The citations of one call.

    Attributes
    ----------
    citations : list of dict
        `address` and `quote`, those that were found.
    refused : list of dict
        `address`, `quote` and `reason`.
    """

    def __init__(self, scans: Scans) -> None:
        self._scans = scans
        self.citations: list[Citation] = []
        self.refused: list[RefusedCitation] = []
        self._cited: set[tuple[str, str | None]] = set()

    def cite(self, written: str, quote: str | None) -> Job:
        """Take a citation. Reads the record that it names.

        Raises
        ------
        InputError
            There is no such record in this run, or the quote is not in it.
        """
        address = Address.parse(written)
        citation: Citation = {"address": str(address), "quote": quote}
        if len(self._cited) != len(self.citations):  # some were restored
            self._cited = {(item["address"], item["quote"]) for item in self.citations}
        if (citation["address"], quote) in self._cited:
            return citation
        if len(self.citations) >= MAX_CITATIONS:
            raise InputError(
                f"This run has {MAX_CITATIONS:,} citations, the most it can have. Put addresses into the answer instead."
            )
        reason, own = yield from self._looked_up(address, quote)
        if reason is not None:
            refused: RefusedCitation = {**citation, "reason": reason}
            if len(self.refused) < MAX_SHOWN and refused not in self.refused:
                self.refused.append(refused)
            raise InputError(f"The citation is refused: {reason}")
        citation["quote"] = own
        if (citation["address"], own) not in self._cited:
            self._cited.add((citation["address"], own))
            self.citations.append(citation)
        return citation

    def _looked_up(self, address: Address, quote: str | None) -> Job:
        """Return why the citation is refused, or None and the quote in the record's own characters."""
        found = self._scans.at(address)
        if found is None:
            return f"{str(address)[:300]} is no record of this run's corpora or results. Take the '_address' of a record.", None
        manifest, shard = found
        (record,) = yield from self._scans.partials("record", [Work(shard, bind((), manifest.schema))], {"address": str(address)})
        if isinstance(record, ShardFailure):
            return f"{address.object} cannot be read: {record.reason}", None
        if record is None:
            return f"there is no record at {str(address)[:300]}. Take the '_address' of a record as it is.", None
        own = None if quote is None else own_words(quote, record)
        if quote is not None and own is None:
            return f"the quote {quote[:200]!r} is not in the record at {str(address)[:300]}. Quote it to the letter.", None
        return None, own
