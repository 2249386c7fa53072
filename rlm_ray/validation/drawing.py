"""Draws the records that people label: from what was found, from what was read and left, and from what nobody read."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator, Mapping
from typing import cast

import numpy

from rlm_ray import settings as settings_module
from rlm_ray.cluster.calls import load_corpora
from rlm_ray.conversion import saved_answer
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.errors import InputError
from rlm_ray.handle.corpus import Corpus
from rlm_ray.handle.plan import MAX_PLACES, Place, Places, Plan, Source
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.sure.validation import shares_of
from rlm_ray.types.json import Record
from rlm_ray.validation.sheet import MAX_TEXT, NAMES, Item, Sheet, save
from rlm_ray.validation.strata import FOUND, LEFT, UNREAD, Known, addresses, known
from rlm_ray.workspace import Session

#: Records of a run that are drawn at a time, until enough of them are of the part that nobody read.
STEP = 500


def draw_sheet(run: RunDirectory, sample: int, seed: int = 0) -> Sheet:
    """Draw records of a finished run for people to label, and keep with the run which is of which part.

    Reads the records that are drawn, and counts the corpora where footers do not. Calls no model.

    Raises
    ------
    InputError
        The run has no answer yet, or its context was a text.
    ObjectChanged
        An object is no longer what the run read.
    """
    about, answer = run.about(), run.answer()
    if answer is None:
        raise InputError(f"The run {run.id} has no answer yet. Let it end: rlm-ray resume {run.id}")
    if not about["corpora"]:
        raise InputError(f"The context of run {run.id} was a text, which has no records to draw from.")
    settings = settings_module.make(about["settings"])
    manifests = load_corpora(run.uri, tuple(about["corpora"]))
    table = saved_answer(answer, run, settings, manifests).table
    named = itertools.chain(
        (str(row["_address"]) for row in table) if table is not None else addresses(answer["value"]),
        (citation["address"] for citation in answer["citations"]),
    )
    parts = known(run.uri, manifests, named)
    with Session(settings.with_(run_id=None), corpora=manifests) as session:
        corpora = {name: Corpus(Plan((Source(name),)), manifest.info(), session) for name, manifest in manifests.items()}
        counts = {name: corpus.count() for name, corpus in corpora.items()}
        sizes = _sizes(parts, counts)
        wanted = dict(zip(NAMES, shares_of(sample, [sizes[name] for name in NAMES]), strict=True))
        items = list(_items(corpora, _places(corpora, parts, counts, wanted, manifests, seed), parts))
    random.Random(seed).shuffle(items)
    for number, item in enumerate(items, 1):
        item["id"] = str(number)
    sheet: Sheet = {"question": about["question"] or "", "seed": seed, "sizes": sizes, "items": items}
    save(run, sheet)
    return sheet


def _sizes(parts: Mapping[str, Known], counts: Mapping[str, int]) -> dict[str, int]:
    found, left = (sum(len(getattr(part, name)) for part in parts.values()) for name in ("found", "left"))
    return {FOUND: found, LEFT: left, UNREAD: max(0, sum(counts.values()) - found - left)}


def _places(
    corpora: Mapping[str, Corpus],
    parts: Mapping[str, Known],
    counts: Mapping[str, int],
    wanted: Mapping[str, int],
    manifests: Mapping[str, Manifest],
    seed: int,
) -> dict[str, list[Place]]:
    """Return the places that are drawn, by corpus."""
    choose = random.Random(seed)
    drawn: dict[str, list[Place]] = {name: [] for name in corpora}
    for stratum in (FOUND, LEFT):
        members = sorted((name, place) for name, part in parts.items() for place in getattr(part, stratum))
        for name, place in choose.sample(members, min(len(members), wanted[stratum])):
            drawn[name].append(place)
    unread = [max(0, counts[name] - len(parts[name].found) - len(parts[name].left)) for name in corpora]
    some = numpy.random.default_rng(seed).multivariate_hypergeometric(unread, min(sum(unread), wanted[UNREAD]), method="marginals")
    for (name, corpus), number in zip(corpora.items(), some.tolist(), strict=True):
        drawn[name] += itertools.islice(_unread(corpus, parts[name], counts[name], seed), number)
    return drawn


def _unread(corpus: Corpus, part: Known, count: int, seed: int) -> Iterator[Place]:
    """Yield places that nobody read, in random order."""
    for skip in range(0, count, STEP):
        step = cast(Places, corpus.draw(STEP, seed=seed, skip=skip).plan.steps[-1])
        places = list(step.places)
        random.Random(seed + skip).shuffle(places)  # a sample's places stand in order
        yield from (place for place in places if part.stratum(place) == UNREAD)


def _items(corpora: Mapping[str, Corpus], drawn: Mapping[str, list[Place]], parts: Mapping[str, Known]) -> Iterator[Item]:
    for name, places in drawn.items():
        for first in range(0, len(places), MAX_PLACES):
            some = sorted(set(places[first : first + MAX_PLACES]))
            records = corpora[name].then(Places(tuple(some)))
            for place, record in zip(some, records, strict=False):
                yield {"id": "", "address": str(record["_address"]), "text": _text(record), "stratum": parts[name].stratum(place)}


def _text(record: Record) -> str:
    shown = {name: value for name, value in record.items() if name != "_address"}
    text = str(shown["text"]) if list(shown) == ["text"] else json.dumps(shown, ensure_ascii=False, indent=1)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} … [{len(text) - MAX_TEXT:,} more characters]"
