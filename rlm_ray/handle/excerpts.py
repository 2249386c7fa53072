"""The words around what a pattern finds: a function over records, which runs in a sandbox beside the data."""

from __future__ import annotations

import re

from rlm_ray.errors import InputError

TYPE_CHECKING = False  # see rlm_ray/__init__.py
if TYPE_CHECKING:
    from rlm_ray.types.json import Record

#: Excerpts of one record; a pattern that finds more says nothing.
MAX_OF_A_RECORD = 50


class Excerpts:
    r"""Finds a pattern in a record's texts, and gives a row for each place with the words around it.

    Examples
    --------
    >>> Excerpts(r"refus\w+", 10, None)({"_address": "a@1#row=0", "text": "the card was refused by its bank"})
    [{'found': 'refused', 'excerpt': '… card was refused by its ba …', 'column': 'text'}]
    """

    def __init__(self, pattern: str, width: int, column: str | None) -> None:
        self.pattern = pattern
        self.width = width
        self.column = column

    def __call__(self, record: Record) -> list[dict[str, str]]:
        """Return the rows of a record."""
        found: list[dict[str, str]] = []
        compiled = compile_pattern(self.pattern)
        for name, text in record.items():
            if name.startswith("_") or not isinstance(text, str) or (self.column is not None and name != self.column):
                continue
            for match in compiled.finditer(text):
                first, last = max(0, match.start() - self.width), min(len(text), match.end() + self.width)
                shown = f"{'… ' if first else ''}{text[first:last].strip()}{' …' if last < len(text) else ''}"
                found.append({"found": match[0], "excerpt": shown, "column": name})
                if len(found) >= MAX_OF_A_RECORD:
                    return found
        return found


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a pattern as `grep` takes it.

    Raises
    ------
    InputError
        It is none.
    """
    try:
        return re.compile(pattern)
    except re.error as error:
        raise InputError(f"{pattern!r:.100} is no pattern for excerpts: {error}. Give a plain regular expression.") from None
