"""Replays a run: every cell again, in a fresh sandbox, its requests answered from journal and ledger. Nothing is asked or written.

The loop is fed the log's own events; what it commands, and what each cell gives, is compared with what the log says.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.errors import InputError
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.recursion.briefing import Briefing
from rlm_ray.recursion.budget.amounts import Limits as BudgetLimits
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.budget.meter import BudgetMeter
from rlm_ray.recursion.cell_reports import ended_cell, error_reply, restarted_cell
from rlm_ray.recursion.final import Finals
from rlm_ray.recursion.loop import loop, recovery
from rlm_ray.recursion.loop.history import History
from rlm_ray.recursion.ports import Call, Ports
from rlm_ray.recursion.service import Service
from rlm_ray.sandbox.outside.events import CellDone, Limits, Request, Restarted
from rlm_ray.sandbox.outside.host import Sandbox
from rlm_ray.types.json import JsonObject
from rlm_ray.types.run import LogEntry

#: The parts of a cell's outcome, in the order in which they are compared.
_PARTS = ("output", "error", "final", "problem", "requests")


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a replay first differs from its log.

    Attributes
    ----------
    call, cell : str
        The call ("0" is the root), and "TURN.NUMBER" of the cell.
    part : str
        "code", "output", "error", "final", "problem" or "requests".
    logged, replayed : Any
    """

    call: str
    cell: str
    part: str
    logged: Any
    replayed: Any

    def to_json(self) -> JsonObject:
        """As a dict of JSON values."""
        return asdict(self)


class Verifier:
    """Replays one call.

    Parameters
    ----------
    call : Call
    corpora : dict of str to Manifest
    ports : Ports
    run : RunDirectory
    """

    def __init__(self, call: Call, corpora: dict[str, Manifest], ports: Ports, run: RunDirectory) -> None:
        # with nothing to spend, whatever the ledger does not answer is a difference, not a bill
        budget = Budget(BudgetLimits(calls=0, tokens=0), max_depth=call.settings.max_depth, depth=call.depth)
        self._call = replace(call, budget=budget, replay=True)
        self._log = run.log(call.id)
        self._service = Service(self._call, corpora, ports, BudgetMeter(budget))
        self._finals = Finals(self._service.scheduler, self._service.scans, self._service.results, call.schema, call.depth > 0)
        self.cells = 0

    @property
    def below(self) -> list[Call]:
        """The recursive calls that the replay reached."""
        return self._service.recursive_calls.below

    def run(self) -> Difference | None:
        """Replay to the end of the log, and return the first difference."""
        settings = self._call.settings
        entries = self._log.events()
        started = next((entry for entry in entries if entry["event"] == "Started"), None)
        if started is None:
            return None
        limits = Limits(settings.cell_seconds, settings.cell_wall_seconds, settings.cell_requests, settings.sandbox_memory)
        sandbox = Sandbox(Briefing(self._call, self._service).setup(), level=settings.isolation, limits=limits)
        try:
            return self._replay(entries, started, sandbox)
        finally:
            self._service.scheduler.cancel()
            sandbox.close()

    def _replay(self, entries: list[LogEntry], started: LogEntry, sandbox: Sandbox) -> Difference | None:
        settings = self._call.settings
        history = History(
            started["system"], started["task"], limit_tokens=settings.history_tokens, bytes_per_token=settings.bytes_per_token
        )
        state = loop.State(history, settings.max_turns, questions_unread=started["questions_unread"])
        commands: list[loop.Command] = []
        for entry in entries:
            event = recovery.event_of(entry)
            if event is None:
                continue
            if isinstance(event, loop.CellDone):
                commanded = next((command.code for command in commands if isinstance(command, loop.RunCell)), None)
                if commanded != entry["code"]:
                    return Difference(self._call.id, entry["cell"], "code", entry["code"], commanded)
                replayed_cell = self._cell(sandbox, entry["cell"], entry["code"], state.history.full_text())
                for part in _PARTS:
                    logged, replayed = getattr(event, part), json.loads(json.dumps(getattr(replayed_cell, part), default=str))
                    if logged != replayed and json.dumps(logged, default=str) != json.dumps(replayed):  # NaN differs from itself
                        return Difference(self._call.id, entry["cell"], part, logged, replayed)
                self.cells += 1
            state, given = loop.step(state, event, entry["left"])
            commands = given or commands
        return None

    def _cell(self, sandbox: Sandbox, label: str, code: str, history: str) -> loop.CellDone:
        self._service.dispatcher.begin_cell(label, self._log.replies(label))
        sandbox.start_cell(code, history=history)
        while True:
            self._service.scheduler.poll()
            for event in sandbox.receive():
                match event:
                    case Request():
                        self._serve(sandbox, event)
                    case CellDone():
                        return self._ended(event)
                    case Restarted() if event.in_cell:
                        return restarted_cell(event, self._call.settings.output_chars)
            deadline = sandbox.deadline()
            wait = 1.0 if deadline is None else min(1.0, max(0.0, deadline - time.monotonic()))
            self._service.scheduler.wait([], [sandbox.fileno()], wait)

    def _ended(self, done: CellDone) -> loop.CellDone:
        checked = self._finals.of_cell(done)  # before the notes, since it waits for the result that the answer is
        notes = self._service.dispatcher.end_cell(done.final, done.error)
        return ended_cell(done, checked, notes, self._call.settings.output_chars)

    def _serve(self, sandbox: Sandbox, request: Request) -> None:
        def ended(value: Any, error: Exception | None) -> None:
            if error is None:
                sandbox.reply(request.id, value)
            else:
                sandbox.reply(request.id, error=error_reply(error))

        try:
            job = self._service.dispatcher.job(request.verb, request.args, request.blob)
        except InputError as error:
            ended(None, error)
        else:
            self._service.scheduler.start(job, ended)


def verify(call: Call, corpora: dict[str, Manifest], ports: Ports, run: RunDirectory) -> tuple[int, Difference | None]:
    """Replay a call, then each recursive call that it reached, and so on.

    Returns
    -------
    (int, Difference or None)
        Cells that were the same, and the first difference.

    Raises
    ------
    StorageError
        A part of the run directory or of the corpus cannot be read.
    """
    waiting, cells = [call], 0
    while waiting:
        verifier = Verifier(waiting.pop(), corpora, ports, run)
        difference = verifier.run()
        cells += verifier.cells
        if difference is not None:
            return cells, difference
        waiting += verifier.below
    return cells, None
