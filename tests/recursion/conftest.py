"""A call's verbs over a small lake, on threads: `world`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.handle.corpus import Corpus
from rlm_ray.handle.plan import Plan, Source
from rlm_ray.handle.verbs import Verbs
from rlm_ray.ledger.coverage import measure
from rlm_ray.ledger.read_log import ReadLog
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.ports import Call
from rlm_ray.recursion.service import Service
from rlm_ray.settings import Settings
from rlm_ray.worker.meters import meter_of
from tests.recursion.local_ports import RecordingPorts, Recurse

#: Three services write a log each: 40 lines a file, one in four an error.
SERVICES = ("auth", "cart", "mail")


def lines_of(service: str) -> list[str]:
    return [f"{service} {number:02d} {'ERROR' if number % 4 == 0 else 'INFO'} request {number}" for number in range(40)]


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`logs/`: three logs of 40 lines; `rows/`: 100 JSON records in two files; `docs/`: five documents."""
    folder = tmp_path_factory.mktemp("lake")
    for name in ("logs", "rows", "docs"):
        (folder / name).mkdir()
    for service in SERVICES:
        (folder / "logs" / f"{service}.log").write_text("\n".join(lines_of(service)) + "\n")
    for part in range(2):
        rows = [{"n": n, "kind": f"k{n % 3}", "msg": f"message {n}"} for n in range(50 * part, 50 * part + 50)]
        (folder / "rows" / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for number in range(5):
        (folder / "docs" / f"{number}.txt").write_text(f"document {number}\n\n" + "a paragraph\n\n" * (number + 1))
    return folder


class World:
    """One call's verbs.

    Attributes
    ----------
    service : Service
    ports : RecordingPorts
    verbs : Verbs
        The sub-call functions, as a person has them.
    """

    def __init__(self, call: Call, corpora: dict[str, Manifest], ports: RecordingPorts) -> None:
        self.call = call
        self.ports = ports
        self.marks = ReadLog(call.run_dir, call.id)
        self.service = Service(call, corpora, ports, meter_of(call.budget, call.settings), None, self.marks)
        self.verbs = Verbs(self.service)
        self._corpora = corpora

    def __getitem__(self, name: str) -> Corpus:
        """A corpus, by its name."""
        manifest = self._corpora[name]
        return Corpus(Plan((Source(name),)), manifest.info(), self.service)

    def ask(self, verb: str, blob: bytes = b"", **args: Any) -> Any:
        """Send a request as root code's process does."""
        return self.service.call(verb, args, blob)[0]

    def coverage(self, corpus: str) -> dict[str, Any]:
        """What was read of a corpus: records by class, `bytes`, what was `shown`, and `unattributed`."""
        self.marks.flush()
        failures = [(item.object, item.shard) for item in self.service.failures.failures.values()]
        told = measure(self.call.run_dir, {corpus: self._corpora[corpus]}, failures)
        return told["records"] | {name: told[name] for name in ("bytes", "shown", "unattributed")}

    @property
    def budget(self) -> Budget:
        return self.service.lender.budget


@pytest.fixture
def world(lake: Path, tmp_path: Path) -> Iterator[Callable[..., World]]:
    """`world(recurse=…, capacity=…, shard_bytes=…, call={…}, **settings)` makes the verbs of a call over the lake."""
    made: list[World] = []

    def make(
        recurse: Recurse | None = None,
        capacity: int = 2,
        shard_bytes: int = 1 << 20,
        call: dict[str, Any] | None = None,
        **options: Any,
    ) -> World:
        settings = Settings(**({"root_model": "root", "sub_model": "leaf"} | options))
        corpora = {
            "logs": open_manifest(str(lake / "logs"), name="logs", shard_bytes=shard_bytes),
            "rows": open_manifest(str(lake / "rows"), name="rows"),
            "docs": open_manifest(str(lake / "docs"), name="docs", unit="document"),
        }
        run = RunDirectory.create(str(tmp_path), f"run-{len(made)}", {"question": "", "corpora": {}})
        given = {"depth": 0, "question": "", "width": 4} | (call or {})
        asked = Call(run.uri, run.id, "0", settings=settings, budget=Budget.of(settings), **given)
        made.append(World(asked, corpora, RecordingPorts(recurse, capacity)))
        return made[-1]

    yield make
    for each in made:
        each.service.scheduler.cancel()
        each.marks.close()
        each.ports.close()
