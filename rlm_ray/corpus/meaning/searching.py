"""Values as a search sees them: the text that a record shows, of any type; and which types a pattern could be found in."""

from __future__ import annotations

from functools import lru_cache

import polars
import pyarrow

from rlm_ray.corpus.meaning.readable import readable
from rlm_ray.corpus.meaning.types import TEXTS, arrow_type, is_text

_WHOLE = "-0123456789"
#: The characters that values of a type consist of, as they are shown; in small letters.
_LETTERS = (
    (pyarrow.types.is_integer, _WHOLE),
    (pyarrow.types.is_decimal, _WHOLE + "."),
    (pyarrow.types.is_floating, _WHOLE + ".+einfa"),
    (pyarrow.types.is_duration, _WHOLE + ".+e"),
    (pyarrow.types.is_temporal, _WHOLE + ".+:tz"),
)


def shown_text(column: polars.Expr, kind: str) -> polars.Expr:
    """Return a column as the texts that records show, as an expression.

    Examples
    --------
    >>> frame = polars.DataFrame({"n": [7], "x": [1e20], "raw": [b"\\xff"]})
    >>> frame.select(shown_text(polars.col("x"), "double"), shown_text(polars.col("raw"), "binary")).row(0)
    ('1e+20', 'base64:/w==')
    """
    if is_text(kind) or kind in TEXTS:
        return column
    type_ = arrow_type(kind)
    if type_ is None or pyarrow.types.is_integer(type_) or pyarrow.types.is_boolean(type_):
        return column.cast(polars.String)
    return column.map_batches(_texts, return_dtype=polars.String, is_elementwise=True)


def _texts(column: polars.Series) -> polars.Series:
    values = readable(column.to_arrow(compat_level=polars.CompatLevel.oldest()))
    texts = [value if value is None or isinstance(value, str) else repr(value) for value in values]
    return polars.Series(column.name, texts, dtype=polars.String)


@lru_cache(maxsize=1000)
def may_be_found(pattern: str, kind: str) -> bool:
    """Whether a regular expression could find something in values of a type: False spares reading them.

    Examples
    --------
    >>> may_be_found("ERROR", "int64"), may_be_found(r"\\b500\\b", "int64"), may_be_found("(?i)(error|50[03])", "int64")
    (False, True, True)
    """
    type_ = arrow_type(kind)
    if is_text(kind) or type_ is None or pyarrow.types.is_binary(type_):
        return True
    if pyarrow.types.is_boolean(type_):
        return bool(polars.Series(["true", "false"]).str.contains(pattern).any())
    letters = next((letters for test, letters in _LETTERS if test(type_)), None)
    return letters is None or _Pattern(pattern, letters).fits()


class _Pattern:
    """Whether all letters that a pattern cannot do without are among some; where in doubt, they are."""

    def __init__(self, pattern: str, letters: str) -> None:
        self._pattern = pattern
        self._letters = letters
        self._at = 0
        self._in_doubt = False

    def fits(self) -> bool:
        """Return it for the whole pattern."""
        return self._branches() or self._in_doubt or self._at < len(self._pattern)

    def _next(self, count: int = 1) -> str:
        found = self._pattern[self._at : self._at + count]
        self._at += count
        return found

    def _sees(self, letters: str) -> bool:
        return self._at < len(self._pattern) and self._pattern[self._at] in letters

    def _branches(self) -> bool:
        fits = self._sequence()
        while self._sees("|"):
            self._next()
            fits = self._sequence() or fits
        return fits

    def _sequence(self) -> bool:
        fits = True
        while self._at < len(self._pattern) and not self._sees("|)"):
            one = self._atom()
            fits = (one or self._is_optional()) and fits
            self._is_optional()
        return fits

    def _atom(self) -> bool:
        letter = self._next()
        if letter == "(":
            return self._group()
        if letter == "[":
            self._skip_class()
            return True
        if letter == "\\":
            escaped = self._next()
            if escaped in "pPxuU" and self._sees("{"):
                self._skip_to("}")
            elif escaped in "xuU":
                self._next({"x": 2, "u": 4, "U": 8}[escaped])
            return escaped.isalnum() or escaped in self._letters
        return letter in ".^$" or letter.lower() in self._letters

    def _group(self) -> bool:
        if self._sees("?"):
            flags = self._next()
            while self._at < len(self._pattern) and not self._sees(":)>"):
                flags += self._next()
            named = self._next()
            self._in_doubt |= "x" in flags and named != ">"
            if named == ")":
                return True
        fits = self._branches()
        self._next()  # its end
        return fits

    def _is_optional(self) -> bool:
        """Pass what says how often an atom comes; whether it may be missing."""
        optional = False
        while self._sees("?*+{"):
            letter = self._next()
            optional |= letter in "?*"
            if letter == "{":
                optional |= self._sees("0,")
                self._skip_to("}")
        return optional

    def _skip_class(self) -> None:
        depth, first = 1, True
        while depth and self._at < len(self._pattern):
            letter = self._next()
            if letter == "\\":
                self._next()
            elif letter == "^" and first:
                continue
            elif letter == "[":
                depth += 1
            elif letter == "]" and not first:
                depth -= 1
            first = letter == "["

    def _skip_to(self, end: str) -> None:
        while self._at < len(self._pattern) and self._next() != end:
            pass
