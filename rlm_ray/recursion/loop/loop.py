"""The Recursive Language Model as a pure state machine: events in, commands out.

Algorithm 1 of the paper (Zhang, Kraska, Khattab, arXiv 2512.24601), whose lines are here the events:

    state <- InitREPL(prompt)                 Started: the driver has a REPL that holds the context
    hist <- [Metadata(state)]                 -> AskRoot with the system prompt, the question and the metadata
    while True:
        code <- LLM(hist)                     Replied -> RunCell for each cell of the reply, in order
        (state, stdout) <- REPL(state, code)  CellDone
        hist <- hist || code || Metadata(stdout)
        if state[Final] is set: return it     -> Finish
                                              else -> AskRoot again

No Ray, model, process, clock or file is known here; `driver.py` carries the commands out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from rlm_ray.recursion.loop import feedback
from rlm_ray.recursion.loop.cells import cells, other_fences
from rlm_ray.recursion.loop.history import Entry, History


# events
@dataclass(frozen=True, slots=True)
class Started:
    """The REPL holds the context."""


@dataclass(frozen=True, slots=True)
class Replied:
    """The root model replied."""

    text: str
    cut: bool = False  # the endpoint's completion limit ended it
    problem: str = ""  # why it has no text


@dataclass(frozen=True, slots=True)
class AskFailed:
    """The root model could not be asked, for good."""

    reason: str


@dataclass(frozen=True, slots=True)
class TooLong:
    """The root model's endpoint refused the messages as longer than its context window."""

    reason: str


@dataclass(frozen=True, slots=True)
class CellDone:
    """A cell ended.

    Attributes
    ----------
    output : str
        What it printed, already cut.
    error : str, optional
        A short traceback, or why the sandbox was replaced.
    final : Any
        The answer as the REPL encoded it, or None.
    problem : str, optional
        Why what was set is no answer.
    requests : int
        Verbs and sub-calls that the cell used.
    """

    output: str
    error: str | None = None
    final: Any = None
    problem: str | None = None
    requests: int = 0


@dataclass(frozen=True, slots=True)
class LimitReached:
    """A limit of the run was reached: the next turn is the last."""

    reason: str  # "budget", "time", "security"
    message: str


@dataclass(frozen=True, slots=True)
class Unaffordable:
    """The budget does not reach for asking the root; the reserve for its last turn may."""

    message: str


@dataclass(frozen=True, slots=True)
class ProgramEnded:
    """A program that stands for the root model cannot go on."""

    message: str


Event: TypeAlias = Started | Replied | AskFailed | TooLong | CellDone | LimitReached | Unaffordable | ProgramEnded


# commands
@dataclass(frozen=True, slots=True)
class AskRoot:
    """Ask the root model with these messages; `last` draws on the reserve."""

    messages: tuple[dict[str, str], ...]
    last: bool


