"""Findings: each checked against the record that it rests on, named, and kept as a table, a partition a run."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import jsonschema
import pyarrow.parquet

from rlm_ray import storage
from rlm_ray.audit import deltas
from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.operations.lookup import part_of, record_at, shard_of
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import InputError, ObjectUnreadable, StorageError
from rlm_ray.ledger.citations import own_words
from rlm_ray.ledger.segments import to_table
from rlm_ray.sandbox.outside import parsing
from rlm_ray.types.json import JsonObject, JsonSchema, Record

#: Records that are read at the same time.
THREADS = 8

#: A finding: the columns of its job beside `id`, `address` and `quote`, and in an incremental job `status` and `since`.
Finding: TypeAlias = JsonObject


@dataclass(frozen=True, slots=True)
class Checked:
    """Findings that stand, and those that do not.

    Attributes
    ----------
    standing : list of dict
        With an `id`, the same for the same finding in every run.
    rejected : list of dict
        As they were given, and `reason`.
    """

    standing: list[Finding] = field(default_factory=list)
    rejected: list[JsonObject] = field(default_factory=list)


def check(rows: Iterable[Any], item_schema: JsonSchema, manifests: Mapping[str, Manifest]) -> Checked:
    """Check findings: their columns, that the record is there, and that the quote is in it. Reads those records.

    Parameters
    ----------
    rows : iterable
        What a run answered.
    item_schema : mapping
        JSON Schema of one finding.
    manifests : mapping of str to Manifest
        The corpora that evidence may come from.
    """
    validator = jsonschema.Draft202012Validator(dict(item_schema))
    found = Checked()
    seen: set[tuple[str, str | None]] = set()
    given = list(rows)
    together: dict[Any, list[int]] = {}  # findings that rest on one record, which is read once
    for number, row in enumerate(given):
        together.setdefault(_record_of(row) or number, []).append(number)
    reasons: dict[int, str | None] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        for told in pool.map(lambda numbers: _why_not(given, numbers, validator, manifests), together.values()):
            reasons |= told
    for number, row in enumerate(given):
        if reasons[number] is not None:
            found.rejected.append((dict(row) if isinstance(row, Mapping) else {"finding": row}) | {"reason": reasons[number]})
            continue
        columns = {name: row.get(name) for name in item_schema["properties"]}
        named = {"id": identify(columns)} | columns
        if (named["id"], named["quote"]) not in seen:
            seen.add((named["id"], named["quote"]))
            found.standing.append(named)
    return found


def _record_of(row: Any) -> Address | None:
    try:
        return Address.parse(row["address"]).whole
    except (InputError, KeyError, TypeError):
        return None


def _why_not(given: list[Any], numbers: list[int], validator: Any, manifests: Mapping[str, Manifest]) -> dict[int, str | None]:
    """Say of each of these findings, which rest on one record, why it does not stand; None where it does."""
    reasons: dict[int, str | None] = {}
    source: Record | str | StorageError | None = None  # the record, or why there is none
    for number in numbers:
        row = given[number]
        if (error := next(validator.iter_errors(row), None)) is not None:
            reasons[number] = f"{error.json_path.removeprefix('$.')}: {error.message:.300}"
            continue
        try:
            address = Address.parse(row["address"])
        except InputError as error:
            reasons[number] = str(error)
            continue
        source = source if source is not None else _source(address.whole, manifests)
        record = part_of(source, address) if isinstance(source, Mapping) else None
        quote = row.get("quote")
        if isinstance(source, StorageError):
            # that an object cannot be read is a finding too; a quote of it is none
            reasons[number] = None if quote is None else f"{address.object} cannot be read: {source}"
        elif isinstance(source, str):
            reasons[number] = source
        elif record is None:
            reasons[number] = f"there is no record at {address}"
        elif quote is not None and (own := own_words(quote, record)) is None:
            reasons[number] = f"the quote {quote[:200]!r} is not in the record at {address}"
        else:
            reasons[number] = None
            if quote is not None and own != quote:  # a finding keeps the document's own characters
                given[number] = dict(row) | {"quote": own}
    return reasons


def _source(address: Address, manifests: Mapping[str, Manifest]) -> Record | str | StorageError:
    for manifest in manifests.values():
        reason = next((entry["reason"] for entry in manifest.failed if entry["object"] == address.object), None)
        if reason is not None:
            return ObjectUnreadable(reason)
        shard = shard_of(manifest, address)
        if shard is None:
            continue
        try:
            record = record_at(Work(shard, bind((), manifest.schema), parsers=parsing.PARSERS), {"address": str(address)})
        except StorageError as error:
            return error
        return record if record is not None else f"there is no record at {address}"
    return f"{address!s:.300} is no record of the job's corpora"


def identify(columns: Finding) -> str:
    """Name a finding by what it says and where, not by the version of the object: an object that grew has it still."""
    address = Address.parse(columns["address"])
    where = f"{address.object}#{address.unit}={address.start}-{address.stop}&{address.column}&{address.chars}"
    said = {name: value for name, value in columns.items() if name not in ("address", "quote")}
    return hashlib.sha256(json.dumps([where, said], sort_keys=True, default=str).encode()).hexdigest()[:16]


def write(folder: str, run: str, findings: Sequence[Finding], kinds: Mapping[str, str], form: str = "parquet") -> str:
    """Write a run's findings as a partition of the table; the same run writes the same partition again.

    A list without members is null in the table: as text it would be `[]`, which a reader takes for a value.

    Parameters
    ----------
    kinds : mapping of str to str
        Type by column, as an `AnswerSchema` has them: the same in every run, also where a column has no value.
    form : {"parquet", "delta"}

    Returns
    -------
    str
        URI of the file, or of the Delta table.
    """
    plain = [{name: None if value == [] else value for name, value in finding.items()} for finding in findings]
    rows = to_table(plain, {"id": "string"} | dict(kinds))
    if form == "delta":
        return deltas.write(folder, run, rows)
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(rows, buffer, compression="zstd")
    uri = storage.join(storage.normal(folder), f"run={run}", "part-0.parquet")
    storage.write_bytes(uri, buffer.getvalue())
    return uri
