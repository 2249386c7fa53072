"""Runs a job on the objects that are new or changed since its last finished run, and carries the other findings forward.

::

    STATE/lease/                    who is at work: one run of a job at a time
    STATE/runs/RUN/objects.parquet  the objects that the corpus has: uri, version, size
    STATE/runs/RUN/begun.json       where the run's directory is, and which finished run it goes on from
    STATE/runs/RUN/findings.json    all findings that stand after it
    STATE/runs/RUN/done.json        written last: the run has finished

What a finished run wrote is never changed. A run that died is not finished: the next one begins where it began, and takes from
its ledger what a model answered already. An object is known by its name and version. One that is there under another name with
the version that a vanished one had was renamed; a version is an object's etag, and of a local file its size and time.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict

import numpy
import pyarrow
import pyarrow.parquet

from rlm_ray import storage
from rlm_ray.audit.findings import Finding, identify
from rlm_ray.corpus.catalog import deletions
from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.operations.lookup import shard_of
from rlm_ray.errors import RunBusy
from rlm_ray.ledger.lease import Lease
from rlm_ray.ledger.rundir import RunDirectory

NEW, CARRIED, GONE = "new", "carried", "gone"


class BegunRecord(TypedDict):
    """`begun.json`: where the run's directory is, and the finished run that it goes on from."""

    run_dir: str
    base: str | None
    check: str
    at: float


class DoneRecord(TypedDict):
    """`done.json`: a run that has finished; `number` counts the finished runs before it."""

    run: str
    number: int
    check: str
    at: float
    base: str | None


class SavedFindings(TypedDict):
    """`findings.json`: the findings that stand, and those whose record is gone."""

    findings: list[Finding]
    gone: list[Finding]


class RunFiles(TypedDict, total=False):
    """The files of a run that say how far it came."""

    begun: BegunRecord
    done: DoneRecord


