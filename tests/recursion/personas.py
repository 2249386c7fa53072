"""Replies as root models write them, strong ones and weak ones, each with one habit; played by `test_golden.py`.

The question is about the logs of `conftest.lake`: three services, forty lines each, one line in four an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def repl(*cells: str) -> str:
    return "\n\n".join(f"```repl\n{cell.strip()}\n```" for cell in cells)


@dataclass(frozen=True)
class Persona:
    """A habit, the replies that show it, and what it must lead to.

    Attributes
    ----------
    about : str
    replies : tuple of str
    told : tuple of str
        Words of the engine that must come back, each in some turn.
    value : Any
        The answer; the habit's own where nothing can mend it.
    complete : bool
    text : bool
        The context is a str.
    """

    about: str
    replies: tuple[str, ...]
    told: tuple[str, ...] = ()
    value: Any = 30
    complete: bool = True
    text: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


COUNT = repl("Final = context.grep(r'\\bERROR\\b').count()")
EACH = """
read = llm_each("Does this line tell of an error?", context, schema={"error": ["yes", "no"]})
print(read.failed.count())
Final = read.where([("error", "==", "yes")]).count()
"""

PERSONAS = {
    "strong": Persona(
        "Looks, narrows by what cannot lose a hit, has a model read the rest in one batch, checks, cites.",
        (
            "I look at the data first.\n\n" + repl("print(context.describe())\nprint(context.sample(3, seed=1))"),
            "One line in four seems to be an error. I let a model read each of them.\n\n"
            + repl(
                'read = llm_each("Does this line tell of an error?", context, schema={"error": ["yes", "no"]})',
                'bad = read.where([("error", "==", "yes")])\nprint(read.failed.count(), bad.count(), bad.head(2))',
            ),
            repl('cite(bad[0], "ERROR")\nFinal = bad.count()'),
        ),
        ("Cell 1 printed:\nkind: lines",),
    ),
    "over-calling": Persona(
        "Asks about each line with a call of its own, in a loop, is told of batches, and goes on until all calls are spent.",
        (
            repl("answers = [llm_query('Error? yes or no', r['text']) for r in context.head(24)]\nprint(len(answers))"),
            repl("found = 0\nfor r in context:\n    found += llm_query('Error? yes or no', r['text']) == 'yes'\nFinal = found"),
            COUNT,
        ),
        ("This cell made 24 calls of llm_query", "One llm_each", "BudgetExceeded", "Sub-calls are no longer possible"),
        complete=False,
        settings={"max_calls": 60},
    ),
    "over-calling-mended": Persona(
        "Asks about some lines one by one, is told of batches, and makes one.",
        (
            repl("answers = [llm_query('Error? yes or no', r['text']) for r in context.head(24)]\nprint(len(answers))"),
            repl(EACH),
        ),
        ("This cell made 24 calls of llm_query",),
    ),
    "under-calling": Persona(
        "Guesses by a pattern what has to be read. The engine cannot know it; the answer is the pattern's.",
        (repl("print(context.head(3))"), repl("Final = context.grep('request 1').count()")),
        (),
        33,
    ),
    "prose": Persona(
        "Tells what it would do, and writes no code, twice.",
        ("I would first grep the logs for errors and count them.", "As I said, grep finds them. The count is probably 25.", COUNT),
        ("There was no code in that reply.",),
    ),
    "wrong-fence": Persona(
        "Writes its code into fences with other marks.",
        (
            '```json\n{"tool": "grep", "pattern": "ERROR"}\n```',
            "```sql\nselect count(*) from context\n```",
            "```python\nFinal = context.grep('ERROR').count()\n```",
        ),
        ("The fence marked 'json' is not run.", "The fence marked 'sql' is not run."),
    ),
    "answers-before-looking": Persona(
        "Knows the answer without having looked.",
        (repl("Final = 12"), COUNT),
        ("nothing of the context was read",),
    ),
    "insists": Persona(
        "Answers without having looked, is questioned, and stays with it: it is asked once only, and the answer is never complete.",
        (repl("Final = 12"), repl("Final = 12")),
        ("nothing of the context was read",),
        12,
        complete=False,
    ),
    "prints-everything": Persona(
        "Prints the whole context, to read it itself.",
        (
            repl("for record in context:\n    print(record)"),
            repl("print(context[:].text(max_chars=1_000_000))"),
            COUNT,
        ),
        ("characters cut here",),
        settings={"output_chars": 1_000},
    ),
    "ignores-errors": Persona(
        "Runs the same wrong line again and again, and goes on as if it had worked.",
        (
            repl("lines = context.split('\\n')\nprint(len(lines))"),
            repl("lines = context.split('\\n')\nprint(len(lines))", "Final = len([x for x in lines if 'ERROR' in x])"),
            repl("Final = len([x for x in lines if 'ERROR' in x])"),
            COUNT,
        ),
        ("It raised:", "The 1 cell after it did not run.", "NameError: name 'lines' is not defined"),
    ),
    "ends-early": Persona(
        "Declares itself done without an answer: None, a class, a promise.",
        (
            repl("print(context.count())\nFinal = None"),
            repl("Final = context.head"),
            "The task is complete.",
            COUNT,
        ),
        ("Final was not taken: it is None.", "Final was not taken: Final is a method", "There was no code in that reply."),
    ),
    "never-answers": Persona(
        "Looks until the turns are over, and then tells what it thinks.",
        (repl("print(context.count())"), repl("print(context.head(1))"), "There are about 30 errors."),
        ("This is your last turn: set Final now",),
        "There are about 30 errors.",
        False,
        settings={"max_turns": 3},
    ),
    "takes-it-for-text": Persona(
        "Treats the handle as a str.",
        (repl("import re\nprint(len(re.findall('ERROR', context)))"), repl("print(len(context.splitlines()))"), COUNT),
        ("use context.grep(pattern)",),
    ),
    "papers-engine": Persona(
        "Was taught the paper's engine: a str, `llm_query_batched`, and `answer[...]`.",
        (
            repl("print(context[:60])\nlines = context.splitlines()"),
            repl("said = llm_query_batched([f'Error? yes or no\\n\\n{line}' for line in lines[:4]])\nprint(said)"),
            repl("answer['content'] = sum('ERROR' in line for line in lines)\nanswer['ready'] = True"),
        ),
        (),
        text=True,
    ),
}
