"""Helpers of the corpus' tests: write an object, scan a whole corpus, run an operation over it."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import settings

from rlm_ray import storage
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.operations import operations
from rlm_ray.corpus.planning import shard_choice, slicing
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.work import Work
from rlm_ray.handle.plan import Slice, Step

for _name, _examples in (("corpus", 50), ("corpus-deep", 1_000)):
    settings.register_profile(_name, settings.get_profile("house"), max_examples=_examples)
settings.load_profile(os.environ.get("RLM_RAY_TEST_PROFILE", "corpus"))

_numbers = itertools.count()


def _records(manifest: Manifest, *steps: Step, run_dir: str | None = None, **parsers: Any) -> list[dict[str, Any]]:
    works = (
        Work(shard, bind(steps, manifest.schema), run_dir, **parsers)
        for shard in shard_choice.shards_for(bind(steps, manifest.schema), manifest)
    )
    return [record for work in works for page in operations.records(work) for record in page]


def _local(manifest: Manifest, steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps with every Slice made a Window, as a driver does it."""
    done: tuple[Step, ...] = ()
    for step in steps:
        if isinstance(step, Slice):
            shards = shard_choice.shards_for(bind(done, manifest.schema), manifest)
            counts = shard_choice.known_counts(bind(done, manifest.schema), shards)
            while (number := slicing.counts_wanted(step.start, step.stop, counts)) is not None:
                counts[number] = operations.run("count", Work(shards[number], bind(done, manifest.schema)), {})
            done = (*done, slicing.window(step.start, step.stop, shards, counts))
        else:
            done = (*done, step)
    return done


def _operate(manifest: Manifest, name: str, *steps: Step, **args: Any) -> Any:
    local = _local(manifest, steps)
    shards = shard_choice.shards_for(bind(local, manifest.schema), manifest)
    partials = [operations.run(name, Work(shard, bind(local, manifest.schema)), args) for shard in shards]
    return operations.merge(name, partials, args)


def _object(data: bytes, extension: str) -> str:
    uri = f"memory://test/{next(_numbers)}/object{extension}"
    storage.write_bytes(uri, data)
    return uri


def _folder() -> str:
    return f"memory://test/{next(_numbers)}"


def _parquet(table: pyarrow.Table, uri: str, **options: Any) -> str:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer, **options)
    storage.write_bytes(uri, buffer.getvalue())
    return uri


@pytest.fixture(scope="session")
def kit() -> Iterator[SimpleNamespace]:
    """`folder() -> uri`, `object(data, extension) -> uri`, `parquet(table, uri) -> uri`, `records(manifest, *steps)`,
    `local(manifest, steps)`, `operate(manifest, name, *steps, **args)`."""
    yield SimpleNamespace(folder=_folder, object=_object, parquet=_parquet, records=_records, operate=_operate, local=_local)
    storage.delete_tree("memory://test")


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make the readers take text in pieces of so many bytes."""
    from rlm_ray.corpus.reading.text import streams

    def set_size(size: int) -> None:
        monkeypatch.setattr(streams, "PIECE", size)

    return set_size
