"""Numbers of things, as people write them."""

from __future__ import annotations


def counted(number: float, one: str, many: str | None = None) -> str:
    """Return a number with the name of what it counts, in the singular where it is one.

    Parameters
    ----------
    number : float
        Shown with thousands marked.
    one : str
    many : str, optional
        `one` with an s where not given.

    Examples
    --------
    >>> counted(1, "case"), counted(0, "case"), counted(1_200.0, "sub-call"), counted(0.5, "second")
    ('1 case', '0 cases', '1,200 sub-calls', '0.5 seconds')
    >>> counted(2, "citation was", "citations were")
    '2 citations were'
    """
    shown = f"{number:,.0f}" if number == int(number) else f"{number:,g}"
    return f"{shown} {one if shown == '1' else many or one + 's'}"
