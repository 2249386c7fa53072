"""What a job demands to be read, and whether it was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.operations import operations
from rlm_ray.corpus.planning import shard_choice
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import InputError
from rlm_ray.handle.plan import Where
from rlm_ray.ledger import coverage
from rlm_ray.ledger.shares import CLASSES
from rlm_ray.sandbox.outside import parsing
from rlm_ray.subcalls.render import render
from rlm_ray.types.run import Failure

#: Shards that are looked at, at the same time.
THREADS = 8


class CoverageSpec(BaseModel):
    """Shares of a job's corpora that must have been read; else its answer is partial.

    Attributes
    ----------
    read_by_model : float, optional
        Share of the records (of the bytes, where their number is not known) that a model has to have seen.
    read : float, optional
        Share that code or a model has to have looked at.
    shown : float, optional
        Share of the characters of the records that sub-calls have to have been shown. Reads the records once more.
    shown_characters : int, optional
        Characters of records that sub-calls have to have been shown, whatever the size of the corpora.
    where : list of (column, operator, value), optional
        Only of the records for which this holds, as `.where()` takes it.
    corpus : str, optional
        Of this corpus alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    read_by_model: float | None = Field(default=None, gt=0, le=1, description="Share that a model has to have seen.")
    read: float | None = Field(default=None, gt=0, le=1, description="Share that code or a model has to have looked at.")
    shown: float | None = Field(default=None, gt=0, le=1, description="Share of the characters that sub-calls must have seen.")
    shown_characters: int | None = Field(
        default=None, gt=0, description="Characters of records that sub-calls have to have been shown."
    )
    where: tuple[tuple[str, str, Any], ...] = Field(
        default=(), description="Only of records for which this holds: [[column, operator, value], …]."
    )
    corpus: str | None = Field(default=None, description="Only of this corpus.")

    @model_validator(mode="after")
    def _demands(self) -> CoverageSpec:
        shares = (self.read_by_model, self.read, self.shown)
        if self.shown_characters is None and all(share is None for share in shares):
            raise ValueError("demands nothing. Give read_by_model, read or shown, a share up to 1.0, or shown_characters")
        if self.shown_characters is not None and self.where:
            raise ValueError("cannot count shown_characters under a condition. Give shown, a share, beside where")
        _step(self)
        return self

    def check(self, corpora: Iterable[str]) -> None:
        """Hold it against the names of a job's corpora.

        Raises
        ------
        InputError
            It names none of them, or has a condition on several.
        """
        names = list(corpora)
        if self.corpus is not None and self.corpus not in names:
            raise InputError(f"corpus = {self.corpus!r} is none of the job's: {', '.join(names)}.")
        if self.where and self.corpus is None and len(names) > 1:
            raise InputError(f"where needs a corpus when there are several. Add corpus: {names[0]}.")


def unmet(demand: CoverageSpec, run_dir: str, manifests: Mapping[str, Manifest], failures: Sequence[Failure] = ()) -> str | None:
    """Say what of a demand a run has not met; None where it has met it.

    A condition on columns that are not partitions reads those columns once more.

    Parameters
    ----------
    failures : sequence of mapping
        Shards that could not be read: `object`, `shard`.

    Raises
    ------
    InputError
        The condition does not fit the columns.
    ObjectChanged, ObjectUnreadable
        As a scan.
    """
    chosen = {name: manifest for name, manifest in manifests.items() if demand.corpus in (None, name)}
    failed = [(str(item["object"]), item["shard"]) for item in failures if "object" in item]
    found = coverage.noted(run_dir)
    what = f" where {' and '.join(' '.join(map(str, item)) for item in demand.where)}" if demand.where else ""
    if demand.shown_characters is not None:
        shown = coverage.prompted(found, chosen.values())
        if shown["characters"] < demand.shown_characters:
            return (
                f"The job demands shown_characters: {demand.shown_characters:,}, and sub-calls were shown {shown['characters']:,} "
                f"of {shown['records']:,} records. Raise the limits, or have the program ask about the rest."
            )
    if demand.shown is not None:
        seen, every = _shown(demand, chosen, found, failed)
        if seen < demand.shown * every:
            return (
                f"The job demands shown: {demand.shown:g}, and sub-calls were shown {seen:,} of {every:,} characters{what} "
                f"({seen / max(1, every):.2%}). Raise the limits, or have the program ask about the rest."
            )
    if demand.read_by_model is None and demand.read is None:
        return None
    model, read, total, unit = _counted(demand, chosen, found, failed)
    for name, share, seen in (("read_by_model", demand.read_by_model, model), ("read", demand.read, read)):
        if share is not None and seen < share * total:
            by = "a model" if name == "read_by_model" else "code or a model"
            return (
                f"The job demands {name}: {share:g}, and {by} read {seen:,} of {total:,} {unit}{what} "
                f"({seen / max(1, total):.2%}). Raise the limits, or have the program read the rest."
            )
    return None


