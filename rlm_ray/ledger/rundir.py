"""A run's directory: any URL that storage can write, with what outlives the processes that made it.

::

    RUN/
      run.json               question, settings without secrets, corpora, when and by which version it was made
      job.json               the job's specification, where a job made the run
      findings.json          what the job came to: findings that stand, findings that were rejected
      context.txt            the context, where it is a str
      manifest/NAME/         the shards of each corpus
      lease/                 who works on it
      calls/ID/              the log of a call, see `calllog`; ID "0" is the root
      calls/ID/outcome.json  what a recursive call came to
      finished/              finished sub-calls, see `finished`
      segments/RESULT/       results of sub-calls and of functions over shards
      selections/RESULT/     places that a filter kept
      indexes/               by which gzip objects are read from the middle, see `corpus.reading.text.compressed`
      replaced/              bytes that are no text, by shard, see `corpus.damage`
      coverage/              what each call read, see `marks`
      coverage.parquet       the same by shard and class, with the answer: see `coverage`
      answer.json            the answer
      validation/            what people are shown of it, and their labels, see `validation.sheet`

Every file is written whole or not at all.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rlm_ray import storage
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.errors import InputError, RunNotFound
from rlm_ray.ledger import finished
from rlm_ray.ledger.calllog import CallLog, root_calls, session_seconds
from rlm_ray.models.contract import Usage
from rlm_ray.types.run import About, AnswerRecord, JobOutcome, JobRecord, OutcomeRecord, Validated

#: Raised when the layout changes in a way that older code cannot read.
LAYOUT = 1


def default_base() -> str:
    """Return the folder of run directories where none was set."""
    home = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(home, "rlm_ray", "runs")


def new_id() -> str:
    """Return a run id that sorts by time."""
    return f"{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run has used.

    Attributes
    ----------
    cut_lines : int
        Half-written lines of its logs, left out: what they said counts as not done.
    """

    usage: Usage
    seconds: float
    cut_lines: int = 0


