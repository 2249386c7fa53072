"""The parts of a batch, on the wire and read back from it."""

from __future__ import annotations

from rlm_ray.errors import InputError
from rlm_ray.handle.corpus import Corpus
from rlm_ray.handle.plan import Plan

TYPE_CHECKING = False  # see rlm_ray/__init__.py
if TYPE_CHECKING:
    from typing import Any


def parts_from_json(written: list[Any]) -> list[str | Plan]:
    """Read back what `parts_to_json` wrote; checks it, since it may come from root code."""
    parts: list[str | Plan] = []
    base: Plan | None = None
    if not isinstance(written, list):
        raise InputError("Parts are a list. Give context.chunks(…), or a list of Corpus.")
    for item in written:
        if not isinstance(item, dict):
            raise InputError(f"{item!r:.100} is no part. Give a Corpus or a str.")
        if isinstance(item.get("text"), str):
            parts.append(item["text"])
            continue
        if item.get("base") is not None:
            base = Plan.from_json(item["base"])
        if base is None:
            raise InputError(f"{item!r:.100} is no part. Give a Corpus or a str.")
        if item.get("step") is None:
            parts.append(base)
            base = None
            continue
        step = Plan.from_json([base.origin.to_json(), item["step"]]).nodes[1]
        parts.append(base.then(step))
    return parts


def parts_to_json(parts: Any) -> list[Any]:
    """Write chunks, handles or texts for the wire: a plan each, with what neighbours share said once.

    Returns
    -------
    list
        Of `{"text": str}` or `{"base": plan or None (as before), "step": node}`.
    """
    written: list[Any] = []
    base_before: Any = None
    for part in parts:
        if isinstance(part, str):
            written.append({"text": part})
            continue
        if not isinstance(part, Corpus):
            raise InputError(f"A part is a Corpus or a str, not {type(part).__name__}. Give context.chunks(…), or a list of them.")
        base, step = part.plan.nodes[:-1], part.plan.nodes[-1]
        if not base:
            written.append({"base": part.plan.to_json(), "step": None})
            base_before = None
            continue
        written.append({"base": None if base == base_before else [node.to_json() for node in base], "step": step.to_json()})
        base_before = base
    return written
