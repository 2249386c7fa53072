"""The ports of the recursion: protocols that its surroundings implement, and the values that cross them.

The recursion knows no Ray: `cluster/` implements these ports. A future is any object that can say whether it is done.
Everything here is small and picklable, except a future.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NotRequired, Protocol, TypeAlias, TypedDict, cast

from rlm_ray.corpus.operations.arguments import OperationArgs
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.budget.measures import Rows
from rlm_ray.recursion.failed_verbs import FailedVerb
from rlm_ray.types.json import JsonObject, JsonSchema
from rlm_ray.types.run import Citation, Context, OutcomeRecord, RefusedCitation, SureRecord, UndescribedContext

if TYPE_CHECKING:
    from rlm_ray.corpus.reading.work import Work
    from rlm_ray.ledger.segments import Segment
    from rlm_ray.models.client import ChatRequest
    from rlm_ray.models.contract import Usage
    from rlm_ray.recursion.jobs.batch_plans import Learned
    from rlm_ray.recursion.jobs.contents import GroupContents
    from rlm_ray.recursion.leaf.values import LeafSpec
    from rlm_ray.settings import Settings


#: Segments by URI as objects of the cluster, which tasks read in place of the files.
Mirrors: TypeAlias = dict[str, Any]


#: Gets rows done and failed, what was used, and distinct contents done and failed.
LeafProgress: TypeAlias = "Callable[[int, int, Usage, tuple[int, int]], None]"


class TextRow(TypedDict):
    """The answer to one bare prompt, or its error."""

    answer: Any
    error: str | None
    address: str | None
    index: NotRequired[int]


class Future(Protocol):
    """Work under way somewhere."""

    def done(self) -> bool:
        """Whether `result` returns at once."""

    def result(self) -> Any:
        """Return the result, or raise the error of the work."""

    def cancel(self) -> None:
        """Ask it to end; it may still come to a result."""


@dataclass(frozen=True, slots=True)
class RequestKey:
    """Names a request of a call.

    Attributes
    ----------
    name : str
        The same when its cell runs again.
    resumed : bool
        An earlier session started it: its finished calls are not paid for again.
    """

    name: str
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class ShardFailure:
    """A shard that could not be read: never counted as data, always reported."""

    object: str
    reason: str
    shard: int | None = None


class ScanArgs(OperationArgs, total=False):
    """The arguments of what a worker does over shards: an operation of the corpus, `contents` or `answered`."""

    spec: LeafSpec
    run_dir: str
    others: tuple[str, ...]
    keys: Sequence[str]
    settings: Settings


@dataclass(frozen=True, slots=True)
class ScanGroup:
    """One operation over some shards."""

    operation: str
    works: tuple[Work, ...]
    args: ScanArgs
    tables: Mirrors = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CodeGroup:
    """A function of root code over some shards, run in a sandbox on a worker.

    Attributes
    ----------
    kind : {"map", "filter", "aggregate", "combine"}
    blob, combine : bytes
        The pickled functions: opaque here, loaded only inside a sandbox.
    values : tuple
        What "combine" folds.
    """

    kind: str
    works: tuple[Work, ...]
    blob: bytes
    output: str  # folder of the segments, or id of the selection, to write
    number: int
    run_dir: str
    settings: Settings
    run_id: str
    combine: bytes = b""
    values: tuple[Any, ...] = ()
    tables: Mirrors = field(default_factory=dict)
    keep: bool = False  # whatever fails; else a function that fails on all of the first records is stopped
    part: str = ""  # which part of a group that was cut: part of the names of what it writes
    errors: str = ""  # folder of the segments for what "filter" failed on


@dataclass(frozen=True, slots=True)
class QueryGroup:
    """SQL of root code over some shards, run in a sandbox on a worker: once for each piece of bounded size.

    Attributes
    ----------
    columns : tuple of str, or None
        Those that the query reads; None: only check the query, read nothing.
    pieces : {"shards", "pooled", "whole"}
        What the query sees at once: of one shard each time; of neighbouring ones, as much as is allowed; all of them.
    decimals : dict of str to str
        The types of the result's columns that are decimals.
    """

    query: str
    works: tuple[Work, ...]
    schema: dict[str, str]
    columns: tuple[str, ...] | None
    pieces: Literal["shards", "pooled", "whole"]
    output: str  # folder of the segments to write
    number: int
    settings: Settings
    run_id: str
    tables: Mirrors = field(default_factory=dict)
    decimals: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CodeOutcome:
    """The outcome of a `CodeGroup` or a `QueryGroup`."""

    segments: tuple[Segment, ...] = ()
    values: tuple[Any, ...] = ()
    kept: dict[int, int] = field(default_factory=dict)  # records kept, by shard
    failures: tuple[ShardFailure, ...] = ()
    events: dict[str, int] = field(default_factory=dict)
    tried: int = 0  # records that the function was given, or batches of them
    failed: int = 0
    error: str = ""  # the first
    address: str | None = None
    stopped: bool = False  # it failed on all of the first records, and the others were not tried


@dataclass(frozen=True, slots=True)
class Prompted:
    """A part with a prompt of its own."""

    prompt: str
    part: str | tuple[Work, ...]

    @property
    def works(self) -> tuple[Work, ...]:
        """Its work, where it is no text."""
        return () if isinstance(self.part, str) else self.part


@dataclass(frozen=True, slots=True)
class LeafGroup:
    """Leaf calls that one task makes: it reads its slice, renders, packs, calls and writes its segment.

    Attributes
    ----------
    parts : tuple of (str, tuple of Work, or Prompted)
        For prompts and chunks: what each call is about.
    works : tuple of Work
        For records: where they are.
    columns : dict
        Type by column of the rows to write.
    calls : int
        Calls that it will need at least.
    trusted : bool
        Another group of the batch had a usable reply.
    unusable : str, optional
        Why another group stopped the batch.
    """

    result: str
    number: int
    spec: LeafSpec
    parts: tuple[Any, ...]
    works: tuple[Work, ...]
    columns: dict[str, str]
    output: str
    budget: Budget
    settings: Settings
    calls: int
    run_dir: str = ""
    tables: Mirrors = field(default_factory=dict)
    others: tuple[str, ...] = ()  # run directories whose finished calls are reused
    first: int = 0  # index of the first part in the whole batch
    id: str = ""  # names the group in the ledger: what it spent is found when it dies
    depth: int = 0  # of the call that asks
    trusted: bool = False
    unusable: str | None = None
    contents: GroupContents | None = None  # those that several records have; None where equal records are asked about apart
    failed: dict[str, str] = field(default_factory=dict)  # errors by key, of equal contents that another group asked about


@dataclass(frozen=True, slots=True)
class LeafOutcome:
    """The outcome of a `LeafGroup`."""

    segments: tuple[Segment, ...]
    budget: Budget
    rows: tuple[TextRow, ...] = ()  # of bare prompts only, whose texts root code wants as values
    failures: tuple[ShardFailure, ...] = ()
    unasked: int = 0  # rows for which the group's slice did not reach
    refused: tuple[int, int, int] | None = None  # what it did not reach for: calls, tokens, nanodollars
    measured: Rows = ()
    noted: tuple[JsonObject, ...] = ()  # entries of the read log: records and texts that a model read
    deferred: int = 0  # of those unasked: rows whose content another group asks about
    failed: dict[str, str] = field(default_factory=dict)  # errors by key, of contents that records of other groups have as well
    learned: Learned | None = None
    unusable: str | None = None  # why it stopped the batch


@dataclass(frozen=True, slots=True)
class Call:
    """One Recursive Language Model: the root of a run, or a recursive call below it.

    Attributes
    ----------
    id : str
        "0" is the root, "0-3" its fourth recursive call.
    contexts : dict
        `{name: {"plan": …, "info": …}}`; empty where the context is `text`.
    width : int
        Recursive calls that it may have live at once; its own children share it.
    """

    run_dir: str
    run_id: str
    id: str
    depth: int
    question: str
    settings: Settings
    budget: Budget
    text: str | None = None
    contexts: Mapping[str, Context | UndescribedContext] = field(default_factory=dict)
    main: str | None = None
    width: int = 1
    others: tuple[str, ...] = ()  # run directories whose finished calls are reused
    schema: JsonSchema | None = None
    program: tuple[str, ...] = ()  # cells that stand for a root model's
    replay: bool = False  # a verification: everything that began has ended, well or badly


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """The outcome of a `Call`: plain values, never references into the cluster.

    Attributes
    ----------
    value : Any
        JSON value; where the answer is a table, `{"plan": …, "info": …}` and `kind` "corpus".
    """

    kind: str
    value: Any
    complete: bool
    stop_reason: str
    budget: Budget
    message: str = ""
    turns: int = 0
    failures: tuple[ShardFailure, ...] = ()
    citations: tuple[Citation, ...] = ()
    refused: tuple[RefusedCitation, ...] = ()  # citations whose quote is not at their address
    events: dict[str, int] = field(default_factory=dict)
    isolation: str = "strict"
    ended: float = 0.0  # Unix time
    measured: Rows = ()  # model calls by depth and model, of those below it too
    failed_verbs: tuple[FailedVerb, ...] = ()
    sure: tuple[SureRecord, ...] = ()

    def to_json(self) -> OutcomeRecord:
        """Return it as JSON values."""
        return cast(OutcomeRecord, asdict(replace(self, budget=Budget())) | {"budget": self.budget.to_json()})

    @classmethod
    def from_json(cls, value: OutcomeRecord) -> CallOutcome:
        """Read back what `to_json` gave."""
        fields: JsonObject = {**value}
        return cls(
            **{
                **fields,
                "budget": Budget.from_json(value["budget"]),
                "failures": tuple(ShardFailure(**cast(JsonObject, item)) for item in value["failures"]),
                "citations": tuple(value["citations"]),
                "refused": tuple(value.get("refused", ())),
                "measured": tuple(value.get("measured", ())),
                "failed_verbs": tuple(FailedVerb(**item) for item in value.get("failed_verbs", ())),
                "sure": tuple(value.get("sure", ())),
            }
        )


class Ports(Protocol):
    """The services that the recursion needs. Only the thread that runs the loop calls them."""

    def capacity(self) -> int:
        """Return the number of CPUs that work can be spread over."""

    def scan(self, group: ScanGroup) -> Future:
        """Run an operation over shards; the result is a list of partials or `ShardFailure`, in the order of the works."""

    def code(self, group: CodeGroup) -> Future:
        """Run root code's function over shards; the result is a `CodeOutcome`."""

    def query(self, group: QueryGroup) -> Future:
        """Run root code's SQL over shards; the result is a `CodeOutcome`, whose values are the query's columns in a check."""

    def leaves(self, group: LeafGroup, progress: LeafProgress, spread: bool) -> Future:
        """Make leaf calls, in this process or (`spread`) as a task; the result is a `LeafOutcome`.

        `progress` gets rows done and failed, what was used, and distinct contents done and failed, so far.
        """

    def room(self, live: int, ahead: float) -> float:
        """Return in how many seconds one more recursive call may begin beside so many live ones; 0: now, and it will.

        `ahead` estimates the seconds until all waiting calls will have started without this one.
        """

    def recurse(self, call: Call, progress: Callable[[Usage, Usage | None], None]) -> Future:
        """Run a recursive call; the result is a `CallOutcome`.

        `progress` gets the usage of the call and all below it so far, and the projected usage, if there is one.
        """

    def complete(self, request: ChatRequest, meter: Any, settings: Settings, *, root: bool) -> Future:
        """Ask a model once, from this process; the result is a `ChatReply`."""

    def wait(self, futures: Sequence[Future], descriptors: Sequence[int], timeout: float | None) -> None:
        """Return when one of the futures is done, a descriptor is readable, or `timeout` seconds have passed."""

    def close(self) -> None:
        """End what this process started."""