class RunDirectory:
    """One run's directory.

    Parameters
    ----------
    uri : str
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri

    @property
    def id(self) -> str:
        """The run's id: the last part of the URI."""
        return self.uri.rstrip("/").rsplit("/", 1)[-1]

    @classmethod
    def create(
        cls,
        base: str | None,
        run_id: str | None,
        about: About,
        *,
        text: str | None = None,
        store_prompts: bool = True,
        manifests: Mapping[str, Manifest] | None = None,
    ) -> RunDirectory:
        """Make a directory for a new run; `text` is its context where that is a str, `manifests` are those of its corpora.

        `run.json` is written last: a run that was killed before has not begun, and its id can be used.

        Raises
        ------
        InputError
            The id cannot be a file name.
        """
        run_id = run_id or new_id()
        if not is_id(run_id):
            raise InputError(f"The run id {run_id!r} cannot name a directory. Use letters, digits, '-', '_' and '.'.")
        run = cls(storage.join(storage.normal(base or default_base()), run_id))
        for folder in (run.uri, run.path("calls"), run.path("finished")):
            storage.make_dirs(folder)  # each of them, so that each is this user's alone
        if not store_prompts:
            question = about["question"] or ""
            about = {**about, "question": None, "question_sha256": hashlib.sha256(question.encode()).hexdigest()}
        elif text is not None:
            storage.write_bytes(run.path("context.txt"), text.encode("utf-8", "surrogatepass"))
        for name, manifest in (manifests or {}).items():
            manifest.save(run.path("manifest", name))
        made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        run._write("run.json", {"layout": LAYOUT, "id": run_id, "made": made, **about})
        return run

    @classmethod
    def existing(cls, base: str | None, run_id: str) -> RunDirectory | None:
        """Return the run of an id, or None where there is none yet, or where it was killed before it had written its manifests."""
        run = cls(storage.join(storage.normal(base or default_base()), run_id))
        return run if storage.find_bytes(run.path("run.json")) is not None and run.is_whole() else None

    def is_whole(self) -> bool:
        """Whether the run has the manifests that its `run.json` names: versions up to 0.1 wrote them after it."""
        return all(
            storage.stat(self.path("manifest", name, "manifest.json")) is not None for name in self.about().get("corpora", {})
        )

    @classmethod
    def find(cls, run: str, base: str | None = None) -> RunDirectory:
        """Return a run by its directory, its id, or the beginning of one id alone.

        Raises
        ------
        RunNotFound
            There is none, or several ids begin so.
        """
        base = storage.normal(base or default_base())
        for uri in (run, storage.join(base, run)) if run.strip() else ():
            candidate = cls(storage.normal(uri))
            if storage.find_bytes(candidate.path("run.json")) is not None:
                return candidate
        found = [item for item in runs(base, run) if item.id.startswith(run)] if is_id(run) else []
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(item.id for item in found[:5]) + (", …" if len(found) > 5 else "")
            raise RunNotFound(f"{len(found):,} runs under {base} begin with {run!r}: {ids}. Give more of the id.")
        raise RunNotFound(
            f"There is no run {run!r}, as a directory or under {base}. "
            "`rlm-ray runs` lists them, and --run-dir names another folder."
        )

    def path(self, *parts: str) -> str:
        """Return the URI of something in the directory."""
        return storage.join(self.uri, *parts)

    def about(self) -> About:
        """Return `run.json`; without keys where the run has none."""
        about: About | None = self._read("run.json")
        return about if about is not None else {}

    def save_job(self, job: JobRecord) -> None:
        """Write down which job the run belongs to, before the run begins."""
        self._write("job.json", job)

    def job(self) -> JobRecord | None:
        """Return the job of the run, or None where the run is a question alone."""
        job: JobRecord | None = self._read("job.json")
        return job

    def save_outcome_of_job(self, outcome: JobOutcome) -> None:
        """Write down what the job of this run came to."""
        self._write("findings.json", outcome)

    def outcome_of_job(self) -> JobOutcome | None:
        """Return what the job of this run came to, or None where no job made it or it has not ended."""
        outcome: JobOutcome | None = self._read("findings.json")
        return outcome

    def log(self, call: str = "0") -> CallLog:
        """Return the log of a call."""
        return CallLog(self.uri, call)

    def calls(self) -> list[str]:
        """Return the ids of the calls that have a log, the root's first."""
        folder = self.path("calls")
        if not storage.exists(folder):
            return []
        skip = len(folder.rstrip("/")) + 1
        return sorted({item.uri[skip:].split("/", 1)[0] for item in storage.listing(folder)})

    def save_outcome(self, call: str, outcome: OutcomeRecord) -> None:
        """Write down what a recursive call came to."""
        self._write(f"calls/{call}/outcome.json", outcome)

    def text(self) -> str | None:
        """Return the context where it is a str."""
        data = storage.find_bytes(self.path("context.txt"))
        return None if data is None else data.decode("utf-8", "surrogatepass")

    def spent(self) -> Spent:
        """Return what the sessions of the run used so far: finished sub-calls, root calls at every depth, and time."""
        usage, marks, cut_lines = self._account(None)
        return Spent(_sum(usage, marks), session_seconds(self.log("0").events()), cut_lines)

    def account(self, of: str) -> tuple[Usage, tuple[int, int, int]]:
        """Return what a group, or a call and all below it, spent for certain, and the most it may have spent beside.

        The second is in calls, tokens and nanodollars: what was in flight when its process died.
        """
        sure, marks, _ = self._account(of)
        return sure, (sum(mark[0] for mark in marks), sum(mark[1] for mark in marks), sum(mark[2] for mark in marks))

    def _account(self, of: str | None) -> tuple[Usage, list[list[int]], int]:
        found = finished.account(self.uri, of)
        usage, marks, cut_lines = found.usage, list(found.open.values()), found.cut.lines
        for call in self.calls():
            if of is None or call == of or call.startswith(f"{of}-"):
                log = self.log(call)
                asked, mark = root_calls(log.events())
                cut_lines += log.cut.lines
                usage += asked
                marks += [mark] if mark else []
        return usage, marks, cut_lines

    def failed(self) -> dict[str, int]:
        """Return why sub-calls failed, and how many of them, the most frequent first."""
        reasons = Counter(finished.account(self.uri).failed.values())
        return dict(reasons.most_common())

    def forget(self) -> None:
        """Remove the directory and all that is in it."""
        storage.delete_tree(self.uri)

    def outcome(self, call: str) -> OutcomeRecord | None:
        """Return what a recursive call came to, or None where it has not ended."""
        outcome: OutcomeRecord | None = _with_message(self._read(f"calls/{call}/outcome.json"))
        return outcome

    def save_answer(self, answer: AnswerRecord) -> None:
        """Write down the answer."""
        self._write("answer.json", answer)

    def validated(self) -> Validated | None:
        """Return what labels of people showed, or None where there are none."""
        kept = self._read("validation/labels.json")
        found: Validated | None = None if kept is None else kept["validated"]
        return found

    def answer(self) -> AnswerRecord | None:
        """Return the answer, or None where the run has none yet."""
        answer: AnswerRecord | None = _with_message(self._read("answer.json"))
        return answer

    def has_answer(self) -> bool:
        """Whether it has an answer. Reads none."""
        return storage.stat(self.path("answer.json")) is not None

    def _write(self, name: str, value: Any) -> None:
        text = json.dumps(value, ensure_ascii=False, default=str)
        storage.write_bytes(self.path(*name.split("/")), text.encode("utf-8", "replace"))

    def _read(self, name: str) -> Any:
        data = storage.find_bytes(self.path(*name.split("/")))
        return None if data is None else json.loads(data)


