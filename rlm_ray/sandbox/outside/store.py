"""Stores snapshots and answers in the parent: checks their shape and size, and never unpickles them."""

from __future__ import annotations

import json
import struct
from typing import Any

from rlm_ray.errors import ProtocolError, SandboxError
from rlm_ray.sandbox.inside.snapshot import MAX_NAMES, MAX_TOTAL, MAX_VARIABLE
from rlm_ray.sandbox.outside.events import CellDone, Final
from rlm_ray.sandbox.wire.channel import Header, clean, parse_json

_MAGIC = b"RLMS1\n"
#: Rough bound of what an answer takes in this process's memory once it is parsed.
MAX_PARSED = 4 << 30


def names(value: Any) -> list[str]:
    """Take a list of variable names from the sandbox: strings, short, not too many."""
    if not isinstance(value, list):
        return []
    return [clean(name, 200) for name in value[:MAX_NAMES] if isinstance(name, str)]


def merge(kept: dict[str, bytes], header: Header, blob: bytes) -> dict[str, bytes]:
    """Return the snapshot after a cell: what is still named, with what is new in `blob`.

    Raises
    ------
    ProtocolError
        The header and the blob do not fit together, or a bound is passed.
    """
    held, new = header.get("names"), header.get("new")
    if not isinstance(held, list) or not isinstance(new, list) or len(held) > 2 * MAX_NAMES or len(new) > 2 * MAX_NAMES:
        raise ProtocolError("a malformed snapshot")
    fresh: dict[str, bytes] = {}
    offset = 0
    for entry in new:
        if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str) and isinstance(entry[1], int)):
            raise ProtocolError("a malformed snapshot")
        name, size = entry
        if not 0 <= size <= MAX_VARIABLE or len(name) > 1_000:
            raise ProtocolError("a snapshot with a variable out of bounds")
        fresh[name] = blob[offset : offset + size]
        offset += size
    if offset != len(blob):
        raise ProtocolError("a snapshot whose sizes do not fit its bytes")
    merged: dict[str, bytes] = {}
    for name in held:
        if not isinstance(name, str):
            raise ProtocolError("a malformed snapshot")
        data = fresh.get(name, kept.get(name))
        if data is not None:
            merged[name] = data
    if sum(map(len, merged.values())) > MAX_TOTAL:
        raise ProtocolError("a snapshot larger than accepted")
    return merged


def pack(kept: dict[str, bytes]) -> bytes:
    """Write a snapshot as one opaque value.

    Examples
    --------
    >>> unpack(pack({"x": b"1"}))
    {'x': b'1'}
    """
    if not kept:
        return b""
    index = json.dumps([[name, len(data)] for name, data in kept.items()]).encode()
    return b"".join([_MAGIC, struct.pack("!I", len(index)), index, *kept.values()])


def unpack(data: bytes) -> dict[str, bytes]:
    """Read what `pack` wrote.

    Raises
    ------
    SandboxError
        The bytes are not a snapshot.
    """
    if not data:
        return {}
    try:
        if not data.startswith(_MAGIC):
            raise ValueError("no snapshot's beginning")
        start = len(_MAGIC) + 4
        (size,) = struct.unpack("!I", data[len(_MAGIC) : start])
        kept, offset = {}, start + size
        for name, length in json.loads(data[start:offset]):
            if not isinstance(name, str) or not isinstance(length, int) or length < 0 or offset + length > len(data):
                raise ValueError("an index that does not fit")
            kept[name] = data[offset : offset + length]
            offset += length
    except (ValueError, TypeError, struct.error) as error:
        raise SandboxError(
            f"A snapshot of {len(data):,} bytes cannot be read ({error}). Resume from an earlier turn, or replay the run."
        ) from None
    return kept


def final(kind: Any, blob: bytes) -> Final:
    """Parse an answer.

    Raises
    ------
    ProtocolError
        Not one, or its parsed form would be too large for this process.
    """
    if kind not in ("json", "records", "corpus"):
        raise ProtocolError(f"an answer of the unknown kind {clean(kind, 40)!r}")
    parsed = 120 * (blob.count(b"[") + blob.count(b"{")) + 60 * (blob.count(b",") + blob.count(b":")) + 2 * len(blob)
    if parsed > MAX_PARSED:
        raise ProtocolError(f"it would take some {parsed >> 20:,} MB of memory as Python values")
    value = parse_json(blob, constants=True)
    if kind == "corpus" and not isinstance(value, dict | list):
        raise ProtocolError("a plan that is neither an object nor a list")
    if kind == "records" and not (isinstance(value, list) and all(isinstance(item, dict) for item in value)):
        raise ProtocolError("records that are not a list of objects")
    return Final(kind, value)


def cell_done(header: Header, blob: bytes, *, requests: int, output_chars: int) -> CellDone:
    """Take over the report of a cell's end, cleaned. An answer that cannot be taken over becomes a problem to tell."""
    answer, problem, failed, cut = None, header.get("problem"), header.get("error"), header.get("cut")
    if header.get("final") is not None:
        try:
            answer = final(header["final"], blob)
        except ProtocolError as error:
            problem = f"The answer could not be taken over: {error}. Assign plain data, or a Corpus, to Final."
    return CellDone(
        output=clean(header.get("output"), output_chars + 200),
        error=None if failed is None else clean(failed, 8_000),
        final=answer,
        final_problem=None if problem is None else clean(problem, 2_000),
        requests=requests,
        names=names(header.get("names")),
        truncated=cut if type(cut) is int and cut > 0 else 0,
    )
