"""Carries out the loop's commands: asks the root model, runs cells, serves their requests, watches the limits.

One thread does all of it (see `scheduler`). The same driver runs the root of a run, in the caller's process, and each
recursive call, in a task of its own.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Generator
from dataclasses import replace
from typing import Any

from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.errors import BudgetExceeded, InputError, ModelRefused, RlmRayError
from rlm_ray.ledger.calllog import CallLog
from rlm_ray.ledger.read_log import ReadLog
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.models.client import ChatRequest
from rlm_ray.recursion.briefing import Briefing
from rlm_ray.recursion.budget.meter import BudgetMeter
from rlm_ray.recursion.cell_reports import News, ended_cell, ends_run, error_reply, paid, restarted_cell
from rlm_ray.recursion.final import Finals
from rlm_ray.recursion.jobs.progress import Progress
from rlm_ray.recursion.loop import limits, loop, recovery
from rlm_ray.recursion.loop.history import History
from rlm_ray.recursion.loop.player import Player
from rlm_ray.recursion.loop.recovery import Past
from rlm_ray.recursion.ports import Call, CallOutcome, Future, Ports
from rlm_ray.recursion.service import Service
from rlm_ray.sandbox.outside import counts
from rlm_ray.sandbox.outside.events import CellDone, Limits, Request, Restarted
from rlm_ray.sandbox.outside.host import Sandbox
from rlm_ray.types.run import LogEntry

#: Bytes that a turn adds around the output of its cells.
ADDED_BYTES = 2_000


class Driver:
    """One Recursive Language Model at work. `Driver.open` makes it."""

    def __init__(
        self, call: Call, ports: Ports, log: CallLog, service: Service, sandbox: Sandbox, state: loop.State, past: Past | None
    ) -> None:
        self._call = call
        self._ports = ports
        self._log = log
        # replies to requests are records, and snapshots hold what cells read
        self._keeps = call.settings.store_prompts
        self._service = service
        self._lender = service.lender
        self._scheduler = service.scheduler
        self._finals = Finals(service.scheduler, service.scans, service.results, call.schema, call.depth > 0)
        self.progress = Progress(
            call.id, call.depth, 0, call.settings.max_turns, tally=service.batches.tally, shards=service.scans.tally
        )
        self._sandbox = sandbox
        self._state = state
        self._past = past
        self._asking: Future | None = None
        self._outcome: loop.Finish | None = None
        self._serving: set[int] = set()
        self._cell = loop.RunCell(0, 0, "")
        self._cells_done = 0
        self._player = Player(call.program) if call.program else None
        self._trouble: str | None = None  # of the last cell
        self._news = News(service.dispatcher.citing, service.failures, service.sure)
        self._events_before: dict[str, int] = {}
        self._cells_to_rerun: deque[tuple[str, str]] = deque()
        self._commands_after_rerun: list[loop.Command] = []

    @classmethod
    def open(cls, call: Call, corpora: dict[str, Manifest], ports: Ports, run: RunDirectory, meter: BudgetMeter) -> Driver:
        """Start a call's sandbox, or restore it from the call's log, and return the driver that goes on from there.

        Parameters
        ----------
        call : Call
            The question, its data and its limits.
        corpora : dict of str to Manifest
            The corpora of the run, by name.
        ports : Ports
        run : RunDirectory
        meter : BudgetMeter
            Over `call.budget`, with prices.
        """
        settings = call.settings
        with contextlib.ExitStack() as opened:
            log = run.log(call.id)
            opened.callback(log.close)
            read_log = ReadLog(call.run_dir, call.id)
            opened.callback(read_log.close)
            service = Service(call, corpora, ports, meter, log if settings.store_prompts else None, read_log)
            opened.callback(service.end)
            past = recovery.replay(log.events(), settings.history_tokens, settings.bytes_per_token, settings.max_turns)
            briefing = Briefing(call, service)
            snapshot = log.snapshot(past.snapshot) if past is not None and past.snapshot and not past.lost else None
            limits = Limits(settings.cell_seconds, settings.cell_wall_seconds, settings.cell_requests, settings.sandbox_memory)
            sandbox = Sandbox(briefing.setup(), level=settings.isolation, limits=limits, snapshot=snapshot)
            opened.callback(sandbox.close)
            state = past.state if past is not None else _first_state(call, briefing, service.lender.summary())
            driver = cls(call, ports, log, service, sandbox, state, past)
            driver._rerun(snapshot is None)
            opened.pop_all()
        return driver

    @property
    def isolation(self) -> str:
        """The level of the walls that root code runs behind."""
        return self._sandbox.level

    @property
    def events(self) -> dict[str, int]:
        """Security events so far: of earlier sessions, of the REPL, of functions over shards, of recursive calls."""
        counted = counts.add(self._service.events(), self._events_before)
        return counts.add(counted, self._sandbox.events)

    def steps(self) -> Generator[Progress, None, CallOutcome]:
        """Run to the end and return the outcome; yields the progress now and then. Closing it cancels the work under way.

        Raises
        ------
        CredentialsError
            The endpoint refused the key.
        KeyboardInterrupt
            After everything under way was cancelled.
        """
        try:
            self._start()
            yield self.progress
            while self._outcome is None:
                if not self._advance():
                    self._wait()
                yield self.progress
            outcome = self._finished(self._outcome)
            self._service.end()  # nobody reads any more what is still under way
            return replace(outcome, budget=self._lender.budget, measured=self._lender.measures.rows())
        finally:
            if self._asking is not None:
                self._asking.cancel()
            self._sandbox.close()
            try:
                self._service.end()
            finally:
                self._service.read_log.close()
                self._log.close()

    # start

    def _rerun(self, lost_variables: bool) -> None:
        """Take over what the log says of an earlier session; cells run again if their variables were lost."""
        past = self._past
        if past is None:
            return
        self._cells_done = len(past.cells)
        self._trouble = past.trouble
        self._news.restore(past)
        if past.cells and lost_variables:
            self._cells_to_rerun = deque(past.cells)  # the log answers their requests
            self._commands_after_rerun = past.commands
        else:
            self._events_before = past.events

    def _start(self) -> None:
        """Ask for the first turn, or go on where the log ends."""
        self._note({"event": "Session", "call": self._call.id})
        if self._past is None:
            history, unread = self._state.history, self._state.questions_unread
            self._step(loop.Started(), system=history.system, task=history.task, depth=self._call.depth, questions_unread=unread)
        elif self._cells_to_rerun:
            self._run_again()
        else:
            self._carry_out(self._past.commands)

    # the loop

    def _step(self, event: loop.Event, **more: Any) -> None:
        """Write an event down, then let the loop take it."""
        left = self._lender.summary()
        self._note(recovery.entry_of(event, left, **more))
        self._state, commands = loop.step(self._state, event, left)
        self._carry_out(commands)

    def _note(self, entry: LogEntry) -> None:
        if not self._keeps:
            # the log keeps the usage, but no text
            if "usage" in entry:
                entry = {"event": "Paid", "usage": entry["usage"]}
            elif entry["event"] not in ("Asking", "Session"):
                return
        self._log.append({**entry, "at": round(time.time(), 3)})

    def _carry_out(self, commands: list[loop.Command]) -> None:
        for command in commands:
            match command:
                case loop.AskRoot():
                    self._ask(command)
                case loop.RunCell():
                    self._run_cell(command)
                case loop.Finish():
                    self._outcome = command

    def _ask(self, command: loop.AskRoot) -> None:
        settings = self._call.settings
        if self._player is not None:
            self._step(self._player.turn(self._state.turn, self._trouble))
            return
        self._say(turn=self._state.turn, doing="asking the root model")
        request = ChatRequest(
            settings.root_model or "",
            command.messages,
            max_tokens=settings.root_completion_tokens,
            temperature=settings.temperature,
        )
        meter = self._lender.meter
        most = meter.estimate(request.prompt_tokens(), request.max_tokens, request.model)
        if not command.last:
            # the last turn asks with what this turn adds: its reply, and what its cells give
            added = round(settings.root_completion_tokens * settings.bytes_per_token) + settings.output_chars + ADDED_BYTES
            meter.keep_for_last_turn(meter.estimate(request.prompt_tokens() + added, request.max_tokens, request.model))
        # durable before the call goes out: should this process be killed now, the call counts in full
        self._note({"event": "Asking", "most": list(most)})
        self._log.flush()
        self._asking = self._ports.complete(request, meter.for_last_turn() if command.last else meter, settings, root=True)

    def _run_cell(self, command: loop.RunCell) -> None:
        self._cell = command
        first = next((line.strip() for line in command.code.splitlines() if line.strip()), "")
        self._say(turn=command.turn, doing=first)
        self._start_cell(f"{command.turn}.{command.number}", command.code)

    def _start_cell(self, label: str, code: str) -> None:
        self._service.dispatcher.begin_cell(label, self._log.replies(label))
        self._sandbox.start_cell(code, history=self._state.history.full_text())

    def _run_again(self) -> None:
        if self._cells_to_rerun:
            label, code = self._cells_to_rerun.popleft()
            self._say(doing="running a cell again")
            self._start_cell(label, code)
        else:
            commands, self._commands_after_rerun = self._commands_after_rerun, []
            self._carry_out(commands)

    def _advance(self) -> bool:
        """Take whatever has happened; return whether anything had."""
        moved = self._scheduler.poll()
        self._scheduler.check()
        moved |= self._take_reply()
        moved |= self._take_events()
        self._check_limits()
        self._say()
        return moved

    def _wait(self) -> None:
        until = [1.0]
        if (deadline := self._sandbox.deadline()) is not None:
            until.append(max(0.0, deadline - time.monotonic()))
        extra = [self._asking] if self._asking is not None else []
        self._scheduler.wait(extra, [self._sandbox.fileno()], min(until))

    def _take_reply(self) -> bool:
        if self._asking is None or not self._asking.done():
            return False
        asking, self._asking = self._asking, None
        try:
            reply = asking.result()
        except RlmRayError as error:
            if ends_run(error):
                raise
            too_long = isinstance(error, ModelRefused) and error.too_long
            failed = loop.Unaffordable if isinstance(error, BudgetExceeded) else loop.TooLong if too_long else loop.AskFailed
            self._step(failed(str(error)), **paid(error))
        else:
            model, depth = self._call.settings.root_model or "", self._call.depth
            self._lender.measures.add(depth, model, reply.usage, reply.seconds, reply.attempts)
            replied = loop.Replied(reply.text, cut=reply.finish_reason == "length", problem=reply.problem)
            self._step(replied, usage=reply.usage.to_json(), seconds=round(reply.seconds, 3))
        return True

    def _take_events(self) -> bool:
        events = self._sandbox.receive()
        for event in events:
            match event:
                case Request():
                    self._serve(event)
                case CellDone():
                    self._cell_done(event)
                case Restarted():
                    self._restarted(event)
        return bool(events)

    def _serve(self, request: Request) -> None:
        sandbox = self._sandbox
        self._serving.add(request.id)

        def ended(value: Any, error: Exception | None) -> None:
            if request.id not in self._serving:
                return  # the cell that asked is gone
            self._serving.discard(request.id)
            if error is None:
                sandbox.reply(request.id, value)
                return
            if ends_run(error):
                self._scheduler.abort(error)  # without a reply the cell does not end, and no log says that it did
                return
            sandbox.reply(request.id, error=error_reply(error))

        try:
            job = self._service.dispatcher.job(request.verb, request.args, request.blob)
        except InputError as error:
            ended(None, error)
        else:
            self._scheduler.start(job, ended)

    def _cell_done(self, done: CellDone) -> None:
        if self._commands_after_rerun:
            self._run_again()
            return
        checked = self._finals.of_cell(done)  # before the notes, since it waits for the result that the answer is
        notes = self._service.dispatcher.end_cell(done.final, done.error)
        self._ended(ended_cell(done, checked, notes, self._call.settings.output_chars), done.lost)

    def _restarted(self, event: Restarted) -> None:
        self._serving.clear()
        if not event.in_cell:
            return
        if self._commands_after_rerun:
            self._run_again()
            return
        self._ended(restarted_cell(event, self._call.settings.output_chars), [])

    def _ended(self, event: loop.CellDone, lost: list[str]) -> None:
        """Keep the variables, then say that the cell has ended: in this order, so that a kill between runs it again."""
        self._cells_done += 1
        self._trouble = event.error or event.problem
        if self._keeps:
            self._log.save_snapshot(self._cells_done, self._sandbox.snapshot)
        news = self._news.take() | {"events": self.events}
        label = f"{self._cell.turn}.{self._cell.number}"
        self._service.read_log.flush()  # a cell that has ended is not run again
        self._step(event, cell=label, code=self._cell.code, snapshot=self._cells_done, lost=lost, **news)

    def _check_limits(self) -> None:
        self._scheduler.check()
        if self._state.limit is not None or self._outcome is not None:
            return
        limit = limits.reached(self._lender.budget, self.events, self._call.settings)
        if limit is None:
            return
        self._step(limit)
        if limit.reason == "time":
            self._sandbox.interrupt()
        elif limit.reason == "security":
            self._outcome = loop.Finish(None, False, limit.reason, limit.message)

    # end

    def _finished(self, finish: loop.Finish) -> CallOutcome:
        kind, value = self._finals.outcome(finish.final)
        if kind == "corpus" and self._call.depth > 0:
            kind, value = self._finals.plain(value)
        failures = tuple(self._service.failures.failures.values())
        verbs = tuple(self._service.failures.verbs.found.values())
        return CallOutcome(
            kind=kind,
            value=value,
            complete=finish.complete and not failures and not verbs,
            stop_reason=finish.stop_reason,
            budget=self._lender.budget,
            message=finish.message,
            turns=self._state.turn,
            failures=failures,
            failed_verbs=verbs,
            citations=self._service.citations(),
            refused=self._service.refused(),
            sure=self._service.sure_records(),
            events=self.events,
            isolation=self.isolation,
            ended=time.time(),
        )

    def _say(self, turn: int | None = None, doing: str | None = None) -> None:
        if turn is not None:
            self.progress.turn = turn
        if doing is not None:
            self.progress.doing = doing
        self.progress.budget = self._lender.budget


def _first_state(call: Call, briefing: Briefing, left: str) -> loop.State:
    """Return the state of a call before its first turn."""
    settings = call.settings
    system, task = briefing.messages(f"Turn 1 of {settings.max_turns}. {left}")
    history = History(system, task, limit_tokens=settings.history_tokens, bytes_per_token=settings.bytes_per_token)
    return loop.State(history, settings.max_turns, questions_unread=call.text is None)
