"""The messages to a root model after a turn: short, exact, and always with what to do next."""

from __future__ import annotations

from collections.abc import Sequence

UNREAD = (
    "You set Final before any verb or sub-call was used, so nothing of the context was read. If the question can really be "
    "answered without reading it, set Final again as it was, and it is marked as unread; otherwise look first."
)

NOTHING_READ = "The answer was set before anything of the data was read."

TOO_LONG = "Nothing is left to fold: set history_tokens below the model's context window, or name a model with a larger one."

CUT = (
    "The reply was cut at the completion limit, and a cell that did not end was not run. Write shorter cells; build long answers "
    "in variables."
)

SINGLE_CALLS = (
    "This cell made {count} calls of llm_query, each of which waits for the one before. One llm_each, llm_map or llm_query_batched "
    "asks the same at once."
)

REPEATED = (
    "That reply and what came of it are the same as in the turn before, and would be again. Set Final now, from what the variables "
    "hold, or write other code."
)

LAST = "This is your last turn: set Final now, from what the variables hold."
NO_CALLS = " Sub-calls are no longer possible in it."


def cell(number: int, output: str, error: str | None, problem: str | None, skipped: int) -> str:
    """Return what a cell gave, as the root sees it."""
    parts = [f"Cell {number} printed:\n{output.rstrip()}" if output.strip() else f"Cell {number} printed nothing."]
    if error:
        parts.append(f"It raised:\n{error.rstrip()}\nVariables assigned before that line are kept.")
    if problem:
        parts.append(f"Final was not taken: {problem}")
    if skipped:
        parts.append(f"The {skipped} cell{'s' if skipped > 1 else ''} after it did not run.")
    return "\n".join(parts)


def no_code(marks: Sequence[str], cut: bool) -> str:
    """Return what to say to a reply without a cell."""
    if cut:
        return CUT
    if marks:
        which = f"The fence marked {marks[0]!r}" if marks[0] else "A fence without a mark"
        return f"{which} is not run. Put Python into a fence marked repl."
    return (
        "There was no code in that reply. Put Python into a fence marked repl: look with print(context), "
        "or, when the answer is ready in a variable, write Final = variable."
    )


def turn(*, outputs: Sequence[str], remark: str, turn: int, max_turns: int, left: str, last: bool, limit: str) -> str:
    """Return the message between two turns."""
    parts = [*outputs]
    if remark:
        parts.append(remark)
    if limit:
        parts.append(limit)
    head = f"Turn {turn} of {max_turns}."
    parts.append(f"{head} {left}".strip())
    if last:
        parts.append(LAST + (NO_CALLS if limit else ""))
    return "\n\n".join(parts)


def last(limit: str) -> str:
    """Return the message for a last turn of which the loop learns only when the budget refuses an ordinary one."""
    return f"The budget is spent: {limit}\n\n{LAST}{NO_CALLS}"


def fold_reply(turn: int, text: str) -> str:
    """Return the line that stands for an old reply."""
    first = next((line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("```")), "")
    return f"[turn {turn}, folded: {len(text):,} characters, beginning {first[:120]!r}]"


def fold_output(turn: int, text: str) -> str:
    """Return the line that stands for an old output."""
    first = next((line.strip() for line in text.splitlines()[1:] if line.strip()), "")
    return f"[output of turn {turn}, folded: {len(text):,} characters, beginning {first[:120]!r}; print(history) shows all]"