@dataclass(frozen=True, slots=True)
class RunCell:
    """Run a cell in the REPL."""

    turn: int
    number: int
    code: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The run is over. `final` is what the REPL encoded, a plain text, or None."""

    final: Any
    complete: bool
    stop_reason: str
    message: str = ""


Command: TypeAlias = AskRoot | RunCell | Finish


@dataclass(frozen=True, slots=True)
class State:
    """Where a run is.

    Attributes
    ----------
    turn : int
        Replies asked for so far; the first is 1.
    questions_unread : bool
        An answer that is set before anything was read is questioned once, and never complete.
    questioned : bool
        It was.
    cells, outputs : tuple
        Cells of this turn that still have to run, and what those that ran gave.
    cut : bool
        The completion limit ended this turn's reply.
    limit : LimitReached, optional
        Set once; the turn after is the last.
    reply : str
        Of this turn.
    before : tuple
        The reply and the outputs of the turn before: one that repeats them is told so.
    """

    history: History
    max_turns: int
    questions_unread: bool = False
    questioned: bool = False
    turn: int = 0
    last: bool = False
    cells: tuple[str, ...] = ()
    ran: int = 0
    outputs: tuple[str, ...] = ()
    cut: bool = False
    requests: int = 0
    limit: LimitReached | None = None
    done: bool = False
    reply: str = ""
    before: tuple[str, tuple[str, ...]] = ("", ())


def step(state: State, event: Event, left: str = "") -> tuple[State, list[Command]]:
    """Take one event.

    Parameters
    ----------
    state : State
    event : Event
    left : str
        The rest of the run's limits, as text for the root's next turn.

    Returns
    -------
    (State, list of Command)
        The state after, and what to do now. After `Finish` no event changes anything.
    """
    if state.done:
        return state, []
    match event:
        case Started():
            return _ask(state)
        case Replied():
            return _replied(state, event, left)
        case CellDone():
            return _cell_done(state, event, left)
        case LimitReached():
            return (replace(state, limit=state.limit or event)), []
        case Unaffordable() if not state.last:
            text = feedback.last(event.message)
            state = replace(
                state,
                history=state.history.add(Entry("user", text, text)),
                limit=state.limit or LimitReached("budget", event.message),
                last=True,
            )
            return state, [AskRoot(tuple(state.history.messages()), True)]
        case Unaffordable():
            return _finish(state, Finish(None, False, "budget", event.message))
        case ProgramEnded():
            return _finish(state, Finish(None, False, "program", event.message))
        case TooLong() if (shorter := state.history.shortened()) is not None:
            return replace(state, history=shorter), [AskRoot(tuple(shorter.messages()), state.last)]
        case TooLong():
            said = f"{event.reason} {feedback.TOO_LONG}"
            return _finish(state, Finish(None, False, state.limit.reason if state.limit else "model", said))
        case AskFailed():
            reason = state.limit.reason if state.limit else "model"
            return _finish(state, Finish(None, False, reason, event.reason))


def _ask(state: State) -> tuple[State, list[Command]]:
    last = state.limit is not None or state.turn + 1 >= state.max_turns
    state = replace(state, turn=state.turn + 1, last=last, cells=(), ran=0, outputs=())
    return state, [AskRoot(tuple(state.history.messages()), last)]


def _replied(state: State, reply: Replied, left: str) -> tuple[State, list[Command]]:
    found = tuple(cells(reply.text, reply.cut))
    state = replace(
        state,
        reply=reply.text.strip(),
        history=state.history.add(Entry("assistant", reply.text, feedback.fold_reply(state.turn, reply.text))),
    )
    if found:
        state = replace(state, cells=found[1:], ran=1, cut=reply.cut)
        return state, [RunCell(state.turn, 1, found[0])]
    if state.last:
        # the last turn's prose is all there is: an answer, marked partial
        prose = reply.text.strip()
        return _finish(state, Finish({"kind": "json", "value": prose} if prose else None, False, _reason(state)))
    return _go_on(state, reply.problem or feedback.no_code(other_fences(reply.text), reply.cut), left)


def _cell_done(state: State, done: CellDone, left: str) -> tuple[State, list[Command]]:
    unread = state.questions_unread and state.requests + done.requests == 0
    ends = done.error is not None or done.problem is not None or done.final is not None
    outcome = feedback.cell(state.ran, done.output, done.error, done.problem, len(state.cells) if ends else 0)
    state = replace(state, outputs=(*state.outputs, outcome), requests=state.requests + done.requests)
    if done.final is not None and unread and not state.last and not state.questioned:
        return _go_on(replace(state, questioned=True), feedback.UNREAD, left)
    if done.final is not None and unread:
        return _finish(state, Finish(done.final, False, state.limit.reason if state.limit else "unread", feedback.NOTHING_READ))
    if done.final is not None:
        return _finish(state, Finish(done.final, state.limit is None, _reason(state) if state.limit else "answered"))
    if state.cells and not ends:
        code, *rest = state.cells
        state = replace(state, cells=tuple(rest), ran=state.ran + 1)
        return state, [RunCell(state.turn, state.ran, code)]
    if state.last:
        return _finish(state, Finish(None, False, _reason(state)))
    return _go_on(state, feedback.CUT if state.cut else "", left)


def _go_on(state: State, remark: str, left: str) -> tuple[State, list[Command]]:
    last = state.limit is not None or state.turn + 1 >= state.max_turns
    now = (state.reply, state.outputs)
    repeats = bool(state.reply) and now == state.before and not last
    text = feedback.turn(
        outputs=state.outputs,
        remark=f"{remark}\n\n{feedback.REPEATED}".strip() if repeats else remark,
        turn=state.turn + 1,
        max_turns=state.max_turns,
        left=left,
        last=last,
        limit=state.limit.message if state.limit else "",
    )
    state = replace(state, before=now, history=state.history.add(Entry("user", text, feedback.fold_output(state.turn, text))))
    return _ask(state)


def _finish(state: State, finish: Finish) -> tuple[State, list[Command]]:
    return replace(state, done=True), [finish]


def _reason(state: State) -> str:
    return state.limit.reason if state.limit else "turns"
