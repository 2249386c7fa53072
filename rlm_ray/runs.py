"""What is known of runs: list them, show one, remove one. Reads run directories; calls no model."""

from __future__ import annotations

from collections.abc import Iterator

from rlm_ray.ledger import rundir
from rlm_ray.ledger.calllog import stopped, turns
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.recursion.answer import partial_because, shown_characters
from rlm_ray.types.run import RunRecord, RunRow


def show(run: str, base: str | None = None) -> RunRecord:
    """Return what a run directory says: `run`, `about`, `answer` (None where it has none yet), and the root's `turns`;
    `stopped`, where it was when it was ended (None where it has an answer); `usage` of all its sessions; and `failed`, how
    many sub-calls by the reason.

    Raises
    ------
    RunNotFound
        There is no such run.
    """
    directory = RunDirectory.find(run, base)
    answer, entries = directory.answer(), directory.log("0").events()
    return {
        "run": directory.uri,
        "about": directory.about(),
        "answer": answer,
        "turns": turns(entries),
        "stopped": None if answer is not None else stopped(entries),
        "usage": answer["usage"] if answer is not None else directory.spent().usage.to_json(),
        "failed": directory.failed(),
    }


def runs(base: str | None = None) -> Iterator[RunRow]:
    """Iterate over the runs under a folder, newest first: `run`, `made`, `state`, `calls`, `dollars`, `shown`, `question`.

    `shown` are the characters that sub-calls were shown; None where the run has no answer yet.
    """
    known = [(directory, directory.about()) for directory in rundir.runs(base)]
    known.sort(key=lambda item: (item[1].get("made") or "", item[0].id), reverse=True)
    for directory, about in known:
        answer = directory.answer()
        usage = answer["usage"] if answer else directory.spent().usage.to_json()
        if answer is None:
            state = f"unfinished ({stopped(directory.log('0').events())})"
        else:
            state = "complete" if answer["complete"] else f"partial ({partial_because(answer['stop_reason'], answer['failures'])})"
        yield {
            "run": directory.id,
            "made": about.get("made"),
            "state": state,
            "calls": usage["calls"],
            "dollars": usage["usd"],
            "shown": None if answer is None else shown_characters(answer["coverage"]),
            "question": about.get("question"),
        }


def forget(run: str, base: str | None = None) -> str:
    """Remove a run's directory, with all prompts, records and answers in it; returns where it was.

    Raises
    ------
    RunNotFound
        There is no such run.
    """
    directory = RunDirectory.find(run, base)
    directory.forget()
    return directory.uri