@dataclass(frozen=True, slots=True)
class State:
    """A finished run.

    Attributes
    ----------
    number : int
        Finished runs before it.
    objects : dict of str to (str, int)
        Version and size by URI.
    """

    run: str
    number: int
    objects: dict[str, tuple[str, int]]
    findings: list[Finding]


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened to the objects of a corpus since a finished run.

    Attributes
    ----------
    fresh : set of str
        URIs that are new, or that have another version.
    renamed : dict of str to str
        New URI by the old one.
    gone : set of str
        URIs that are not there any more, or have another version.
    """

    fresh: set[str]
    renamed: dict[str, str] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)


def changes(before: Mapping[str, tuple[str, int]], now: Mapping[str, tuple[str, int]], alike: Any = None) -> Changes:
    """Compare the objects of a corpus then and now.

    Parameters
    ----------
    before, now : mapping of str to (str, int)
        Version and size by URI.
    alike : callable, optional
        Whether two URIs have the same place in the corpus: the same values of partitions.

    Examples
    --------
    >>> changes({"a": ("1", 5), "b": ("2", 6)}, {"a": ("1", 5), "c": ("2", 6), "d": ("3", 7)})
    Changes(fresh={'d'}, renamed={'b': 'c'}, gone=set())
    """
    fresh = {uri for uri, version in now.items() if before.get(uri) != version}
    gone = {uri for uri, version in before.items() if now.get(uri) != version}
    vanished = Counter(before[uri] for uri in gone if uri not in now)
    appeared = Counter(now[uri] for uri in fresh if uri not in before)
    # one for one, or nobody can say which is which
    sure = {version for version, count in vanished.items() if count == appeared.get(version) == 1 and is_exact(version[0])}
    to = {now[uri]: uri for uri in fresh if uri not in before and now[uri] in sure}
    renamed = {uri: to[before[uri]] for uri in gone if uri not in now and before[uri] in sure}
    if alike is not None:
        renamed = {old: new for old, new in renamed.items() if alike(old, new)}
    return Changes(fresh - set(renamed.values()), renamed, gone - set(renamed))


def is_exact(version: str) -> bool:
    """Whether equal versions are equal contents: an etag; of a local file a time that is no whole second.

    Examples
    --------
    >>> is_exact("5d41402abc4b2a76b9719d911017c592"), is_exact(f"5-{1_700_000_000_000_000_000:x}")
    (True, False)
    """
    size, dash, moment = version.partition("-")
    try:
        return not dash or not size or len(moment) < 12 or int(moment, 16) % 1_000_000_000 != 0
    except ValueError:
        return True


class Night:
    """One run of an incremental job; a context manager that keeps others out.

    Parameters
    ----------
    folder : str
        STATE.
    run_id : str
    check : str
        Names the job's question, columns, program and models: only runs of the same check are gone on from.
    manifest : Manifest
        The corpus as it is now.
    run_dir : str
        Where the run's directory will be.

    Raises
    ------
    RunBusy
        From `__enter__`: another run of the job is at work.
    """

    def __init__(self, folder: str, run_id: str, check: str, manifest: Manifest, run_dir: str) -> None:
        self._folder = storage.normal(folder)
        self.run_id = run_id
        self._check = check
        self._manifest = manifest
        self._run_dir = run_dir
        self._lease = Lease(self._folder)
        self._base: State | None = None
        self._objects: dict[str, tuple[str, int]] = {}
        self._saved: SavedFindings | None = None
        self.reuse: list[str] = []
        self.changes = Changes(set())

    def __enter__(self) -> Night:
        try:
            self._lease.__enter__()
        except RunBusy as error:
            raise RunBusy(f"Another run of this job is at work, and they would read the same twice. {error}") from None
        try:
            self._begin()
        except BaseException:
            self._lease.__exit__()
            raise
        return self

    def _begin(self) -> None:
        runs = self._runs()
        self._saved = self._findings(self.run_id) if self.run_id in runs and "done" in runs[self.run_id] else None
        if self._saved is not None:
            return
        mine = runs.get(self.run_id, {}).get("begun")
        resumed = mine is not None and RunDirectory(mine["run_dir"]).about() != {}
        finished = [files["done"] for files in runs.values() if "done" in files and files["done"]["check"] == self._check]
        base = max(finished, key=lambda done: (done["number"], done["at"]), default=None)
        if resumed and mine is not None:
            base = next((done for done in finished if done["run"] == mine["base"]), None)
            self._objects = self._read_objects(self.run_id)
        else:
            self._objects = {item.uri: (item.version, item.size) for item in self._manifest.objects}
        if base is not None:
            self._base = State(
                base["run"], base["number"], self._read_objects(base["run"]), self._findings(base["run"])["findings"]
            )
        begun = [files["begun"] for run, files in runs.items() if "done" not in files and "begun" in files and run != self.run_id]
        base_run = None if self._base is None else self._base.run
        self.reuse = [
            other["run_dir"]
            for other in begun
            if other["check"] == self._check and other["base"] == base_run and RunDirectory(other["run_dir"]).about() != {}
        ]
        self.changes = changes({} if self._base is None else self._base.objects, self._objects, self._alike)
        if not resumed:
            self._write("objects.parquet", _table(self._objects))
            record = BegunRecord(run_dir=self._run_dir, base=base_run, check=self._check, at=time.time())
            self._write("begun.json", json.dumps(record).encode())

    def __exit__(self, *error: object) -> None:
        self._lease.__exit__(*error)

    @property
    def finished(self) -> list[Finding] | None:
        """The findings of this very run, where it has finished before."""
        return None if self._saved is None else self._saved["findings"] + self._saved["gone"]

    @property
    def base(self) -> str | None:
        """The finished run that this one goes on from."""
        return None if self._base is None else self._base.run

    def settle(self, found: Iterable[Finding]) -> list[Finding]:
        """Return all findings: those found tonight, those carried forward, and those whose record is gone."""
        rows = [{**finding, "status": NEW, "since": self.run_id} for finding in found]
        known = {finding["id"] for finding in rows}
        for finding in self._base.findings if self._base is not None else ():
            if self._base is not None and Address.parse(finding["address"]).object not in self._base.objects:
                continue  # of an object that could not be read to its end: it is read again
            status, finding = self._carried(finding)
            if status == GONE or finding["id"] not in known:
                rows.append(finding | {"status": status})
        return rows

    def _carried(self, finding: Finding) -> tuple[str, Finding]:
        address = Address.parse(finding["address"])
        if (name := self.changes.renamed.get(address.object)) is not None:
            address = replace(address, object=name)
            columns = {key: value for key, value in finding.items() if key not in ("id", "status", "since")}
            columns["address"] = str(address)
            finding = {"id": identify(columns)} | columns | {"since": finding["since"]}
        elif address.object in self.changes.gone:
            return GONE, finding
        shard = shard_of(self._manifest, address)
        if shard is not None and shard.deleted and address.unit == "row":
            rows = deletions.unpack(shard.deleted)
            at = int(numpy.searchsorted(rows, address.start))
            if at < len(rows) and rows[at] == address.start:
                return GONE, finding
        return CARRIED, finding

    def finish(self, rows: list[Finding], unread: Iterable[str] = ()) -> None:
        """Write down that the run has finished: its objects, but for those that could not be read, and what stands."""
        if self._saved is not None:
            return
        left = {uri: version for uri, version in self._objects.items() if uri not in set(unread)}
        self._write("objects.parquet", _table(left))
        standing = [row for row in rows if row["status"] != GONE]
        saved = SavedFindings(findings=standing, gone=[row for row in rows if row["status"] == GONE])
        self._write("findings.json", json.dumps(saved, ensure_ascii=False).encode("utf-8", "replace"))
        number = 0 if self._base is None else self._base.number + 1
        done = DoneRecord(run=self.run_id, number=number, check=self._check, at=time.time(), base=self.base)
        self._write("done.json", json.dumps(done).encode())

    def _alike(self, old: str, new: str) -> bool:
        """Whether an object's records are the same under another name: it is where the same partitions are."""
        return _partitions(old) == _partitions(new)

    def _runs(self) -> dict[str, RunFiles]:
        folder = storage.join(self._folder, "runs")
        found: dict[str, RunFiles] = {}
        for item in storage.listing(folder) if storage.exists(folder) else ():
            run, _, name = item.uri[len(folder) + 1 :].partition("/")
            if name in ("begun.json", "done.json"):
                content = json.loads(storage.read_bytes(item.uri))
                found.setdefault(run, {}).update({"done": content} if name == "done.json" else {"begun": content})
        return found

    def _findings(self, run: str) -> SavedFindings:
        saved: SavedFindings = json.loads(storage.read_bytes(storage.join(self._folder, "runs", run, "findings.json")))
        return saved

    def _read_objects(self, run: str) -> dict[str, tuple[str, int]]:
        data = storage.read_bytes(storage.join(self._folder, "runs", run, "objects.parquet"))
        rows = pyarrow.parquet.read_table(pyarrow.BufferReader(data)).to_pylist()
        return {row["uri"]: (row["version"], row["size"]) for row in rows}

    def _write(self, name: str, data: bytes) -> None:
        storage.write_bytes(storage.join(self._folder, "runs", self.run_id, name), data)


def check_of(*parts: Any) -> str:
    """Name a check by what it consists of."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _partitions(uri: str) -> list[str]:
    return [part for part in uri.split("/")[:-1] if "=" in part]


def _table(objects: Mapping[str, tuple[str, int]]) -> bytes:
    columns = {
        "uri": pyarrow.array(list(objects), pyarrow.string()),
        "version": pyarrow.array([version for version, _ in objects.values()], pyarrow.string()),
        "size": pyarrow.array([size for _, size in objects.values()], pyarrow.int64()),
    }
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink, compression="zstd")
    return sink.getvalue()
