"""A condition on a finding, as in `severity >= high`. Pure."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rlm_ray.errors import InputError
from rlm_ray.types.json import JsonObject, Record

_FORM = re.compile(r"^\s*(\w+)\s*(==|!=|>=|<=|>|<)\s*(.+?)\s*$")
_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """A column, an operator and a value; labels are ordered as a schema lists them.

    Examples
    --------
    >>> condition = Condition.of("severity >= high", {"severity": ["low", "high", "critical"]})
    >>> [condition.holds({"severity": name}) for name in ("low", "high", "critical")]
    [False, True, True]
    >>> Condition.of("hosts > 3", {"hosts": "integer"}).holds({"hosts": 4})
    True
    """

    column: str
    operator: str
    value: Any
    labels: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str, finding: JsonObject) -> Condition:
        """Read a condition over the columns of a finding.

        Raises
        ------
        InputError
            It is no condition, or names what a finding does not have.
        """
        match = _FORM.match(text)
        if match is None:
            raise InputError(f"{text!r} is no condition. Write COLUMN OPERATOR VALUE, as in 'severity >= high'.")
        column, sign, written = match[1], match[2], match[3].strip("'\"")
        if column not in finding:
            raise InputError(f"{text!r}: a finding has no column {column!r}; it has {', '.join(finding)}.")
        labels = tuple(map(str, finding[column])) if isinstance(finding[column], list | tuple) else ()
        if labels and written not in labels:
            raise InputError(f"{text!r}: {column} is never {written!r}; it is one of {', '.join(labels)}.")
        if labels or finding[column] == "string":
            return cls(column, sign, written, labels)
        try:
            return cls(column, sign, {"true": True, "false": False}[written] if finding[column] == "boolean" else float(written))
        except (KeyError, ValueError):
            raise InputError(f"{text!r}: {written!r} is no {finding[column]}.") from None

    def holds(self, finding: Record) -> bool:
        """Tell whether a finding fulfils it; a column without a value does not."""
        value = finding.get(self.column)
        if value is None:
            return False
        if self.labels:
            return value in self.labels and _TESTS[self.operator](self.labels.index(str(value)), self.labels.index(self.value))
        return _TESTS[self.operator](value, self.value)