def _counted(
    demand: CoverageSpec, manifests: Mapping[str, Manifest], found: coverage.Noted, failed: Sequence[tuple[str, int | None]]
) -> tuple[int, int, int, str]:
    """What a model read, what anybody read, and all of it; and in which unit."""
    by_listing = all(column in manifest.partition_columns for manifest in manifests.values() for column, _, _ in demand.where)
    plans = {name: bind(_steps(demand), manifest.schema) for name, manifest in manifests.items()}
    wanted = {name: shard_choice.shards_for(plans[name], manifest) for name, manifest in manifests.items()}
    told = {name: coverage.counted(name, manifest, found, failed) for name, manifest in manifests.items()}
    if not by_listing:
        with ThreadPoolExecutor(THREADS, thread_name_prefix="demands") as pool:
            jobs = [
                pool.submit(_looked, Work(shard, plans[name], parsers=parsing.PARSERS), found, name)
                for name, shards in wanted.items()
                for shard in shards
                if not told[name].failed[shard.index]
            ]
            parts = [job.result() for job in jobs]
        return (*(sum(part[number] for part in parts) for number in range(3)), "records")  # type: ignore[return-value]
    picked = [(item, [shard.index for shard in wanted[name]]) for name, item in told.items()]
    known = all((item.records[numbers] >= 0).all() for item, numbers in picked)
    rows = [(item.records if known else item.nbytes)[numbers].sum(axis=0).tolist() for item, numbers in picked]
    sums = {kind: sum(row[number] for row in rows) for number, kind in enumerate(CLASSES)}
    model, code = sums["read_by_model"], sums["read_by_code"]
    return model, model + code, sum(sums.values()), "records" if known else "bytes"


def _shown(
    demand: CoverageSpec, manifests: Mapping[str, Manifest], found: coverage.Noted, failed: Sequence[tuple[str, int | None]]
) -> tuple[int, int]:
    """Of the characters of the records that a demand is about: how many sub-calls were shown, and all."""
    whole = {uri for uri, index in failed if index is None}
    plans = [(bind(_steps(demand), manifest.schema), manifest) for manifest in manifests.values()]
    with ThreadPoolExecutor(THREADS, thread_name_prefix="demands") as pool:
        jobs = [
            pool.submit(_characters, Work(shard, plan, parsers=parsing.PARSERS), found)
            for plan, manifest in plans
            for shard in shard_choice.shards_for(plan, manifest)
            if shard.uri not in whole and (shard.uri, shard.index) not in failed
        ]
        parts = [job.result() for job in jobs]
    return sum(seen for seen, _ in parts), sum(every for _, every in parts)


def _characters(work: Work, found: coverage.Noted) -> tuple[int, int]:
    """Of the characters of a shard's records that fulfil a condition: those that sub-calls were shown, and all."""
    seen = every = 0
    known = coverage.characters_by_record(found, work.shard)
    for records in operations.records(work):
        for record in records:
            size = len(render(record))
            every += size
            seen += min(size, known.get(Address.parse(record["_address"]).start, 0))
    return seen, every


def _looked(work: Work, found: coverage.Noted, corpus: str) -> tuple[int, int, int]:
    """Of the records of a shard that fulfil a condition: those that a model read, that anybody read, and all."""
    model, code = coverage.seen(found, corpus, work.shard)
    counts = [0, 0, 0]
    for batch in work.scan(columns=[]):
        positions = batch.column("_pos").to_pylist()
        by_model = [position in model for position in positions]
        counts[0] += sum(by_model)
        counts[1] += sum(seen or code is None or position in code for seen, position in zip(by_model, positions, strict=True))
        counts[2] += len(positions)
    return counts[0], counts[1], counts[2]


def _step(demand: CoverageSpec) -> Where:
    try:
        return Where(tuple((column, op, tuple(value) if isinstance(value, list) else value) for column, op, value in demand.where))
    except InputError as error:
        raise ValueError(f"has a condition that does not work: {error}") from None


def _steps(demand: CoverageSpec) -> tuple[Where, ...]:
    return (_step(demand),) if demand.where else ()
