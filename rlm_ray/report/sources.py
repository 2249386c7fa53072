"""A citation with the records around it, from the lake. Reads what it shows; calls no model."""

from __future__ import annotations

from typing import Any

from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.operations.lookup import record_at, shard_of
from rlm_ray.corpus.operations.operations import records
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import InputError
from rlm_ray.handle.plan import Between
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.sandbox.outside import parsing
from rlm_ray.text import counted
from rlm_ray.types.json import JsonObject, Record
from rlm_ray.types.run import Citation, SourceRecord

#: Rows, bytes of text, and characters of a document that are shown before and behind.
ROWS, NBYTES, CHARS = 3, 2_000, 400


def source(run_or_id: str, number: int, base: str | None = None) -> SourceRecord:
    """Return the N-th citation of a run's answer, from 1 on, with what stands around its record.

    Parameters
    ----------
    run_or_id, base : str
        A run directory, or an id and the folder that it is under.
    number : int

    Returns
    -------
    dict
        `address`, `quote`, `record`, `before` and `behind` (lists of records, or of one text for a document).

    Raises
    ------
    RunNotFound
        There is no such run.
    InputError
        There is no such citation, or its corpus is no longer known.
    ObjectChanged, ObjectUnreadable
        The object is no longer what was read.
    """
    run = RunDirectory.find(run_or_id, base)
    answer = run.answer()
    citations: list[Citation] = answer["citations"] if answer is not None else []
    kind = "citation"
    if run.job() is not None and answer is not None and isinstance(answer["value"], list):
        citations, kind = (
            [{"address": item["address"], "quote": item.get("quote")} for item in _findings(answer["value"])],
            "finding",
        )
    if not 1 <= number <= len(citations):
        raise InputError(f"The run {run.id} has {counted(len(citations), kind)}; there is none with the number {number}.")
    return source_at(run, citations[number - 1])


def source_at(run: RunDirectory, citation: Citation) -> SourceRecord:
    """Return a citation of a run with what stands around its record.

    Raises
    ------
    InputError
        Its corpus is no longer known, or there is no record any more.
    ObjectChanged, ObjectUnreadable
        The object is no longer what was read.
    """
    address = Address.parse(citation["address"])
    for name in run.about().get("corpora", {}):
        manifest = Manifest.load(run.path("manifest", name))
        shard = shard_of(manifest, address)
        if shard is not None:
            record, before, behind = _around(Work(shard, bind((), manifest.schema), parsers=parsing.PARSERS), address)
            return {
                "address": citation["address"],
                "quote": citation["quote"],
                "record": record,
                "before": before,
                "behind": behind,
            }
    raise InputError(
        f"{citation['address']} is in none of the run's corpora: it is a row of a result. `rlm-ray show` has the cells."
    )


def _findings(value: list[Any]) -> list[JsonObject]:
    """Return the findings of a job's answer that name a record."""
    return [item for item in value if isinstance(item, dict) and isinstance(item.get("address"), str)]


def _around(work: Work, address: Address) -> tuple[Record, list[Record] | list[str], list[Record] | list[str]]:
    record = record_at(work, {"address": str(address)})
    if record is None:
        raise InputError(f"There is no record at {address} any more.")
    if address.chars is not None and address.column is not None:
        whole = record_at(
            work, {"address": str(Address(address.object, address.version, address.unit, address.start, address.stop))}
        )
        text = str((whole or {}).get(address.column, ""))
        first, last = address.chars
        return record, [text[max(0, first - CHARS) : first]], [text[last : last + CHARS]]
    reach = ROWS if address.unit == "row" else NBYTES
    index = work.shard.index
    near = Between((index, max(0, address.start - reach), 0), (index, address.stop + reach, 0))
    found = [item for page in records(work, steps=[near]) for item in page]
    places = [Address.parse(item["_address"]).start for item in found]
    before: list[Record] = [item for item, place in zip(found, places, strict=True) if place < address.start]
    behind: list[Record] = [item for item, place in zip(found, places, strict=True) if place > address.start]
    return record, before[-ROWS:], behind[:ROWS]
