"""Small objects that are counted together: the same as one by one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rlm_ray import storage
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.operations import operations, small_objects
from rlm_ray.corpus.planning import shard_choice
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import InputError, ObjectChanged, StorageError
from rlm_ray.handle.plan import Between, Grep, Select, Step, Where

_STEPS: list[tuple[Step, ...]] = [
    (),
    (Grep("a"),),
    (Grep("^b|é$"),),
    (Grep("A", ignore_case=True), Grep("b", invert=True)),
    (Grep("x", column="k"), Grep("[ab]", column="text")),
    (Where((("n", ">", 1),)), Select(("text",)), Where((("text", "!=", "a"),))),
    (Where((("text", "==", ""),)),),
]
_TEXT = st.lists(st.sampled_from([b"a", b"b", b"\n", b"\r\n", "é".encode(), b"\xef\xbb\xbf", b"\xff", b"x"]), max_size=12)


def _works(manifest: Any, steps: tuple[Step, ...]) -> list[Work]:
    return [Work(shard, bind(steps, manifest.schema)) for shard in shard_choice.shards_for(bind(steps, manifest.schema), manifest)]


@pytest.mark.parametrize("unit", ["line", "document"])
@settings(max_examples=12)
@given(objects=st.lists(_TEXT.map(b"".join), min_size=5, max_size=9))
@example(objects=[b"a", b"b\n", b"\n", b"\xef\xbb\xbfa\r\n", b"\xef\xbb\xbf", b"a\r", b"x\n\n"])
def test_together_is_as_alone(kit: SimpleNamespace, unit: str, objects: list[bytes]) -> None:
    base = kit.folder()
    for number, data in enumerate([*objects, b"b"]):
        storage.write_bytes(f"{base}/n={number % 3}/k=x{number % 2}/{number}.log", data)
    manifest = open_manifest(base, unit=unit)
    for steps in _STEPS:
        works = _works(manifest, steps)
        assert operations.run_all("count", works, {}) == [operations.run("count", work, {}) for work in works], steps
        if any(isinstance(step, Select) for step in steps):
            continue
        args = {"column": "n" if len(steps) == 1 else "text", "limit": 1_000}
        alone = [operations.run("count_by", work, args) for work in works]
        assert operations.merge("count_by", operations.run_all("count_by", works, args), args) == operations.merge(
            "count_by", alone, args
        )


def _lake(folder: Path, count: int = 10) -> None:
    for number in range(count):
        storage.write_bytes(str(folder / f"{number:02d}.log"), b"one\ntwo\n" * (number + 1))


def test_an_object_that_cannot_be_read_fails_alone(tmp_path: Path) -> None:
    _lake(tmp_path)
    works = _works(open_manifest(str(tmp_path)), (Grep("two"),))
    (tmp_path / "03.log").unlink()
    (tmp_path / "05.log").write_bytes(b"two\n")
    found = operations.run_all("count", works, {})
    assert [type(one) for one in (found[3], found[5])] == [ObjectChanged, ObjectChanged]
    assert "03.log" in str(found[3])
    assert [one for one in found if not isinstance(one, StorageError)] == [1, 2, 3, 5, 7, 8, 9, 10]
    for path in tmp_path.iterdir():
        path.unlink()
    assert all(isinstance(one, ObjectChanged) for one in operations.run_all("count", works, {}))


def test_the_reader_is_asked_once_for_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _lake(tmp_path)
    manifest = open_manifest(str(tmp_path))
    alone: list[Work] = []
    run = operations.run

    def counting(name: str, work: Work, args: Any) -> Any:
        alone.append(work)
        return run(name, work, args)

    monkeypatch.setattr(operations, "run", counting)
    assert operations.run_all("count", _works(manifest, (Grep("one"),)), {}) == list(range(1, 11))
    assert alone == []
    # an object with a place in it, and one that is not small, are looked at alone
    steps = (Between((2, 4, 0), None), Grep("one"))
    assert sum(operations.run_all("count", _works(manifest, steps), {})) == sum(range(3, 11)) - 1
    assert [work.shard.index for work in alone] == [2]
    monkeypatch.setattr(small_objects, "SMALL", 40)
    alone.clear()
    assert operations.run_all("count", _works(manifest, (Grep("one"),)), {}) == list(range(1, 11))
    assert [work.shard.index for work in alone] == [5, 6, 7, 8, 9]


def test_objects_without_a_record_are_not_read_one_by_one(tmp_path: Path) -> None:
    _lake(tmp_path, 40)
    storage.write_bytes(str(tmp_path / "17.log"), b"nothing\nbut three\n")
    storage.write_bytes(str(tmp_path / "23.log"), b"three\n" * 3)
    manifest = open_manifest(str(tmp_path))
    works = _works(manifest, (Grep("three"),))
    (tmp_path / "31.log").unlink()
    marked = small_objects.without_others(works)
    assert [work.shard.index for work in marked if not work.nothing] == [17, 23, 31]
    args = {"n": 3, "max_bytes": 1 << 20, "after": None}
    found = operations.run_all("page", works, args)
    assert isinstance(found.pop(31), ObjectChanged)
    alone = [operations.run("page", work, args) for work in works if work.shard.index != 31]
    assert found == alone
    assert len(operations.merge("page", found, args)["records"]) == 3
    # where most objects have one it is not worth it
    works = _works(manifest, (Grep("one"),))
    assert [work.shard.index for work in small_objects.without_others(works) if work.nothing] == [17, 23]


def test_what_does_not_fit_is_an_error(tmp_path: Path) -> None:
    _lake(tmp_path)
    works = _works(open_manifest(str(tmp_path)), ())
    with pytest.raises(InputError, match="no column 'nope'"):
        operations.run_all("count_by", works, {"column": "nope", "limit": 3})


def test_small_objects_of_a_store(s3: Any, tmp_path: Path) -> None:
    base = f"s3://{s3.bucket()}/small"
    for number in range(40):
        storage.write_bytes(f"{base}/{number:02d}.log", b"one\ntwo\n" * (number + 1))
    works = _works(open_manifest(base), (Grep("two"),))
    storage.write_bytes(f"{base}/07.log", b"two\n")
    storage.delete_tree(f"{base}/11.log")
    found = operations.run_all("count", works, {})
    assert {number for number, one in enumerate(found) if isinstance(one, ObjectChanged)} == {7, 11}
    assert sum(one for one in found if not isinstance(one, StorageError)) == sum(range(1, 41)) - 8 - 12


def test_an_empty_document_of_a_store_is_a_record(s3: Any) -> None:
    base = f"s3://{s3.bucket()}/empty"
    for number in range(6):
        storage.write_bytes(f"{base}/{number}.txt", b"one" if number % 2 else b"")
    works = _works(open_manifest(base, unit="document"), (Grep("one", invert=True),))
    assert operations.run_all("count", works, {}) == [1, 0, 1, 0, 1, 0]