def _sum(usage: Usage, marks: list[list[int]]) -> Usage:
    """Count what was in flight at a kill in full: whether it was answered is unknown."""
    for calls, tokens, nanodollars in marks:
        usage += Usage(calls, tokens, 0, 0, nanodollars / 1e9, calls)
    return usage


def is_id(text: str) -> bool:
    """Whether a text can be a run's id, or the beginning of one."""
    return text.replace("-", "").replace("_", "").replace(".", "").isalnum() and not text.startswith(".")


def runs(base: str | None = None, beginning: str = "") -> Iterator[RunDirectory]:
    """Iterate over the runs under a folder whose ids begin so, newest first as their ids say."""
    base = storage.normal(base or default_base())
    if not storage.exists(base):
        return
    try:
        uris = {item.uri.rsplit("/", 1)[0] for item in storage.listing(storage.join(base, f"{beginning}*", "run.json"))}
    except InputError:  # the folder has no run
        return
    for uri in sorted(uris, reverse=True):
        yield RunDirectory(uri)


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a listing tells of a run directory: of two that are equal, nothing but the lease may have changed between.

    Attributes
    ----------
    names : frozenset of str
        The files directly in it, such as `answer.json`.
    stamp : int
        Of the names and versions of all its objects but the lease's; of this process alone.
    """

    uri: str
    names: frozenset[str]
    stamp: int

    @property
    def id(self) -> str:
        """The run's id."""
        return self.uri.rsplit("/", 1)[-1]


def inventories(base: str | None = None) -> list[Inventory]:
    """Return what one listing of a folder tells of the runs under it. Reads no object."""
    base = storage.normal(base or default_base())
    if not storage.exists(base):
        return []
    skip = len(base.rstrip("/")) + 1
    names: dict[str, set[str]] = {}
    stamps: Counter[str] = Counter()
    try:
        for item in storage.listing(base):
            run, _, path = item.uri[skip:].partition("/")
            if path and not path.startswith("lease/"):
                stamps[run] ^= hash((path, item.version))
            if path and "/" not in path:
                names.setdefault(run, set()).add(path)
    except InputError:  # the folder is empty
        return []
    return [
        Inventory(storage.join(base, run), frozenset(found), stamps[run]) for run, found in names.items() if "run.json" in found
    ]


def _with_message(record: Any) -> Any:
    """Return an answer or outcome with today's name of its message; older versions wrote `said`."""
    if record is not None and "said" in record:
        record = {("message" if name == "said" else name): value for name, value in record.items()}
    return record
