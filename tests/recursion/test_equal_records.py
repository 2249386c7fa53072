"""Records of which a model is shown the same: asked about once in a batch, whichever group of it has them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlm_ray.corpus.opening import open_manifest
from rlm_ray.errors import InputError
from rlm_ray.handle.corpus import Corpus
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.jobs.contents import BatchContents, contents_of
from rlm_ray.recursion.jobs.progress import BatchTally, Tally
from rlm_ray.recursion.leaf.values import LeafSpec
from rlm_ray.recursion.ports import Call
from rlm_ray.settings import Settings
from rlm_ray.testing import Faults, ModelServer
from tests.recursion.conftest import World
from tests.recursion.local_ports import RecordingPorts

LEVEL = {"level": ["ERROR", "INFO"]}
#: Three messages, of which each file has many, at different times.
MESSAGES = ("disk full ERROR", "started INFO", "request served INFO")
Served = Callable[..., tuple[World, ModelServer]]


def texts_in(prompt: str) -> list[str]:
    data = re.search(r"^----- data \w+ -----\n(.*?)\n----- end", prompt, re.DOTALL | re.MULTILINE)
    assert data is not None
    return re.findall(r"^\[\d+\] (.*)$", data[1], re.MULTILINE)


def leaf(prompt: str, schema: dict[str, Any] | None = None) -> str:
    answers = [{"n": n, "level": "ERROR" if "ERROR" in text else "INFO"} for n, text in enumerate(texts_in(prompt), 1)]
    return json.dumps({"answers": answers})


def asked_about(server: ModelServer) -> Counter[str]:
    """How often the model was shown each message, or each text that is more than a message."""
    texts = Counter(text for request in server.requests for text in texts_in(request["messages"][-1]["content"]))
    shown = {json.dumps({"msg": message}, separators=(",", ":")): message for message in MESSAGES}
    return Counter({shown.get(text, text): count for text, count in texts.items()})


@pytest.fixture
def equal(tmp_path: Path, model_server: Callable[..., ModelServer]) -> Any:
    """`equal(**settings)`: a world over `logs`, six files of 40 rows each with a time, a host and one of three messages."""
    folder = tmp_path / "lake"
    folder.mkdir()
    for part in range(6):
        rows = [
            {"at": f"2026-01-0{part + 1}T00:00:{n:02d}", "host": f"h{part % 2}", "msg": MESSAGES[(n + part) % 3]} for n in range(40)
        ]
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made: list[World] = []

    def make(replies: Any = leaf, faults: Faults | None = None, **options: Any) -> tuple[World, ModelServer]:
        server = model_server(leaf=replies, faults=faults, keep_messages=True)
        settings = Settings(root_model="root", sub_model="leaf", base_url=server.base_url, second_readings=0, **options)
        run = RunDirectory.create(str(tmp_path), f"run-{len(made)}", {"question": "", "corpora": {}})
        call = Call(run.uri, run.id, "0", 0, "", settings, Budget.of(settings), width=4)
        corpora = {"logs": open_manifest(str(folder), name="logs")}
        made.append(World(call, corpora, RecordingPorts(None, 2)))
        return made[-1], server

    yield make
    for each in made:
        each.service.scheduler.cancel()
        each.marks.close()
        each.ports.close()


def corpus(world: World) -> Corpus:
    return world["logs"]


def test_each_content_is_asked_once_and_each_record_has_the_answer(equal: Served) -> None:
    world, server = equal()
    rows = list(world.verbs.llm_each("Level?", corpus(world), LEVEL, show=["msg"]))
    assert len(rows) == 240
    assert all(row["level"] == ("ERROR" if "ERROR" in row["msg"] else "INFO") and row["_error"] is None for row in rows)
    assert len({row["_address"] for row in rows}) == 240
    assert {row["msg"]: row["_shared"] for row in rows} == Counter(row["msg"] for row in rows)
    assert set(rows[0]) == {"at", "host", "msg", "level", "_address", "_error", "_shared"}
    assert asked_about(server) == dict.fromkeys(MESSAGES, 1)
    assert server.count == 1


def test_also_where_many_groups_have_it(equal: Served) -> None:
    world, server = equal(records_per_call=5, calls_per_group=2)
    rows = list(world.verbs.llm_each("Level?", corpus(world), LEVEL, show=["msg", "host"]))
    assert len(rows) == 240
    assert all(row["level"] == ("ERROR" if "ERROR" in row["msg"] else "INFO") for row in rows)
    assert len(world.ports.groups) >= 24
    assert set(asked_about(server).values()) == {1}
    assert len(asked_about(server)) == 6
    assert world.budget.spent.calls == server.count


def test_the_limit_of_calls_counts_distinct_contents(equal: Served) -> None:
    world, server = equal(records_per_call=1, calls_per_group=2, max_calls=4)
    rows = list(world.verbs.llm_each("Level?", corpus(world), LEVEL, show=["msg"]))
    assert len(rows) == 240
    assert server.count == 3


def test_the_progress_counts_distinct_contents(equal: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    world, _ = equal(records_per_call=5, calls_per_group=2)
    seen: list[BatchTally] = []
    begin = Tally.begin

    def watch(tally: Tally, expected: int, recursive: bool = False) -> BatchTally:
        seen.append(begin(tally, expected, recursive))
        return seen[-1]

    monkeypatch.setattr(Tally, "begin", watch)
    result = world.verbs.llm_each("Level?", corpus(world), LEVEL, show=["msg", "host"])
    assert len(result) == 240
    assert [(batch.expected, batch.done) for batch in seen] == [(6, 6)]


def test_a_switch_asks_about_each_record(equal: Served) -> None:
    world, server = equal(share_answers=False)
    rows = list(world.verbs.llm_each("Level?", corpus(world), LEVEL, show=["msg"]))
    assert len(rows) == 240
    assert "_shared" not in rows[0]
    assert sum(asked_about(server).values()) == 240


def test_votes_are_independent(equal: Served) -> None:
    world, server = equal(records_per_call=5, calls_per_group=2)
    rows = list(world.verbs.llm_each("Level?", corpus(world), LEVEL, votes=3, show=["msg"]))
    assert len(rows) == 240
    assert {row["_votes"] for row in rows} == {1.0}
    assert asked_about(server) == dict.fromkeys(MESSAGES, 3)


def test_equal_records_share_one_error(equal: Served) -> None:
    def bad(prompt: str, schema: dict[str, Any] | None = None) -> str:
        answers = [
            {"n": n, "level": "ERROR" if "ERROR" in text else "INFO"}
            for n, text in enumerate(texts_in(prompt), 1)
            if "served" not in text
        ]
        return json.dumps({"answers": answers})

    world, server = equal(bad, records_per_call=5, calls_per_group=2)
    result = world.verbs.llm_each("Level?", corpus(world), LEVEL, on_error="keep", show=["msg"])
    failed = list(result.failed)
    assert len(result) == 160
    assert len(failed) == 80
    assert len({row["_error"] for row in failed}) == 1
    assert asked_about(server)["request served INFO"] == 3  # the tries of one record
    assert asked_about(server)["started INFO"] == 1


def test_all_columns_are_shown_unless_some_are_chosen(equal: Served) -> None:
    world, server = equal()
    assert len(world.verbs.llm_each("Level?", corpus(world), LEVEL)) == 240
    assert set(asked_about(server).values()) == {1}
    assert len(asked_about(server)) == 240
    assert '"at":' in next(iter(asked_about(server)))


@pytest.mark.parametrize("show", [["nothing"], []])
def test_a_column_that_the_records_lack_is_refused(equal: Served, show: list[str]) -> None:
    world, server = equal()
    with pytest.raises(InputError, match="show"):
        world.verbs.llm_each("Level?", corpus(world), LEVEL, show=show)
    assert server.count == 0


def test_the_answers_of_a_run_are_those_of_another_over_other_objects(equal: Served, tmp_path: Path) -> None:
    first, server = equal()
    assert len(first.verbs.llm_each("Level?", corpus(first), LEVEL, show=["msg"])) == 240
    moved = tmp_path / "moved"
    (tmp_path / "lake").rename(moved)
    for path in moved.iterdir():
        path.rename(moved / f"renamed-{path.name}")
    settings = first.call.settings
    run = RunDirectory.create(str(tmp_path), "later", {"question": "", "corpora": {}})
    others = (first.call.run_dir,)
    call = Call(run.uri, run.id, "0", 0, "", settings, Budget.of(settings), width=4, others=others)
    later = World(call, {"logs": open_manifest(str(moved), name="logs")}, RecordingPorts(None, 2))
    rows = list(later.verbs.llm_each("Level?", corpus(later), LEVEL, show=["msg"]))
    later.marks.close()
    later.ports.close()
    assert len(rows) == 240
    assert all("renamed-" in row["_address"] for row in rows)
    assert server.count == 1


def test_contents_are_united_in_order() -> None:
    spec = LeafSpec("records", "p", "m", show=("msg",))
    shards = [
        contents_of([{"msg": text, "at": n} for n, text in enumerate(part)], spec)
        for part in (["a", "b", "a"], [], ["c", "b", "d"])
    ]
    united = BatchContents([shards[0], None, shards[1], shards[2]])
    assert united.counts == [3, 0, 0, 3]
    assert (united.records, united.distinct) == (6, 4)
    assert united.table["count"].to_list() == [2, 2, 1, 1]
    assert united.table["position"].to_list() == [0, 1, 3, 5]
    first, second = united.groups([2, 4])
    assert first[0] == 2
    assert second[0] == 2
    names = united.table["name"].to_list()
    assert first[1].known == {names[0]: (2, 0), names[1]: (2, 0)}
    assert second[1].known == {names[0]: (2, 0), names[1]: (2, 0)}


def test_a_store_of_answers_is_shared_by_runs(equal: Served, tmp_path: Path) -> None:
    first, server = equal(answers=str(tmp_path / "answers"))
    logs = corpus(first)
    assert len(first.verbs.llm_each("Level?", logs.where([("host", "==", "h0")]), LEVEL, show=["msg", "host"])) == 120
    assert sum(asked_about(server).values()) == 3
    settings = first.call.settings
    run = RunDirectory.create(str(tmp_path), "other", {"question": "", "corpora": {}})
    call = Call(run.uri, run.id, "0", 0, "", settings, Budget.of(settings), width=4)
    team = World(call, {"logs": open_manifest(str(tmp_path / "lake"), name="logs")}, RecordingPorts(None, 2))
    plan: Any = team.verbs.llm_each("Level?", corpus(team), LEVEL, show=["msg", "host"], dry=True)
    assert (plan["distinct"], plan["answered"]) == (6, 3)
    rows = list(team.verbs.llm_each("Level?", corpus(team), LEVEL, show=["msg", "host"]))
    assert len(rows) == 240
    assert set(asked_about(server).values()) == {1}
    assert len(asked_about(server)) == 6
    # another question pays
    assert len(team.verbs.llm_each("Which level?", corpus(team), LEVEL, show=["msg", "host"])) == 240
    assert set(asked_about(server).values()) == {2}
    team.marks.close()
    team.ports.close()
