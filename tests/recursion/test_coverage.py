"""Coverage against a count made without it: random programs of verbs, each byte and record in the class where it belongs."""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.errors import SubcallFailed
from rlm_ray.handle.corpus import Corpus
from rlm_ray.handle.plan import Plan, Source
from rlm_ray.handle.verbs import Verbs
from rlm_ray.ledger.coverage import measure
from rlm_ray.ledger.read_log import ReadLog
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.ports import Call
from rlm_ray.recursion.service import Service
from rlm_ray.testing import ModelServer, each
from rlm_ray.worker.meters import meter_of
from tests.recursion.local_ports import RecordingPorts

EXAMPLES = 600 if os.environ.get("RLM_RAY_TEST_FULL") == "1" else 12
CLASSES = ("excluded", "read_by_code", "read_by_model", "not_read")

# what the lake holds, written down once more for the count


@dataclass(frozen=True)
class Record:
    """A record as the count knows it: where it begins and ends in its object, and what it says."""

    first: int
    end: int
    text: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Item:
    """What a plan leaves: a record, or a span of its text by characters."""

    record: Record
    span: tuple[int, int] | None = None

    @property
    def text(self) -> str:
        return self.record.text if self.span is None else self.record.text[slice(*self.span)]

    def shown(self) -> range:
        """Bytes that are shown: of a span with the white space behind it, and before the first."""
        if self.span is None:
            return range(self.record.first, self.record.end)
        text, (start, stop) = self.record.text, self.span
        while stop < len(text) and text[stop].isspace():
            stop += 1
        start = 0 if text[:start].isspace() else start
        low = self.record.first + len(text[:start].encode())
        return range(low, self.record.end if stop == len(text) else self.record.first + len(text[:stop].encode()))


LINES = ("ä 1 bad\nok 2\n\nok 3 bad\r\nfour bad\n", "x" * 40 + "\nbad 5\nok 6\nok 7", "ok 8\nbad 9\n")
DOCS = ("Erster Absatz bad.\n\nZweiter ö.\n\n\nDritter bad", "\n\nEin Wort bad\n\nzwei\n", "bad", "ok\n\nok")


def lines_of(text: str) -> list[Record]:
    data, found, at = text.encode(), [], 0
    while at < len(data):
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end + 1
        found.append(Record(at, end, data[at:end].rstrip(b"\n").removesuffix(b"\r").decode()))
        at = end
    return found


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("covered")
    for name in ("logs", "docs", "json", "rows/day=1", "rows/day=2"):
        (folder / name).mkdir(parents=True)
    for number, text in enumerate(LINES):
        (folder / "logs" / f"{number}.log").write_bytes(text.encode())
        rows = [{"n": n, "text": line.text} for n, line in enumerate(lines_of(text))]
        (folder / "json" / f"{number}.jsonl").write_text(
            "".join(json.dumps(row) + "\n" * (1 + n % 2) for n, row in enumerate(rows))
        )
    for number, text in enumerate(DOCS):
        (folder / "docs" / f"{number}.txt").write_bytes(text.encode())
    for day in (1, 2):
        table = pyarrow.table({"n": range(20), "text": [f"{'bad' if n % 3 == 0 else 'ok'} {day}-{n}" for n in range(20)]})
        pyarrow.parquet.write_table(table, folder / "rows" / f"day={day}" / "part.parquet", row_group_size=4)
    return folder


