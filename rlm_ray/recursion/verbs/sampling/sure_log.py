"""What a call knows of how sure its answer is: a sentence for each estimate and each batch that was read again."""

from __future__ import annotations

from collections.abc import Iterable

from rlm_ray.types.run import SureRecord

#: Sentences that are kept; more than these nobody reads.
MAX_RECORDS = 100


class SureLog:
    """The sentences, by what they are about: a later one about the same takes the place of the earlier."""

    def __init__(self) -> None:
        self.records: dict[str, SureRecord] = {}

    def add(self, record: SureRecord) -> None:
        """Take note of one."""
        if record["key"] in self.records or len(self.records) < MAX_RECORDS:
            self.records[record["key"]] = record

    def restore(self, logged: Iterable[SureRecord]) -> None:
        """Take what a log has."""
        for record in logged:
            self.add(record)
