"""Shows a handle to people, printed or in a notebook. Imports only the standard library: see `handle`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rlm_ray.handle.plan import Plan, Result
from rlm_ray.handle.values import facts_html, rows_html, size

TYPE_CHECKING = False  # see rlm_ray/__init__.py
if TYPE_CHECKING:
    from typing import Any

    from rlm_ray.types.json import Record


def shown_line(plan: Plan, info: Mapping[str, Any], columns: Sequence[str], shards: int, nbytes: int, count: int | None) -> str:
    """Return what `print` shows: what it is, what is known of it, and how to look."""
    known = count if count is not None else info.get("records") if not plan.steps else None
    records = f"{known:,} records" if known is not None else "records not counted"
    if known is None and info.get("estimate") and not plan.steps:
        records = f"about {info['estimate']:,} records"
    steps = "".join(f".{shown_step(step.to_json())}" for step in plan.steps[:6])
    more = f" … {len(plan.steps) - 6} more steps" if len(plan.steps) > 6 else ""
    name = plan.origin.id if isinstance(plan.origin, Result) else plan.origin.corpus
    return (
        f"<Corpus {name}{steps}{more}: {info.get('unit', 'record')}s, {shards:,} shards, {size(nbytes)}, {records}; "
        f"columns: {', '.join(columns[:12])}. It holds no data: look with .head(5), .sample(20), .describe()>"
    )


def shown_reading(would: Mapping[str, int]) -> str:
    """Return what a plan would read, in words."""
    shards, nbytes = (
        f"{would['shards']:,} of {would['of_shards']:,} shards",
        f"{size(would['nbytes'])} of {size(would['of_nbytes'])}",
    )
    return f"at most {shards}, {nbytes}"


def shown_html(known: Mapping[str, Any], shards: int, nbytes: int, rows: Sequence[Record] = (), problem: str = "") -> str:
    """Return what a notebook shows: what `describe` knows, and the first rows or why there are none."""
    counted = f"{known['records']:,}" if "records" in known else f"about {known['estimate']:,}" if "estimate" in known else ""
    facts = {
        "records": counted,
        "size": size(nbytes),
        "shards": f"{shards:,}",
        "columns": ", ".join(f"{name}: {kind}" for name, kind in list(known["schema"].items())[:30]),
        "narrowed by": " ".join(known.get("narrowed by", ())),
        "cannot be read": f"{len(known['failed']):,} objects" if known.get("failed") else "",
        "rows": problem,
    }
    return facts_html(f"Corpus of {known.get('unit', 'record')}s", facts) + (rows_html(rows, None, "record") if rows else "")


def shown_step(step: dict[str, Any]) -> str:
    """Return a step of a plan as the verb that made it."""
    kind = step["node"]
    rest = {key: value for key, value in step.items() if key != "node" and value not in (None, False)}
    if kind == "slice":
        return f"[{step['start']}:{'' if step['stop'] is None else step['stop']}]"
    if kind == "places":
        return f"draw({len(step['places']):,})"
    if kind == "where":
        shown = " and ".join(f"{column} {operator} {value!r:.60}" for column, operator, value in step["conditions"])
        return f"where({shown})"
    shown = ", ".join(f"{value!r:.60}" if key in ("pattern", "columns") else f"{key}={value!r:.60}" for key, value in rest.items())
    return f"{kind}({shown})"
