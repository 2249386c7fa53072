"""`draw`: random samples of a plan's records, the same on every cluster; a longer one begins with the shorter one."""

from __future__ import annotations

from rlm_ray.corpus.planning import drawing
from rlm_ray.errors import InputError
from rlm_ray.handle.plan import MAX_PLACES, Place, Places, Plan, Select
from rlm_ray.recursion.jobs.scheduler import Job
from rlm_ray.recursion.ports import ShardFailure
from rlm_ray.recursion.verbs.scans import Scans
from rlm_ray.types.json import JsonObject


class Samples:
    """Draws by number from the counts of the shards."""

    def __init__(self, scans: Scans) -> None:
        self._scans = scans

    def draw(self, plan: Plan, n: int, seed: int, skip: int) -> Job:
        """Return the handle of `n` records drawn at random, behind the first `skip` of the same seed."""
        if n > MAX_PLACES:
            raise InputError(f".draw({n:,}) is more than one sample has ({MAX_PLACES:,}). Draw again with skip={MAX_PLACES}.")
        places, _ = yield from self.places(plan, skip, skip + n, seed)
        manifest = yield from self._scans.manifest(plan)
        info = manifest.info() | {"records": len(places), "estimate": None}
        if plan.origin.kind == "result":
            info |= {"kind": "result", "unit": "row"}
        return {"plan": plan.then(Places(tuple(sorted(places)))).to_json(), "info": info}

    def places(self, plan: Plan, start: int, stop: int, seed: int) -> Job:
        """Return the places that are drawn, in the order drawn, with their addresses."""
        manifest = yield from self._scans.manifest(plan)
        works = yield from self._scans.works(plan)
        bound = works[0].plan if works else None
        counts = (yield from self._scans.counts(manifest, bound, works)) if bound is not None else []
        order = drawing.drawn(sum(counts), start, stop, seed)
        by_shard = drawing.by_shard(order, counts)
        partials = yield from self._scans.ordinals([works[number] for number in by_shard], list(by_shard.values()))
        firsts, before = {}, 0
        for number, count in enumerate(counts):
            firsts[number], before = before, before + count
        found: dict[int, tuple[Place, str]] = {}
        for number, partial in zip(by_shard, partials, strict=True):
            if isinstance(partial, ShardFailure):
                continue
            index = works[number].shard.index
            for ordinal, (position, char, address) in zip(by_shard[number], partial, strict=True):
                found[firsts[number] + ordinal] = (index, position, char), address
        drawn = [found[ordinal] for ordinal in order if ordinal in found]
        return [place for place, _ in drawn], [address for _, address in drawn]

    def answers(self, rows: Plan) -> Job:
        """Return the rows of a result by the address that each is about. Holds them all: for samples."""
        found: dict[str, list[JsonObject]] = {}
        after = None
        while True:
            page = yield from self._scans.page(rows, after, MAX_PLACES)
            for record in page["records"]:
                found.setdefault(record["_address"], []).append(record)
            after = page["after"]
            if after is None:
                return found


def drawn(plan: Plan, places: list[Place], columns: tuple[str, ...] | None = None) -> Plan:
    """Return the plan of the records at some places, with these columns alone."""
    narrowed = plan if columns is None else plan.then(Select(columns))
    return narrowed.then(Places(tuple(sorted(places))))
