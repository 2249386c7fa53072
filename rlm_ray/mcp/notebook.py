"""What an agent works in: cells over corpora, one after another, behind the same walls and within one budget.

An agent's cells are a program whose root model the agent is: each cell runs as a run of its own, after the cells before it. What
those paid is in their run directories and is not asked again; their scans are made again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from threading import Lock
from typing import TypedDict

from rlm_ray import api, history
from rlm_ray.errors import BudgetExceeded, InputError
from rlm_ray.handle.corpus import Corpus
from rlm_ray.recursion.answer import Answer
from rlm_ray.settings import Settings
from rlm_ray.types.run import Coverage, SourceRecord
from rlm_ray.types.usage import Usage

#: Characters of a cell's output, and cells of one notebook.
MAX_OUTPUT, MAX_CELLS = 20_000, 100
#: Ends a program whose cells set no answer.
_END = "Final = None if 'Final' not in dir() else Final"


class CellReply(TypedDict):
    """What a cell gave: what it printed, the error that ended it, and what it read and cost."""

    output: str
    error: str | None
    run: str
    coverage: Coverage | None
    calls: int
    usd: float | None
    calls_left: int | None
    usd_left: float | None


class AnswerReply(TypedDict):
    """An answer: its value as JSON, what it rests on and what it cost."""

    value: str
    complete: bool
    stop_reason: str
    message: str
    citations: list[str]
    failures: list[str]
    run: str
    calls: int
    usd: float | None
    calls_left: int | None
    usd_left: float | None


class Notebook:
    """The work of one agent.

    Parameters
    ----------
    corpora : mapping of str to Corpus
    settings : Settings
        `max_calls` and `max_usd` hold for all that the agent does together.
    """

    def __init__(self, corpora: Mapping[str, Corpus], settings: Settings) -> None:
        self.corpora = dict(corpora)
        self._settings = settings
        self._cells: list[str] = []
        self._runs: list[str] = []
        self._spent = Usage()
        self._lock = Lock()  # one cell at a time, or two would both spend what is left

    def describe(self, corpus: str) -> str:
        """Return what is known of a corpus without reading it, and its first records."""
        if corpus not in self.corpora:
            raise InputError(f"There is no corpus {corpus!r:.80}. There are: {', '.join(self.corpora)}.")
        handle = self.corpora[corpus]
        rows = "\n".join(json.dumps(row, ensure_ascii=False, default=str)[:2_000] for row in handle.head(3))
        return f"{corpus}\n{handle.describe()!r}\n\nthe first records:\n{rows}"[:MAX_OUTPUT]

    def execute(self, code: str) -> CellReply:
        """Run a cell after those before it. A cell that failed is not part of what later cells see."""
        if not code.strip():
            raise InputError("The cell is empty. Give Python, such as print(context.head(3)).")
        with self._lock:
            if len(self._cells) >= MAX_CELLS:
                raise InputError(f"The notebook has {MAX_CELLS} cells, the most it can have. Call `restart`, and go on.")
            program = [*self._cells, code, _END]
            answer = self._ask("An agent's cells", program)
            run = history.load(answer)
            ran = run.turns[len(self._cells)]["cells"] if len(run.turns) > len(self._cells) else []
            error = next((cell["error"] or cell["problem"] for cell in ran if cell["error"]), None)
            if not ran:
                error = answer.message or f"The cell did not run: {answer.stop_reason}."
            if error is None:
                self._cells.append(code)
            output = "".join(cell["output"] or "" for cell in ran)
            cut = f"{output[:MAX_OUTPUT]} … [{len(output) - MAX_OUTPUT:,} more characters]" if len(output) > MAX_OUTPUT else output
            calls_left, usd_left = self._left()
            return {
                "output": cut, "error": error, "run": answer.run, "coverage": answer.coverage or None, "calls": answer.usage.calls,
                "usd": answer.usage.usd, "calls_left": calls_left, "usd_left": usd_left,
            }  # fmt: skip

    def restart(self) -> str:
        """Forget the cells; what they spent stays spent."""
        with self._lock:
            self._cells.clear()
        return "The notebook is empty. What was spent stays spent."

    def ask(self, question: str) -> AnswerReply:
        """Have the engine's own root model answer a question over all corpora."""
        with self._lock:
            answer = self._ask(question, ())
            calls_left, usd_left = self._left()
        return {
            "value": answer.text[:MAX_OUTPUT], "complete": answer.complete, "stop_reason": answer.stop_reason,
            "message": answer.message, "citations": [item.address for item in answer.citations[:100]],
            "failures": [item["reason"] for item in answer.failures[:100]], "run": answer.run, "calls": answer.usage.calls,
            "usd": answer.usage.usd, "calls_left": calls_left, "usd_left": usd_left,
        }  # fmt: skip

    def cite(self, run: str, number: int) -> SourceRecord:
        """Return the N-th citation of a run of this agent, with the records around it."""
        citations = self._own(run).citations
        if not 1 <= number <= len(citations):
            raise InputError(f"The run has {len(citations):,} citations; there is none with the number {number}.")
        return citations[number - 1].source()

    def show(self, run: str) -> str:
        """Return the turns of a run of this agent: each cell and what it printed."""
        self._own(run)
        parts = [
            f"turn {turn['turn']}\n{cell['code']}\n{cell['output']}{cell['error'] or ''}"
            for turn in history.load(run).turns
            for cell in turn["cells"]
        ]
        return "\n".join(parts)[:MAX_OUTPUT]

    def _own(self, run: str) -> Answer:
        """The answer of a run that this agent made: it has no business with others."""
        answer = history.load(run).answer if run in self._runs else None
        if answer is None:
            raise InputError(f"{run!r:.200} is no run of this agent. Give the `run` of a reply.")
        return answer

    def _ask(self, question: str, program: tuple[str, ...] | list[str]) -> Answer:
        calls_left, usd_left = self._left()
        if (calls_left is not None and calls_left <= 0) or (usd_left is not None and usd_left <= 0):
            raise BudgetExceeded("The budget of this server is spent. Start it with a larger --max-calls or --max-usd.")
        settings = self._settings.with_(max_calls=calls_left, max_usd=usd_left, run_id=None)
        answer = api.ask(self.corpora, question, settings, program=program, reuse=self._runs[-1:], observe=lambda progress: None)
        used = answer.usage
        self._spent += Usage(used.calls, used.prompt_tokens, used.completion_tokens, used.cached_tokens, used.usd)
        self._runs.append(answer.run)
        return answer

    def _left(self) -> tuple[int | None, float | None]:
        """Calls and dollars that are left. What cannot be priced counts as dollars that are spent."""
        calls, usd = self._settings.max_calls, self._settings.max_usd
        spent = self._spent
        left = None if usd is None else usd - spent.usd if spent.usd is not None else 0.0
        return None if calls is None else calls - spent.calls, left
