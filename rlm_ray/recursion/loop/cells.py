"""Finds the cells in a root model's reply.

Cells stand in fences marked `repl` or `python`. A string in the code may hold fences of its own, so a block is
extended to a later fence until Python's parser accepts it. `FINAL(…)` and `FINAL_VAR(…)` on lines of their own outside
the fences, as the paper's engine has them, are a last cell.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

_OPEN = re.compile(r"^[ \t]*(?P<fence>`{3,}|~{3,})[ \t]*(?P<mark>[A-Za-z0-9_+-]*)[^\n`]*$", re.MULTILINE)
_MARKS = {"repl", "python", "py", "python3"}
_FINAL_VAR = re.compile(r"^[ \t]*FINAL_VAR\(\s*[\"']?(\w+)[\"']?\s*\)[ \t]*$", re.MULTILINE)
_FINAL = re.compile(r"^[ \t]*FINAL\(", re.MULTILINE)
_LINE_END = re.compile(r"\)[ \t]*$", re.MULTILINE)

#: Fences that a block is extended over at most: each is one more look by the parser.
_MOST_FENCES = 40


@dataclass(frozen=True, slots=True)
class _Block:
    mark: str
    code: str
    start: int
    end: int
    closed: bool


def cells(reply: str, cut: bool = False) -> list[str]:
    """Return the cells of a reply, in order; empty where it has none.

    Parameters
    ----------
    reply : str
    cut : bool
        The completion limit ended the reply: a cell whose fence did not end is half of one, and left out.

    Examples
    --------
    >>> cells("Look first.\\n```repl\\nprint(1)\\n```\\nthen\\n```python\\nprint(2)\\n```")
    ['print(1)', 'print(2)']
    >>> cells("FINAL(42)")
    ['FINAL(42)']
    """
    reply = _lines(reply)
    found: list[str] = []
    outside: list[str] = []
    position = 0
    for block in _blocks(reply):
        outside.append(reply[position : block.start])
        position = block.end
        if block.mark in _MARKS and block.code.strip() and (block.closed or not cut):
            found.append(_flush_left(block.code).strip("\n"))
    outside.append(reply[position:])
    return [*found, *_bare_final("\n".join(outside))]


def other_fences(reply: str) -> list[str]:
    """Return the marks of fences that are not run, to tell the root which to use; "" is one without a mark."""
    return [block.mark for block in _blocks(_lines(reply)) if block.mark not in _MARKS]


def _lines(reply: str) -> str:
    return reply.replace("\r\n", "\n")


def _blocks(reply: str) -> Iterator[_Block]:
    position = 0
    while (opening := _OPEN.search(reply, position)) is not None:
        start, mark = opening.end() + 1, opening["mark"].lower()
        end, after = _end(reply, start, opening["fence"], mark in _MARKS)
        position = len(reply) if after is None else after
        yield _Block(mark, reply[start:end], opening.start(), position, after is not None)


def _end(reply: str, start: int, fence: str, code: bool) -> tuple[int, int | None]:
    """Return where a block's text ends and where its fence does; None where it does not end."""
    closing = re.compile(rf"^[ \t]*{re.escape(fence[0])}{{{len(fence)},}}[ \t]*$", re.MULTILINE)
    first: tuple[int, int] | None = None
    for number, match in enumerate(closing.finditer(reply, start)):
        if first is None:
            first = match.span()
        # a block that does not parse may have the fence inside a string; one that never does ends at its first fence
        if not code or _parses(reply[start : match.start()]):
            return match.span()
        if number >= _MOST_FENCES:
            break
    return first if first is not None else (len(reply), None)


def _flush_left(code: str) -> str:
    """Return a block that is indented as a whole, as in a list, without that indent."""
    return textwrap.dedent(code) if code.lstrip("\n")[:1] in (" ", "\t") else code


def _parses(code: str) -> bool:
    try:
        ast.parse(_flush_left(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _bare_final(prose: str) -> list[str]:
    if match := _FINAL_VAR.search(prose):
        return [f'FINAL_VAR("{match[1]}")']
    if match := _FINAL.search(prose):
        ends = [end.start() for end in _LINE_END.finditer(prose, match.end())]
        if not ends:
            return []
        inside = [prose[match.end() : end] for end in ends]
        whole = next((text for text in inside if text.count("(") == text.count(")")), inside[-1])
        return [f"FINAL({_argument(whole.strip())})"]
    return []


def _argument(text: str) -> str:
    """Return what stands in a bare `FINAL(…)` as Python: a literal, a variable if there is one, an expression, else text."""
    try:
        ast.literal_eval(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        if text.isidentifier():
            return f"globals().get({text!r}, {text!r})"
        return text if _computes(text) else repr(text)
    return text


def _computes(text: str) -> bool:
    """Whether a text is Python that computes something, not words that happen to parse."""
    try:
        parsed = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, ast.Call | ast.Subscript | ast.JoinedStr | ast.Dict) for node in ast.walk(parsed))
