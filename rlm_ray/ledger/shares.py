"""The records and bytes of one shard by class, from its marks; the classes are those of `ledger.coverage`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyroaring import BitMap64

from rlm_ray.corpus.catalog import deletions
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.ledger.read_log import CODE, EXCLUDED, MODEL

CLASSES = ("excluded", "read_by_code", "read_by_model", "not_read")


@dataclass(slots=True)
class Read:
    """The marks of one shard."""

    sets: dict[str, BitMap64] = field(default_factory=dict)
    spanned: dict[int, int] = field(default_factory=dict)

    def set(self, kind: str) -> BitMap64:
        """Return the positions that are marked so."""
        return self.sets.setdefault(kind, BitMap64())


@dataclass(frozen=True, slots=True)
class Numbers:
    """One shard's records and bytes by class, in the order of `CLASSES`; records that are not known are None."""

    nbytes: tuple[int, int, int, int]
    records: tuple[int | None, int | None, int | None, int | None]


def of_shard(
    shard: Shard, read: Read | None, *, code: bool, excluded: bool, row_bytes: float = 100.0, count: int | None = None
) -> Numbers:
    """Count one shard.

    Parameters
    ----------
    read : optional
        Its marks.
    code, excluded : bool
        Whether it was looked at, or excluded, as a whole.
    row_bytes : float
        About the bytes of a row, where the number of rows is not known.
    count : int, optional
        The records that were counted, where no footer says their number.
    """
    read = read if read is not None else Read()
    if shard.in_rows:
        return _rows(shard, read, code, excluded, row_bytes, count)
    return _text(shard, read, code, excluded, count)


def _rows(shard: Shard, read: Read, code: bool, excluded: bool, row_bytes: float, count: int | None) -> Numbers:
    total = shard.rows if shard.rows is not None else count
    gone = BitMap64(deletions.unpack(shard.deleted).tolist()) if shard.deleted else BitMap64()
    low, high = (shard.start, shard.stop) if shard.rows is not None else (0, 1 << 62)

    def inside(kind: str) -> BitMap64:
        found = read.set(kind) - gone
        if found and (found.min() < low or found.max() >= high):
            found.remove_range(0, low)
            found.remove_range(high, 1 << 63)
        return found

    model, looked, out = inside(MODEL), inside(CODE), inside(EXCLUDED)
    looked -= model
    out -= model | looked
    counts = {"read_by_model": len(model), "read_by_code": len(looked), "excluded": len(out), "not_read": 0}
    rest = "read_by_code" if code else "excluded" if excluded else "not_read"
    if total is not None:
        if code:
            counts["excluded"] = 0
        counts[rest] += total - sum(counts.values())
        return Numbers(_shared(shard.nbytes, counts), tuple(counts[name] for name in CLASSES))  # type: ignore[arg-type]
    known = {name: min(shard.nbytes, round(count * row_bytes)) for name, count in counts.items()}
    left = shard.nbytes
    for name in ("read_by_model", "read_by_code", "excluded"):
        known[name] = min(known[name], left)
        left -= known[name]
    known[rest] += left
    records = {name: None if name == rest else count for name, count in counts.items()}
    return Numbers(tuple(known[name] for name in CLASSES), tuple(records[name] for name in CLASSES))  # type: ignore[arg-type]


def _shared(nbytes: int, counts: Mapping[str, int]) -> tuple[int, int, int, int]:
    """Bytes of a file by class, as rows have them: their sum is exact."""
    total = max(1, sum(counts.values()))
    found, seen, given = [], 0, 0
    for name in CLASSES:
        seen += counts[name]
        upto = round(nbytes * seen / total)
        found.append(upto - given)
        given = upto
    return (found[0], found[1], found[2], nbytes - sum(found[:3]))


def _text(shard: Shard, read: Read, code: bool, excluded: bool, count: int | None) -> Numbers:
    model = read.set(MODEL)
    whole_records = len(read.set("starts")) + len(whole_spanned(read))
    if shard.traits.whole_objects:
        total = shard.nbytes
        seen = total if whole_records else min(total, len(model))
        rest = "read_by_code" if code else "excluded" if excluded else "not_read"
        counts = dict.fromkeys(CLASSES, 0) | {"read_by_model": seen}
        counts[rest] += total - seen
        records = dict.fromkeys(CLASSES, 0) | {"read_by_model" if whole_records else rest: 1}
        return Numbers(tuple(counts[name] for name in CLASSES), tuple(records[name] for name in CLASSES))  # type: ignore[arg-type]
    looked = read.set(CODE) - model
    out = read.set(EXCLUDED) - model - looked
    if not shard.packed:
        within = (shard.start, shard.stop)
        sizes = [positions.range_cardinality(*within) for positions in (out, looked, model)]
    else:
        sizes = [len(out), len(looked), len(model)]
    left = shard.nbytes
    parts = {}
    for name, size in zip(("read_by_model", "read_by_code", "excluded"), reversed(sizes), strict=True):
        parts[name] = min(size, left)
        left -= parts[name]
    rest = "read_by_code" if code else "excluded" if excluded else "not_read"
    if code:
        left += parts["excluded"]
        parts["excluded"] = 0
    parts[rest] = parts.get(rest, 0) + left
    nbytes = tuple(parts.get(name, 0) for name in CLASSES)
    lines: dict[str, int | None] = dict.fromkeys(CLASSES, None) | {"read_by_model": whole_records}
    if count is not None and code:
        lines |= {"excluded": 0, "not_read": 0, "read_by_code": max(0, count - whole_records)}
    elif parts["read_by_model"] == shard.nbytes:
        lines |= dict.fromkeys(CLASSES, 0) | {"read_by_model": whole_records}
    else:
        lines |= {name: 0 for name in CLASSES if not parts.get(name) and name != "read_by_model"}
    return Numbers(nbytes, tuple(lines[name] for name in CLASSES))  # type: ignore[arg-type]


def whole_spanned(read: Read) -> list[int]:
    """Records of which a model saw every part."""
    starts, model = read.set("starts"), read.set(MODEL)
    return [at for at, end in read.spanned.items() if at not in starts and model.contains_range(at, end)]