class Count:
    """The count: sets of bytes or rows of each shard, filled by what a program does."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.rows = manifest.format == "parquet"
        self.counted_by_listing = manifest.format in ("parquet", "document")
        self.shards = list(manifest.shards)
        self.sets: dict[str, dict[int, set[int]]] = {
            name: {shard.index: set() for shard in self.shards} for name in ("excluded", "code", "model")
        }

    @functools.cache  # noqa: B019 - as long as one example
    def records(self, index: int) -> list[Record]:
        shard = self.shards[index]
        data = Path(shard.uri).read_bytes()
        if self.rows:
            day = int(re.search(r"day=(\d)", shard.uri)[1])  # type: ignore[index]
            table = pyarrow.parquet.ParquetFile(shard.uri).read().to_pylist()
            every = [Record(n, n + 1, row["text"], row | {"day": day}) for n, row in enumerate(table)]
        elif self.manifest.format == "document":
            return [Record(0, len(data), data.decode())]
        else:
            every = lines_of(data.decode())
        every = [record for record in every if shard.start <= record.first < shard.stop]
        if self.manifest.format != "jsonl":
            return every
        every = [record for record in every if record.text.strip()]
        parsed = [json.loads(record.text) for record in every]
        return [Record(line.first, line.end, row["text"], row) for line, row in zip(every, parsed, strict=True)]

    # a plan, step by step

    def ruled_out(self, steps: list[Any], index: int) -> set[int] | None:
        """Rows of a shard that statistics exclude; None is all of it."""
        if not self.rows:
            return set()
        out: set[int] = set()
        day = re.search(r"day=(\d)", self.shards[index].uri)[1]  # type: ignore[index]
        for kind, *args in steps:
            if kind == "day" and int(day) != args[0]:
                return None
            if kind == "n":
                for first in range(0, 20, 4):
                    group = range(first, first + 4)
                    holds = {"==": args[1] in group, ">=": group[-1] >= args[1], "<": group[0] < args[1]}
                    out |= set() if holds[args[0]] else set(group)
        here = {row for row in out if self.shards[index].start <= row < self.shards[index].stop}
        return None if len(here) == self.shards[index].stop - self.shards[index].start else here

    def after(self, steps: list[Any], note: bool = True) -> dict[int, list[Item]]:
        """What is left of each shard that a plan chooses; slices count what comes before."""
        left = {shard.index: [Item(record) for record in self.records(shard.index)] for shard in self.shards}
        for number, (kind, *args) in enumerate(steps):
            if kind == "slice":
                left = self._slice(left, steps[:number], args, note)
                continue
            for index, items in left.items():
                left[index] = [found for item in items for found in self._step(kind, args, item)]
        ruled = {index: self.ruled_out(steps, index) for index in left}
        if note:
            for index in left:
                inside = self._inside(steps, index)
                gone = ruled[index]
                self.sets["excluded"][index] |= inside if gone is None else gone & inside
        return {index: items for index, items in left.items() if ruled[index] is not None and self._inside(steps, index)}

    def _step(self, kind: str, args: list[Any], item: Item) -> Iterator[Item]:
        if kind == "split":
            at = 0
            for match in [*re.finditer(r"\r?\n(?:[ \t]*\r?\n)+", item.record.text), None]:
                stop = len(item.record.text) if match is None else match.start()
                if item.record.text[at:stop].strip():
                    yield Item(item.record, (at, stop))
                at = len(item.record.text) if match is None else match.end()
            return
        values = item.record.values
        holds = {
            "grep": lambda: args[0] in item.text,
            "day": lambda: values["day"] == args[0],
            "n": lambda: {"==": values["n"] == args[1], ">=": values["n"] >= args[1], "<": values["n"] < args[1]}[args[0]],
        }
        if holds[kind]():
            yield item

    def _slice(self, left: dict[int, list[Item]], before: list[Any], args: list[int], note: bool) -> dict[int, list[Item]]:
        start, stop = args
        chosen = {index: left[index] for index in left if self.ruled_out(before, index) is not None and self._inside(before, index)}
        if note:
            self.after(before)
        if note and not self._plain(before):
            seen = 0
            for index, items in chosen.items():
                if seen >= stop:
                    break
                self.look(before, index)
                seen += len(items)
        taken: dict[int, list[Item]] = {}
        seen = 0
        for index, items in chosen.items():
            taken[index] = items[max(0, start - seen) : max(0, stop - seen)]
            seen += len(items)
        self._windows = getattr(self, "_windows", {})
        self._windows[json.dumps([*before, ["slice", *args]])] = {index for index, items in taken.items() if items}
        return {index: taken.get(index, []) for index in left}

    def _plain(self, steps: list[Any]) -> bool:
        return self.counted_by_listing and all(kind in ("day", "slice") for kind, *_ in steps)

    def _inside(self, steps: list[Any], index: int) -> set[int]:
        """Rows or bytes of a shard that the places of a plan leave; a slice of what was counted leaves whole shards."""
        shard = self.shards[index]
        within = set(range(shard.start, shard.stop))
        for number, (kind, *_) in enumerate(steps):
            if kind == "slice":
                window = self._windows.get(json.dumps(steps[: number + 1]))
                if window is None:
                    self._slice_of(steps[: number + 1])
                    window = self._windows[json.dumps(steps[: number + 1])]
                if index not in window:
                    return set()
                if self.rows and self._plain(steps[: number + 1]):
                    within &= {item.record.first for item in self._left(steps[: number + 1])[index]}
        return within

    def _left(self, steps: list[Any]) -> dict[int, list[Item]]:
        left = {shard.index: [Item(record) for record in self.records(shard.index)] for shard in self.shards}
        for number, (kind, *args) in enumerate(steps):
            if kind == "slice":
                left = self._slice(left, steps[:number], args, False)
            else:
                left = {index: [found for item in items for found in self._step(kind, args, item)] for index, items in left.items()}
        return left

    def _slice_of(self, steps: list[Any]) -> None:
        self._left(steps)

    # what verbs do

    def look(self, steps: list[Any], index: int, upto: int | None = None) -> None:
        """Code looks at a shard: all that the places leave and statistics do not exclude."""
        gone = self.ruled_out(steps, index) or set()
        inside = self._inside(steps, index) - gone
        if self.manifest.format == "document":
            upto = None
        self.sets["code"][index] |= {place for place in inside if upto is None or place < upto}

    def show(self, index: int, items: list[Item]) -> None:
        """A model is shown items; a line may end in the next shard."""
        for item in items:
            shown = item.shown() if self.manifest.format in ("lines", "document") else range(item.record.first, item.record.end)
            for shard in self.shards:
                if shard.object == self.shards[index].object:
                    self.sets["model"][shard.index] |= {place for place in shown if shard.start <= place < shard.stop}

    def classes(self) -> dict[str, int]:
        found = dict.fromkeys(CLASSES, 0)
        for shard in self.shards:
            model, code, out = (self.sets[name][shard.index] for name in ("model", "code", "excluded"))
            sizes = (len(out - code - model), len(code - model), len(model))
            for name, size in zip(CLASSES, sizes, strict=False):
                found[name] += size
            found["not_read"] += shard.stop - shard.start - sum(sizes)
        return found


def program(kind: str) -> st.SearchStrategy[Any]:
    """A few verbs, each over a few steps."""
    number = st.integers(0, 24)
    steps = [st.tuples(st.just("grep"), st.sampled_from(["bad", "ok", "nothing"]))]
    steps.append(st.tuples(st.just("slice"), st.integers(0, 8), st.integers(0, 14)))
    if kind == "rows":
        steps.append(st.tuples(st.just("n"), st.sampled_from(["==", ">=", "<"]), number))
        steps.append(st.tuples(st.just("day"), st.integers(1, 3)))
    if kind in ("docs", "logs"):
        steps.append(st.tuples(st.just("split")))
    verbs = st.one_of(
        st.tuples(st.sampled_from(["count", "count_by", "each", "map", "query", "iterate"])),
        st.tuples(st.just("head"), st.integers(1, 12)),
        st.tuples(st.just("page"), st.integers(1, 12)),
        st.tuples(st.just("sample"), st.integers(1, 6)),
        st.tuples(st.just("text"), st.integers(1, 60)),
    )

    def sane(found: list[Any]) -> list[Any]:
        """A split once: spans are not split again here."""
        kept = [step for number, step in enumerate(found) if step[0] != "split" or step not in found[:number]]
        return [("slice", step[1], step[1] + step[2]) if step[0] == "slice" else step for step in kept]

    return st.lists(st.tuples(st.lists(st.one_of(steps), max_size=3).map(sane), verbs), min_size=1, max_size=4)


def narrowed(corpus: Corpus, steps: list[Any]) -> Corpus:
    for kind, *args in steps:
        match kind:
            case "grep":
                corpus = corpus.grep(args[0], column="text")
            case "slice":
                corpus = corpus[args[0] : args[1]]
            case "n":
                corpus = corpus.where([("n", *args)])
            case "day":
                corpus = corpus.where([("day", "==", args[0])])
            case "split":
                corpus = corpus.split("text", by="paragraph")
    return corpus


def carried_out(corpus: Corpus, verbs: Verbs, count: Count, steps: list[Any], verb: tuple[Any, ...]) -> None:
    """Do what a verb does, and count what it reads."""
    plan = narrowed(corpus, steps)
    left = count.after(steps)
    everything = [item for items in left.values() for item in items]

    def look_at_all() -> None:
        for index in left:
            count.look(steps, index)

    match verb:
        case ("count",):
            assert plan.count() == len(everything)
            if not count._plain(steps):
                look_at_all()
        case ("count_by",):
            plan.count_by("text")
            look_at_all()
        case ("iterate",):
            assert sum(1 for _ in plan) == len(everything)
            look_at_all()
        case ("head", n):
            assert len(plan.head(n)) == min(n, len(everything))
            given = 0
            for index, items in left.items():
                if given + len(items) >= n:
                    count.look(steps, index, items[n - given - 1].record.end)
                    break
                count.look(steps, index)
                given += len(items)
        case ("page", n):
            plan._ask("page", after=None, n=n)
            given = 0
            for index, items in left.items():
                if given + len(items) > n:
                    if n > given:
                        count.look(steps, index, items[n - given - 1].record.end)
                    break
                count.look(steps, index)
                given += len(items)
        case ("sample", n):
            found = plan.sample(n, seed=3)
            assert len(found) == min(n, len(everything))
            if not count._plain(steps):
                look_at_all()
            for record in found:
                address = Address.parse(record["_address"])
                for shard in count.shards:
                    here = shard.uri == address.object and shard.start <= address.start < shard.stop
                    if here and count._plain(steps):
                        places = {address.start} if count.rows else set(range(shard.start, shard.stop))
                        count.sets["code"][shard.index] |= places
        case ("text", most):
            plan.text(most)
            held = -1
            for index, items in left.items():
                here = -1
                upto: int | None = None
                for item in items:
                    here += len(text_of(item, count)) + 1
                    if here + 1 > most + 1:
                        upto = item.record.end
                        break
                count.look(steps, index, upto)
                held += here + 1 if items else 0
                if held > most:
                    break
        case ("each",):
            result = verbs.llm_each("Is it bad?", plan, schema={"verdict": ["yes", "no"]})
            assert result.ok.count() == len(everything)
            if not count._plain(steps):
                look_at_all()
            for index, items in left.items():
                count.show(index, items)
        case ("map",):
            result = verbs.llm_map("Is it bad?", plan.chunks(tokens=20))
            assert result.failed.count() == 0
            ranges = count.manifest.format == "lines" and not steps
            if not count._plain(steps) and not ranges:
                look_at_all()
            for index, items in left.items():
                count.show(index, items)
        case ("query",):
            with nullcontext() if everything else pytest.raises(SubcallFailed, match="no records"):
                verbs.llm_query("Is it bad?", plan)
            if any(kind in ("grep", "n") for kind, *_ in steps):
                look_at_all()
            for index, items in left.items():
                count.show(index, items)


def text_of(item: Item, count: Count) -> str:
    """How `.text` shows a record."""
    match count.manifest.format:
        case "lines":
            return item.text
        case "document":
            path = count.manifest.shards[next(s.index for s in count.shards if records_is(count, s.index, item))].uri
            return f"== {Path(path).name} ==\n{item.text}"
        case "jsonl":
            return json.dumps({"n": item.record.values["n"], "text": item.text}, ensure_ascii=False)
    day = str(item.record.values["day"])  # what a folder's name says is text
    return json.dumps({"n": item.record.values["n"], "text": item.text, "day": day}, ensure_ascii=False)


def records_is(count: Count, index: int, item: Item) -> bool:
    return item.record in count.records(index)


@pytest.fixture(scope="module")
def leaf() -> Iterator[ModelServer]:
    with ModelServer(leaf=each(lambda text: "yes" if "bad" in text else "no")) as server:
        yield server


Make = Callable[..., tuple[Service, dict[str, Manifest], str]]


@pytest.fixture(scope="module")
def made(lake: Path, leaf: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """`made(shard_bytes)` gives a call's verbs over the lake, and its run directory."""
    folder, number, ports = tmp_path_factory.mktemp("runs"), itertools.count(), RecordingPorts()

    def make(shard_bytes: int, **options: Any) -> tuple[Service, dict[str, Manifest], str]:
        corpora = {
            name: open_manifest(str(lake / name), name=name, shard_bytes=shard_bytes, unit="document" if name == "docs" else None)
            for name in ("logs", "docs", "json", "rows")
        }
        chosen = leaf.settings(**options)
        run = RunDirectory.create(str(folder), f"run-{next(number)}", {"question": "", "corpora": {}})
        call = Call(run.uri, run.id, "0", 0, "", chosen, Budget.of(chosen), width=4)
        return Service(call, corpora, ports, meter_of(call.budget, chosen), None, ReadLog(run.uri, "0")), corpora, run.uri

    yield make
    ports.close()


@pytest.mark.parametrize("kind", ["rows", "logs", "docs", "json"])
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data(), shard_bytes=st.sampled_from([9, 24, 1 << 20]))
def test_every_byte_and_record_is_in_its_class(made: Make, kind: str, data: Any, shard_bytes: int) -> None:
    service, corpora, run = made(shard_bytes if kind != "docs" else 1 << 20)
    manifest = corpora[kind]
    corpus = Corpus(Plan((Source(kind),)), manifest.info(), service)
    count = Count(manifest)
    for steps, verb in data.draw(program(kind)):
        carried_out(corpus, Verbs(service), count, steps, verb)
    service.read_log.flush()
    told = measure(run, {kind: manifest})
    expected = count.classes()
    if kind == "rows":
        assert {name: told["records"][name] for name in CLASSES} == expected
        assert told["bytes"]["total"] == manifest.nbytes
    else:
        assert {name: told["bytes"][name] for name in CLASSES} == expected
    shards = pyarrow.parquet.ParquetFile(f"{run}/coverage.parquet").read().to_pylist()
    assert [sum(shard[f"{name}_bytes"] for shard in shards) for name in ("excluded", "code", "model", "unread")] == [
        told["bytes"][name] for name in CLASSES
    ]
    service.read_log.close()
