"""What a run would read and roughly cost, from a sample: `rlm-ray ask --dry-run`. Calls no model and starts no Ray."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.operations import operations
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import StorageError
from rlm_ray.models import prices
from rlm_ray.models.contract import Usage
from rlm_ray.sandbox.outside import parsing
from rlm_ray.settings import Settings
from rlm_ray.subcalls.render import render
from rlm_ray.types.estimate import CorpusEstimate, Cost, Estimate, Limits
from rlm_ray.types.json import Record

#: Shards that are looked into, and records of each.
SHARDS, RECORDS = 8, 20
#: Tokens of the words around the data of a call; of an answer about a chunk and about a record; turns of a root.
PROMPT_TOKENS, CHUNK_ANSWER, RECORD_ANSWER, TURNS = 150, 100, 25, 6
#: Tokens that a root reads on its first turn, what each turn adds, and what it writes.
ROOT_PROMPT, ROOT_ADDED, ROOT_REPLY = 3_500, 1_500, 500


def estimate(manifests: Mapping[str, Manifest], settings: Settings, text: str | None = None) -> Estimate:
    """Say what reading all of a corpus once would take. Reads a few records; calls no model.

    Returns
    -------
    dict
        `corpora` by name; `tokens` of all their text; `ways` of having a model read all of it once (`llm_map` over chunks,
        `llm_each` over records) and the `root` model's own part, each with `calls`, `prompt_tokens`, `completion_tokens` and
        `usd` (None where the price is unknown); `limits`; and `enough`: the ways that the limits reach for.
    """
    rates = prices.price_table(settings)
    corpora = {name: _corpus(manifest, settings) for name, manifest in manifests.items()}
    tokens = sum(item["tokens"] for item in corpora.values())
    records: float = sum(item["records"] for item in corpora.values())
    if text is not None:
        tokens, records = math.ceil(len(text.encode("utf-8", "replace")) / settings.bytes_per_token), 1
    chunks = max(1, math.ceil(tokens / settings.chunk_tokens))
    room = max(1.0, (settings.call_tokens - PROMPT_TOKENS) / max(1.0, tokens / max(1, records)))
    packs = max(1, math.ceil(records / min(settings.records_per_call, room)))
    leaf, root = settings.leaf_model or "", settings.root_model or ""
    ways = {
        "llm_map": _cost(chunks, tokens + chunks * PROMPT_TOKENS, chunks * CHUNK_ANSWER, leaf, rates),
        "llm_each": _cost(packs, tokens + packs * PROMPT_TOKENS, math.ceil(records) * RECORD_ANSWER, leaf, rates),
    }
    read = sum(ROOT_PROMPT + turn * ROOT_ADDED for turn in range(TURNS))
    own = _cost(TURNS, read, TURNS * ROOT_REPLY, root, rates)
    limits = Limits(usd=settings.max_usd, calls=settings.max_calls, tokens=settings.max_tokens, seconds=settings.max_seconds)
    return {
        "corpora": corpora,
        "tokens": tokens,
        "ways": ways,
        "root": own,
        "limits": limits,
        "enough": [name for name, way in ways.items() if _fits(way, own, limits)],
    }


def _corpus(manifest: Manifest, settings: Settings) -> CorpusEstimate:
    sizes = [len(render(record).encode("utf-8", "replace")) + 1 for record in _sample(manifest)]
    mean = sum(sizes) / len(sizes) if sizes else 0.0
    exact = manifest.records
    records = exact if exact is not None else manifest.estimate
    if records is None:
        records = round(manifest.nbytes / mean) if mean else 0
    return {
        "objects": manifest.shards.objects.num_rows,
        "shards": len(manifest.shards),
        "bytes": manifest.nbytes,
        "records": records,
        "records_exact": exact is not None,
        "sampled": len(sizes),
        "bytes_of_a_record": round(mean, 1),
        "tokens": math.ceil(records * mean / settings.bytes_per_token),
    }


def _sample(manifest: Manifest) -> Iterator[Record]:
    count = len(manifest.shards)
    for index in sorted({index * count // SHARDS for index in range(SHARDS)} if count else ()):
        work = Work(manifest.shards[index], bind((), manifest.schema), "", parsers=parsing.PARSERS)
        try:
            page = operations.run("page", work, {"n": RECORDS, "max_bytes": 1 << 20, "after": None})
        except StorageError:
            continue  # a run says which objects cannot be read
        yield from page["records"]


def _cost(calls: int, prompt: int, completion: int, model: str, rates: prices.Prices) -> Cost:
    each = prices.cost(model, Usage(1, prompt // calls, completion // calls), rates)
    usd = None if each is None else round(each * calls, 6)
    return {"calls": calls, "prompt_tokens": prompt, "completion_tokens": completion, "usd": usd}


def _fits(way: Cost, root: Cost, limits: Limits) -> bool:
    usd = None if way["usd"] is None or root["usd"] is None else way["usd"] + root["usd"]
    tokens = sum(part["prompt_tokens"] + part["completion_tokens"] for part in (way, root))
    taken = ((limits["usd"], usd), (limits["calls"], way["calls"] + root["calls"]), (limits["tokens"], tokens))
    return all(limit is None or (amount is not None and amount <= limit) for limit, amount in taken)
