"""The data verbs as jobs: what they return, and how few shards they touch for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlm_ray import storage
from rlm_ray.corpus.reading import selections
from rlm_ray.errors import InputError, StorageError
from rlm_ray.handle.plan import Grep, Keep, Plan, Result, Slice, Source
from rlm_ray.recursion.ports import ShardFailure
from rlm_ray.recursion.verbs.failures import FailureLog
from rlm_ray.recursion.verbs.scans import MAX_LOOK
from tests.recursion.conftest import SERVICES, World, lines_of

Make = Callable[..., World]
LINES = [line for service in SERVICES for line in lines_of(service)]


def texts(records: list[dict[str, Any]]) -> list[str]:
    return [record["text"] for record in records]


@pytest.fixture
def small(world: Make) -> World:
    """Many shards: a log is cut into some ten."""
    made = world(shard_bytes=128)
    assert made["logs"].shards > 20
    return made


def test_counting(small: World) -> None:
    logs = small["logs"]
    assert len(logs) == logs.count() == len(LINES) == 120
    assert logs.grep("ERROR").count() == 30
    assert logs.grep("nothing like it").count() == 0
    assert logs[10:15].count() == 5
    assert logs[110:900].count() == 10
    assert logs[500:].count() == 0


def test_a_count_is_remembered_by_the_shard(small: World) -> None:
    asked = small["logs"].grep("ERROR").count()
    scans = len(small.ports.scans)
    again = small["logs"].grep("ERROR")  # another handle: it has remembered nothing
    assert again.count() == asked
    assert len(small.ports.scans) == scans


def test_head_reads_only_the_first_shards(small: World) -> None:
    assert texts(small["logs"].head(2)) == LINES[:2]
    assert sum(len(group.works) for group in small.ports.scans) <= 2
    assert texts(small["logs"].head(30)) == LINES[:30]
    assert texts(small["logs"].head(500)) == LINES
    assert small["logs"].head(0) == []


def test_head_of_a_rare_match_looks_at_more_shards_with_every_wave(small: World) -> None:
    assert texts(small["logs"].grep("mail 39").head(1)) == ["mail 39 INFO request 39"]
    shards = small["logs"].shards
    waves = [len(group.works) for group in small.ports.scans]
    assert sum(waves) <= shards
    assert max(waves) > 1


def test_a_record_by_its_number(small: World) -> None:
    logs = small["logs"]
    assert logs[0]["text"] == LINES[0]
    assert logs[77]["text"] == LINES[77]
    assert logs[-1]["text"] == LINES[-1]
    assert logs.grep("ERROR")[29]["text"] == "mail 36 ERROR request 36"
    with pytest.raises(IndexError, match="record 120 of 120"):
        logs[120]
    with pytest.raises(IndexError, match="record -121 of 120"):
        logs[-121]


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 3), (37, 43), (40, 80), (100, None), (-5, None), (None, -115), (5, 5), (9, 2), (119, 130)]
)
def test_slices_are_those_of_a_list(small: World, start: int | None, stop: int | None) -> None:
    assert texts(list(small["logs"][start:stop])) == LINES[start:stop]


def test_slices_of_slices_and_of_matches(small: World) -> None:
    logs = small["logs"]
    assert texts(list(logs[10:60][5:20])) == LINES[10:60][5:20]
    errors = [line for line in LINES if "ERROR" in line]
    assert texts(list(logs.grep("ERROR")[8:13])) == errors[8:13]
    assert texts(list(logs[30:90].grep("ERROR"))) == [line for line in LINES[30:90] if "ERROR" in line]
    assert texts(list(logs.grep("ERROR")[5:25].grep("cart")[2:4])) == [line for line in errors[5:25] if "cart" in line][2:4]


def test_a_slice_near_the_beginning_does_not_count_everything(small: World) -> None:
    assert texts(list(small["logs"].grep("ERROR")[0:1])) == LINES[:1]
    assert {group.operation for group in small.ports.scans} == {"count", "page"}
    assert sum(len(group.works) for group in small.ports.scans) < small["logs"].shards


def test_iterating_streams_pages_in_order(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlm_ray.handle import corpus

    monkeypatch.setattr(corpus, "PAGE_RECORDS", 7)
    assert texts(list(small["logs"])) == LINES
    assert texts(list(small["logs"].grep("cart"))) == lines_of("cart")
    assert list(small["logs"].grep("nothing")) == []
    assert [record["path"] for record in small["docs"]] == [f"{number}.txt" for number in range(5)]


def test_addresses_are_where_the_records_are(small: World, lake: Path) -> None:
    record = small["logs"][41]
    name, _, place = record["_address"].partition("@")
    start, stop = place.partition("bytes=")[2].split("-")
    assert name.endswith("cart.log")
    assert (lake / "logs" / "cart.log").read_bytes()[int(start) : int(stop)].decode().rstrip("\n") == LINES[41]


def test_text(small: World) -> None:
    assert small["logs"][0:3].text() == "\n".join(LINES[:3])
    cut = small["logs"].text(max_chars=50)
    assert cut.startswith("\n".join(LINES)[:50])
    assert "[cut at 50 characters; there is more" in cut
    assert sum(len(group.works) for group in small.ports.scans[1:]) < 10


def test_a_sample_is_uniform_in_order_and_repeatable(small: World) -> None:
    drawn = texts(small["logs"].sample(30, seed=4))
    assert drawn == texts(small["logs"].sample(30, seed=4))
    assert drawn != texts(small["logs"].sample(30, seed=5))
    assert len(set(drawn)) == 30
    assert [LINES.index(line) for line in drawn] == sorted(LINES.index(line) for line in drawn)
    assert texts(small["logs"].sample(500)) == LINES
    assert set(texts(small["logs"].grep("ERROR").sample(9))) <= {line for line in LINES if "ERROR" in line}


def test_count_by(world: Make) -> None:
    made = world()
    counts = made["rows"].count_by("kind")
    assert counts == {"k0": 34, "k1": 33, "k2": 33}
    assert list(counts) == ["k0", "k1", "k2"]
    assert made["rows"].count_by("n", limit=3).distinct == 100
    assert made["rows"].where([("n", "<", 10)]).count_by("kind") == {"k0": 4, "k1": 3, "k2": 3}


def test_chunks_cover_everything_once_and_fit(small: World) -> None:
    chunks = small["logs"].chunks(tokens=100)
    assert len(chunks) > 3
    assert texts([record for chunk in chunks for record in chunk]) == LINES
    assert max(len(chunk.text()) for chunk in chunks) <= 1.5 * 400
    matched = small["logs"].grep("ERROR").chunks(tokens=50)
    assert texts([record for chunk in matched for record in chunk]) == [line for line in LINES if "ERROR" in line]


def test_chunks_by_a_column_keep_its_values_apart(world: Make) -> None:
    chunks = world()["rows"].chunks(tokens=200, by="kind")
    kinds = [{record["kind"] for record in chunk} for chunk in chunks]
    assert all(len(kind) == 1 for kind in kinds)
    assert sum(chunk.count() for chunk in chunks) == 100


@pytest.mark.parametrize(("tokens", "overlap"), [(10, 10), (10, 11), (0, 0)])
def test_chunks_that_cannot_be_cut(small: World, tokens: int, overlap: int) -> None:
    with pytest.raises(InputError):
        small["logs"].chunks(tokens=tokens, overlap=overlap)


def test_looking_is_bounded(small: World) -> None:
    with pytest.raises(InputError, match=r"Iterate over the Corpus, or use count_by or aggregate\."):
        small["logs"].head(MAX_LOOK + 1)
    with pytest.raises(InputError):
        small["logs"].sample(MAX_LOOK + 1)


def test_a_corpus_or_result_that_is_not_of_this_run(small: World) -> None:
    with pytest.raises(InputError, match=r"no corpus 'other' in this run; there are: logs, rows, docs\."):
        small.ask("count", plan=Plan((Source("other"),)).to_json())
    with pytest.raises(InputError, match=r"no result '0-nope'"):
        small.ask("count", plan=Plan((Result("0-nope"),)).to_json())


def test_a_selection_that_is_not_of_this_run(small: World) -> None:
    with pytest.raises(InputError, match="nope"):
        small.ask("count", plan=Plan((Source("logs"), Keep("nope"))).to_json())
    assert small.service.failures.failures == {}


def test_a_selection_narrows(world: Make) -> None:
    made = world()
    first = made["logs"].head(3)
    places = [int(record["_address"].partition("bytes=")[2].split("-")[0]) for record in first]
    for shard in range(3):
        selections.save_selection(made.call.run_dir, "0-kept", shard, [(places[1], 0)] if shard == 0 else [])
    kept = Plan((Source("logs"), Keep("0-kept")))
    assert made.ask("count", plan=kept.to_json()) == 1
    assert texts(made.ask("head", plan=kept.then(Grep("auth")).to_json(), n=9)) == [LINES[1]]


def test_a_pattern_that_cannot_work_is_an_error_before_any_scan(small: World) -> None:
    for pattern in ("(", "(?=ahead)", r"(a)\1"):
        with pytest.raises(InputError):
            small["logs"].grep(pattern)
    assert small.ports.scans == []


def test_an_unreadable_object_is_reported_once_and_the_rest_goes_on(world: Make, tmp_path: Path) -> None:
    made = world()
    manifest = made._corpora["logs"]
    broken = tmp_path / "broken.log"
    broken.write_text("one\n")
    from rlm_ray.corpus.opening import open_manifest

    made._corpora["logs"] = open_manifest(*manifest.uris, str(broken), name="logs")
    broken.unlink()
    assert made["logs"].count() == 120
    assert len(list(made["logs"])) == 120
    (failure,) = made.service.failures.failures.values()
    assert failure.object == str(broken)


def test_a_run_can_stop_at_the_first_unreadable_object() -> None:
    failure = ShardFailure("s3://lake/a", "it is gone.", 0)
    with pytest.raises(StorageError, match=r"s3://lake/a cannot be read: it is gone\. The run stops at the first such object"):
        FailureLog("stop").add([failure])
    log = FailureLog("report")
    log.add([failure, failure])
    assert list(log.failures.values()) == [failure]


@pytest.mark.parametrize("capacity", [1, 2, 4])
def test_a_large_scan_is_spread_over_the_cpus(world: Make, monkeypatch: pytest.MonkeyPatch, capacity: int) -> None:
    from rlm_ray.recursion.verbs import scans

    monkeypatch.setattr(scans, "LEAST_BYTES", 1)
    made = world(shard_bytes=128, capacity=capacity)
    assert made["logs"].grep("ERROR").count() == 30
    assert 2 * capacity <= len(made.ports.scans) <= 3 * capacity
    assert sum(len(group.works) for group in made.ports.scans) == made["logs"].shards


def test_a_task_has_more_shards_where_little_of_them_is_read(world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlm_ray.recursion.verbs import scans

    monkeypatch.setattr(scans, "LEAST_BYTES", 1)
    monkeypatch.setattr(scans, "MOST_BYTES", 128)
    made = world(shard_bytes=64, capacity=1)
    works = made.service.scheduler.run(made.service.scans.works(Plan((Source("logs"), Grep("ERROR")))))
    groups = []
    for part in (1.0, 0.5, 0.0):
        before = len(made.ports.scans)
        assert sum(made.service.scheduler.run(made.service.scans.partials("count", works, {}, part=part))) == 30
        groups.append(len(made.ports.scans) - before)
    assert groups[0] > 1.5 * groups[1] > 3 * groups[2]
    assert groups[2] >= 2  # each CPU has some, whatever is read


def test_results_are_read_like_corpora(world: Make) -> None:
    from rlm_ray.ledger.segments import SegmentWriter

    made = world()
    state = made.service.results.new("made", {"answer": "string"})
    writer = SegmentWriter(
        made.service.results.folder(state.id), "000000", {"answer": "string", "_address": "string", "_error": "string"}
    )
    writer.extend({"answer": f"a{n}", "_address": f"x@1#row={n}", "_error": "no" if n == 2 else None} for n in range(5))
    state.segments = writer.close()
    made.service.results.finish(state)
    from rlm_ray.handle.corpus import Corpus

    result = Corpus(Plan((Result(state.id),)), state.info(), made.service)
    assert result.count() == 4
    assert [row["answer"] for row in result[1:3]] == ["a1", "a3"]
    assert [row["answer"] for row in result.head(9)] == [row["answer"] for row in result] == ["a0", "a1", "a3", "a4"]
    assert result.count_by("answer") == {"a0": 1, "a1": 1, "a3": 1, "a4": 1}
    assert {row["answer"] for row in result.sample(9)} == {"a0", "a1", "a3", "a4"}
    assert "a2" not in result.text()
    assert [row["_error"] for row in result.failed] == ["no"]
    assert result.ok.count() == 4
    assert result.progress == {"finished": True, "done": 0, "failed": 0, "expected": None}
    assert storage.exists(storage.join(made.service.results.folder(state.id), "result.json"))
    assert made.ask("count", plan=Plan((Result(state.id), Slice(1, 3))).to_json()) == 2
