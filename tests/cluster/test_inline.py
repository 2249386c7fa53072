"""What is read in the caller, and what is worth a task."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from rlm_ray.cluster import ports
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.work import Work
from rlm_ray.handle.plan import Between, Grep, Step, Window


@pytest.mark.parametrize(
    ("operation", "steps", "little"),
    [
        ("head", (), True),
        ("page", (Between((0, 5, 0)),), True),
        ("head", (Grep("needle"),), False),
        ("head", (Window(0, 1_000_000),), False),
        ("count", (), False),
    ],
)
def test_a_look_at_the_first_records_of_much_text_needs_no_task(
    tmp_path: Path, operation: str, steps: tuple[Step, ...], little: bool
) -> None:
    (tmp_path / "a.log").write_text("one\ntwo\n")
    manifest = open_manifest(str(tmp_path))
    large = dataclasses.replace(manifest.shards[0], nbytes=64 << 20)
    assert (ports._nbytes(operation, Work(large, bind(steps, manifest.schema))) <= ports.INLINE_BYTES) is little
