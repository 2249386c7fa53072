"""Pictures of a run as SVG: what was read of each shard, when what was under way, and what it cost at each depth.

Pure; colours come from the page.
"""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

from rlm_ray.text import counted
from rlm_ray.types.usage import ModelUsage

#: Squares of the map: of more shards, each square stands for several.
MOST_SQUARES = 1_500
#: What a shard's bytes are told apart by, from the best read to the least.
CLASSES = ("model", "code", "excluded", "unread")
WORDS = {"model": "put before a model", "code": "read by code alone", "excluded": "excluded by statistics", "unread": "not read"}
Read = tuple[int, int, int, int] | None
_SQUARE, _GAP, _PER_ROW = 12, 2, 60
_WIDTH, _LANE, _LABEL = 1000, 22, 64


@dataclass(frozen=True, slots=True)
class Span:
    """Something that took time.

    Attributes
    ----------
    lane : {"root", "cell", "call"}
    begun, ended : float
        Seconds since the run began.
    label : str
    """

    lane: str
    begun: float
    ended: float
    label: str


@dataclass(slots=True)
class Intervals:
    """Many intervals in little memory: when each began and ended, in seconds since the run began.

    Examples
    --------
    >>> Intervals.of([(0.0, 2.0), (1.0, 3.0)]).levels()
    [(0.0, 1), (1.0, 2), (2.0, 1), (3.0, 0)]
    """

    begins: array[float] = field(default_factory=lambda: array("d"))
    ends: array[float] = field(default_factory=lambda: array("d"))

    @classmethod
    def of(cls, pairs: Iterable[tuple[float, float]]) -> Intervals:
        """Take them from pairs."""
        made = cls()
        for begun, ended in pairs:
            made.begins.append(begun)
            made.ends.append(ended)
        return made

    def levels(self, most: int = 400) -> list[tuple[float, int]]:
        """Return how many are open from each moment on, at about `most` moments at the most."""
        begins, ends = array("d", sorted(self.begins)), array("d", sorted(self.ends))
        count = len(begins) + len(ends)
        if count <= most:
            kept = sorted({*begins, *ends})
        else:  # each so many-th beginning and end: dense where much happens
            step = -(-count // most)
            kept = sorted({*begins[::step], *ends[::step], begins[0], ends[-1]})
        return [(at, bisect.bisect_right(begins, at) - bisect.bisect_right(ends, at)) for at in kept]


def shard_map(shards: Sequence[Read], names: Sequence[str]) -> str:
    """Draw one square for each shard, in order, filled by what was read of it and by whom; with a title on each square.

    Parameters
    ----------
    shards : sequence of tuple of int, or None
        Bytes of each of `CLASSES`; None where the shard could not be read.
    names : sequence of str

    Examples
    --------
    >>> shard_map([(5, 5, 0, 0), (0, 0, 0, 9)], ["a", "b"]).count("<rect")
    3
    """
    each = -(-len(shards) // MOST_SQUARES) or 1
    groups = [(shards[first : first + each], names[first : first + each]) for first in range(0, len(shards), each)]
    step = _SQUARE + _GAP
    rows = -(-len(groups) // _PER_ROW)
    squares = []
    for number, (group, named) in enumerate(groups):
        known = [shard for shard in group if shard is not None]
        nbytes = [sum(part) for part in zip(*known, strict=True)] or [0] * len(CLASSES)
        shares = [count / max(1, sum(nbytes)) for count in nbytes]
        told = [f"{share:.0%} {WORDS[name]}" for name, share in zip(CLASSES, shares, strict=True) if share]
        told += [f"{len(group) - len(known):,} failed"] if len(known) < len(group) else []
        title = named[0] if len(named) == 1 else f"{named[0]} … {named[-1]}, {len(named)} shards"
        x, y = number % _PER_ROW * step, number // _PER_ROW * step
        squares.append(f"<g><title>{escape(title)}: {', '.join(told) or 'empty'}</title>")
        filled = 0.0
        parts = [("failed", 1.0)] if len(known) < len(group) else [*zip(CLASSES, shares, strict=True)]
        for kind, share in parts:
            if share:
                top, tall = y + filled * _SQUARE, share * _SQUARE
                squares.append(f'<rect class="{kind}" x="{x}" y="{top:.4g}" width="{_SQUARE}" height="{tall:.3g}"/>')
                filled += share
        squares.append("</g>")
    width, height = min(len(groups), _PER_ROW) * step, rows * step
    total = [sum(part) for part in zip(*(shard for shard in shards if shard is not None), strict=True)] or [0] * len(CLASSES)
    shown = counted(len(shards), "shard")
    said = ", ".join(f"{count / max(1, sum(total)):.0%} {WORDS[name]}" for name, count in zip(CLASSES, total, strict=True) if count)
    return (
        f'<svg class="map" role="img" aria-label="of {shown}: {escape(said)}" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">{"".join(squares)}</svg>'
    )


def timeline(spans: Sequence[Span], seconds: float, leaves: Intervals | None = None) -> str:
    """Draw when the root model was asked, when its cells ran, and how many recursive calls and leaf calls were under way.

    Examples
    --------
    >>> "turn 1" in timeline([Span("root", 0.0, 1.0, "turn 1")], 2.0)
    True
    """
    seconds = max(seconds, 0.001)
    scale = (_WIDTH - _LABEL) / seconds
    lanes = [lane for lane in ("root", "cell") if any(span.lane == lane for span in spans)]
    parts = []
    for row, lane in enumerate(lanes):
        y = row * _LANE
        parts.append(f'<text x="0" y="{y + 15}">{lane}</text>')
        for span in spans:
            if span.lane == lane:
                x, width = _LABEL + span.begun * scale, max(1.0, (span.ended - span.begun) * scale)
                title = f"{span.label}: {span.ended - span.begun:.1f} s"
                parts.append(
                    f'<rect class="{lane}" x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="{_LANE - 6}" rx="2">'
                    f"<title>{escape(title)}</title></rect>"
                )
    height = len(lanes) * _LANE
    calls = Intervals.of((span.begun, span.ended) for span in spans if span.lane == "call")
    for kind, name, title, found in (("call", "calls", "recursive calls", calls), ("leaf", "leaves", "leaf calls", leaves)):
        if found is not None and found.begins:
            parts += _area(kind, name, title, found.levels(), scale, height)
            height += 66
    parts.append(f'<text x="{_LABEL}" y="{height + 15}">0</text>')
    parts.append(f'<text x="{_WIDTH}" y="{height + 15}" text-anchor="end">{seconds:,.1f} s</text>')
    return (
        f'<svg class="timeline" role="img" aria-label="timeline of {seconds:,.1f} seconds" viewBox="0 0 {_WIDTH} {height + 20}">'
        f"{''.join(parts)}</svg>"
    )


def _area(kind: str, name: str, title: str, levels: list[tuple[float, int]], scale: float, height: int) -> list[str]:
    """How many were under way, over time, as one shape."""
    most = max(1, *(count for _, count in levels))
    top, tall = height + 6, 60
    points: list[tuple[float, float]] = [(_LABEL, top + tall)]
    for (at, count), (_, before) in zip(levels, [(0.0, 0), *levels], strict=False):
        x = _LABEL + max(0.0, at) * scale
        points += [(x, top + tall * (1 - before / most)), (x, top + tall * (1 - count / most))]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return [
        f'<text x="0" y="{top + 14}">{name}</text><text x="0" y="{top + 30}">≤ {most:,}</text>',
        f'<polygon class="{kind}" points="{path}"><title>{title} under way, {most:,} at most</title></polygon>',
    ]


def spark_line(values: Sequence[int], label: str) -> str:
    """Draw how a number went from run to run, with a dot on the last.

    Examples
    --------
    >>> 'aria-label="high: 3, 0, 1"' in spark_line([3, 0, 1], "high")
    True
    """
    wide, tall, most = 160, 28, max(1, *values)
    step = (wide - 8) / max(1, len(values) - 1)
    points = [(4 + number * step, 4 + (tall - 8) * (1 - value / most)) for number, value in enumerate(values)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    said = escape(f"{label}: {', '.join(f'{value:,}' for value in values)}")
    return (
        f'<svg class="spark" role="img" aria-label="{said}" viewBox="0 0 {wide} {tall}" width="{wide}" height="{tall}">'
        f'<polyline points="{line}"></polyline><circle cx="{x:.1f}" cy="{y:.1f}" r="3"></circle></svg>'
    )


def cost_by_depth(rows: Sequence[ModelUsage]) -> str:
    """Draw what was spent at each depth, by each model: dollars where all prices are known, else tokens.

    Parameters
    ----------
    rows : sequence of dict
        `depth`, `model`, `calls`, `prompt_tokens`, `completion_tokens`, `usd`.

    Examples
    --------
    >>> row = {"depth": 1, "model": "small", "calls": 3, "prompt_tokens": 10, "completion_tokens": 2, "usd": None}
    >>> "depth 1, small: 12 tokens in 3 calls" in cost_by_depth([row])
    True
    """
    priced = all(row["usd"] is not None for row in rows)
    amounts = [(row["usd"] or 0.0) if priced else row["prompt_tokens"] + row["completion_tokens"] for row in rows]
    most = max(amounts, default=0) or 1
    parts = []
    for number, (row, amount) in enumerate(zip(rows, amounts, strict=True)):
        y = number * 2 * _LANE
        cost = f"${amount:,.4f}" if priced else counted(amount, "token")
        text = f"depth {row['depth']}, {row['model']}: {cost} in {counted(row['calls'], 'call')}"
        parts.append(f'<text x="0" y="{y + 14}">{escape(text[:140])}</text>')
        parts.append(
            f'<rect class="depth" x="0" y="{y + 19}" width="{max(1.0, _WIDTH * amount / most):.1f}" height="{_LANE - 8}" rx="2"/>'
        )
    return (
        f'<svg class="timeline" role="img" aria-label="cost by depth and model" '
        f'viewBox="0 0 {_WIDTH} {2 * _LANE * len(rows)}">{"".join(parts)}</svg>'
    )
