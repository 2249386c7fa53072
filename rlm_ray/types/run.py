"""The files of a run directory as types: `run.json`, `job.json`, `answer.json`, the events of a call's log."""

from __future__ import annotations

from typing import Any, NotRequired, Required, TypedDict

from rlm_ray.types.json import JsonObject, JsonSchema, Record
from rlm_ray.types.usage import ModelUsage, RunUsageRecord, UsageRecord

# what a run was asked


class CorpusOrigin(TypedDict):
    """What a run's corpus was opened from."""

    uris: list[str]
    fingerprint: str


class Context(TypedDict):
    """A variable of root code that is a handle: its plan, and what the handle shows."""

    plan: list[JsonObject]
    info: JsonObject


class UndescribedContext(TypedDict):
    """The same for a recursive call, which describes the data itself when it starts."""

    plan: list[JsonObject]
    info: None


class About(TypedDict, total=False):
    """`run.json`. Sessions of a notebook have only a few of the keys; `question` is None where prompts are not stored."""

    layout: int
    id: str
    made: str
    question: str | None
    question_sha256: str
    version: str
    settings: JsonObject
    corpora: dict[str, CorpusOrigin]
    contexts: dict[str, Context]
    main: str | None
    schema: JsonSchema | None
    others: list[str]
    program: list[str]
    is_text: bool


class JobRecord(TypedDict):
    """`job.json`: the job that a run belongs to, and the folders that its paths are relative to."""

    spec: JsonObject
    beside: str
    folder: str


class JobOutcome(TypedDict):
    """`findings.json`: what a job came to. `failing` has the ids of findings, `written` where the results are."""

    name: str
    columns: dict[str, Any]
    fail_on: str | None
    findings: list[JsonObject]
    rejected: list[JsonObject]
    failing: list[str]
    broken: str
    written: dict[str, str]


# what a run answered


class Citation(TypedDict):
    """Evidence that was found in its record."""

    address: str
    quote: str | None


class RefusedCitation(Citation):
    """Evidence that was not found."""

    reason: str


class Failure(TypedDict, total=False):
    """What an answer may lack: an object that cannot be read (`object`, `shard`), or a verb that failed (the others)."""

    reason: Required[str]
    object: str
    shard: int | None
    verb: str
    what: str
    failed: int
    of: int
    error: str
    address: str | None


class ClassBytes(TypedDict):
    """Bytes by class of coverage."""

    total: int
    read_by_model: int
    read_by_code: int
    excluded: int
    not_read: int


class ClassRecords(TypedDict):
    """Records by class of coverage; None where some shard does not know its number."""

    total: int | None
    read_by_model: int | None
    read_by_code: int | None
    excluded: int | None
    not_read: int | None


class CorpusCoverage(TypedDict):
    """How much of a corpus was read, and by whom."""

    bytes: ClassBytes
    records: ClassRecords


class ShardCoverage(CorpusCoverage):
    """The same, with the number of shards."""

    shards: int
    shards_failed: int


class Unattributed(TypedDict):
    """Text that a model read and that belongs to no record."""

    calls: int
    characters: int


class ShownRecords(TypedDict):
    """How many records sub-calls were shown, and how many characters of them."""

    records: int
    characters: int


class PromptAmount(ShownRecords):
    """The same, with the number of sub-calls."""

    calls: int


class PromptAmounts(PromptAmount):
    """What sub-calls were shown of records, and (`derived`) of text that code or a model made of records."""

    derived: PromptAmount


class CorpusShown(CorpusCoverage):
    """How much of a corpus was read, and what sub-calls were shown of it."""

    shown: ShownRecords


class Replaced(TypedDict):
    """An object with bytes that are no text."""

    object: str
    bytes: int


class Unparsed(TypedDict):
    """An object with records of logs that have no known format, or that continue an event which was cut."""

    object: str
    records: int
    cut: int


class Coverage(ShardCoverage, total=False):
    """`Answer.coverage`."""

    shown: PromptAmounts
    unattributed: Unattributed
    corpora: dict[str, CorpusShown]
    objects_failed: int
    replaced: list[Replaced]
    unparsed: list[Unparsed]


