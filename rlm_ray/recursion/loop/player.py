"""Plays a program's cells in place of a root model: the same sandbox and the same loop, but no model is asked. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rlm_ray.recursion.loop import loop
from rlm_ray.text import counted

_FENCES = re.compile(r"`{3,}")


class Player:
    """Plays one cell a turn. An error that a root model would mend ends a program, since a check must be the same every time.

    Parameters
    ----------
    cells : sequence of str
        Python, in order; the last sets `Final`.

    Examples
    --------
    >>> player = Player(["n = 1", "Final = n"])
    >>> player.turn(1, None)
    Replied(text='```repl\\nn = 1\\n```', cut=False, problem='')
    >>> player.turn(2, "NameError: name 'm' is not defined")
    ProgramEnded(message="Cell 1 of the program failed: NameError: name 'm' is not defined")
    """

    def __init__(self, cells: Sequence[str]) -> None:
        self._cells = tuple(cells)

    def turn(self, number: int, trouble: str | None) -> loop.Event:
        """Return the event of a turn: the program's next cell as a reply, or the program's end."""
        if trouble is not None:
            return loop.ProgramEnded(f"Cell {number - 1} of the program failed: {trouble}")
        if number > len(self._cells):
            return loop.ProgramEnded(
                f"The program's {counted(len(self._cells), 'cell')} ended without an answer: none of them set Final."
            )
        code = self._cells[number - 1]
        fence = "`" * max(3, 1 + max(map(len, _FENCES.findall(code)), default=0))
        return loop.Replied(f"{fence}repl\n{code}\n{fence}")