class SureRecord(TypedDict):
    """What is known of how sure a part of an answer is.

    Attributes
    ----------
    key : str
        What it is about; a later record about the same takes its place.
    verb, what : str
        "estimate" or "llm_each", and the beginning of the question.
    """

    key: str
    verb: str
    what: str
    sentence: str


class Validated(TypedDict):
    """What labels of people show of a run; each of the three as value, low and high. See `rlm_ray.sure.validation`."""

    read: int
    precision: tuple[float, float, float]
    recall: tuple[float, float, float]
    missed: tuple[float, float, float]
    sentence: str


class AnswerRecord(TypedDict):
    """`answer.json`, which is also what `--json` prints. Runs of older versions lack some of the last keys."""

    value: Any
    complete: bool
    stop_reason: str
    usage: RunUsageRecord
    coverage: Coverage
    citations: list[Citation]
    refused: list[RefusedCitation]
    failures: list[Failure]
    sure: NotRequired[list[SureRecord]]
    isolation: str
    events: dict[str, int]
    denied: dict[str, int]
    turns: int
    message: str
    run: str


class OutcomeRecord(TypedDict):
    """`calls/ID/outcome.json`: what a recursive call came to."""

    kind: str
    value: Any
    complete: bool
    stop_reason: str
    budget: JsonObject
    message: str
    turns: int
    failures: list[Failure]
    citations: list[Citation]
    refused: NotRequired[list[RefusedCitation]]
    events: dict[str, int]
    isolation: str
    ended: float
    measured: NotRequired[list[ModelUsage]]
    failed_verbs: NotRequired[list[JsonObject]]
    sure: NotRequired[list[SureRecord]]


# the log of a call


class LogEntry(TypedDict, total=False):
    """A line of `calls/ID/events.jsonl`: an event of the loop, or a remark about a session. `event` says which keys it has."""

    event: Required[str]
    at: float
    given: JsonObject
    left: str
    call: str
    depth: int
    system: str
    task: str
    questions_unread: bool
    turn: int
    cell: str
    code: str
    usage: UsageRecord
    seconds: float
    most: list[int]
    snapshot: int
    lost: list[str]
    citations: list[Citation]
    refused: list[RefusedCitation]
    failures: list[Failure]
    failed_verbs: list[JsonObject]
    sure: list[SureRecord]
    events: dict[str, int]


class AskedVerb(TypedDict):
    """A sub-call of a cell as a person reads it; `result` names its table, where there is one."""

    verb: str
    prompt: str
    result: str | None


class CellRecord(TypedDict):
    """A cell and what it gave. The report adds the keys that are not required."""

    code: str | None
    output: str
    error: str | None
    problem: str | None
    requests: int
    label: NotRequired[str | None]
    asked: NotRequired[list[AskedVerb]]


class TurnRecord(TypedDict):
    """A turn of the root model: its reply, and the cells of it."""

    turn: int
    reply: str
    usage: UsageRecord | None
    seconds: float | None
    at: float | None
    cells: list[CellRecord]


class RunRecord(TypedDict):
    """What `rlm-ray show` reads of a run; `job` is what its job came to, None where the run is a question alone."""

    run: str
    about: About
    answer: AnswerRecord | None
    turns: list[TurnRecord]
    stopped: str | None
    usage: UsageRecord | RunUsageRecord
    failed: dict[str, int]
    job: JobOutcome | None


class RunRow(TypedDict):
    """A line of `rlm-ray runs`."""

    run: str
    made: str | None
    state: str
    calls: int
    dollars: float | None
    shown: int | None
    question: str | None


class Verified(TypedDict):
    """What `verify` found: how many cells were the same, and the first that was not."""

    run: str
    same: bool
    cells: int
    difference: JsonObject | None


class SourceRecord(TypedDict):
    """A cited record, and what stands around it: records, or pieces of one text."""

    address: str
    quote: str | None
    record: Record
    before: list[Record] | list[str]
    behind: list[Record] | list[str]
