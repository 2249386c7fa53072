"""Values that a hostile process may put in place of any argument of any request."""

from __future__ import annotations

import math
from typing import Any

from rlm_ray.handle.plan import Plan, Source

PLAN = Plan((Source("logs"),)).to_json()

_SCALARS: list[Any] = [None, True, False, -1, 0, 1.5, math.nan, math.inf, 1 << 61, 1 << 62, 1 << 70, -(1 << 70)]
_TEXTS = ["", "x", "\x00", "\ud800", "../../etc/passwd", "/etc/passwd", "s3://other/x", "file:///etc/passwd", "(", "{{ 7 * 7 }}"]
_LISTS: list[Any] = [[], [None], [[]], ["x"], [-1], [1, 2, 3], [0, 0, 0], [True, 0, 0], [0, -1, 0], ["a", "b", "c"], [{}]]
_PARTS: list[Any] = [
    [{"text": 5}],
    [{"base": None}],
    {"text": "x"},
    {"base": PLAN},
    {"base": PLAN, "step": "x"},
    {"__class__": "x"},
]
_ORIGINS: list[dict[str, Any]] = [
    {"node": "source", "corpus": "other"},
    {"node": "source", "corpus": "../logs"},
    {"node": "source", "corpus": 5},
    {"node": "source"},
    {"node": []},
    {"node": "os.system"},
    *({"node": "result", "id": name} for name in ("0-none", "../../x", "a/b", "", "\x00", 5, None)),
]
_STEPS: list[dict[str, Any]] = [
    *({"node": "keep", "selection": name} for name in ("../x", "none", "", 5)),
    *({"node": "select", "columns": columns} for columns in ([], "text", ["no"], 5, [5])),
    {"node": "where", "conditions": 5},
    *(
        {"node": "where", "conditions": [condition]}
        for condition in (
            ["text", "like", "x"],
            ["no", "==", "x"],
            ["text", "==", {"a": 1}],
            ["text", "in", "abc"],
            ["text", "<", 5],
            ["text", "=="],
            ["text", [], "x"],
        )
    ),
    *({"node": "grep", "pattern": pattern} for pattern in ("(", "(?=x)", r"(a)\1", 5, "\ud800", "(((a{9}){9}){9}){9}{999}")),
    {"node": "grep", "pattern": "x", "column": "no"},
    {"node": "grep", "pattern": "x", "extra": 1},
    *({"node": "slice", "start": start} for start in (-1, "0", None, True)),
    {"node": "slice", "start": 5, "stop": 2},
    {"node": "split", "column": "no"},
    {"node": "split", "column": "text", "by": "("},
    {"node": "split", "column": "text", "max_chars": 0},
    *({"node": "between", "start": start} for start in ([0, 0], [10**9, 0, 0], ["a", 0, 0], 5)),
    {"node": "window", "first": 0, "skip": 1 << 61, "last": 0, "take": 9},
]
_SCHEMAS: list[Any] = [
    {},
    {"a": 1},
    {"type": "object"},
    {"answer": "no such type"},
    {"label": []},
    {"label": ["a", "a"]},
    {"_mine": "string"},
    {"text": "string"},
    {"": "string"},
    {"a": [1, [2]]},
    {"$ref": "file:///etc/passwd"},
    {"x": {"$ref": "http://127.0.0.1:1/x"}},
    *(
        {"type": "object", "properties": {"x": form}}
        for form in ({"$ref": "http://127.0.0.1:1/x"}, {"type": "string", "pattern": "(a+)+$"}, {"type": 5}, 5)
    ),
]


def _deep(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


VALUES: list[Any] = [
    *_SCALARS,
    *_TEXTS,
    "x" * 5_000,
    *_LISTS,
    *_PARTS,
    *_SCHEMAS,
    *([origin] for origin in _ORIGINS),
    *([*PLAN, step] for step in _STEPS),
    [*PLAN, *PLAN],
    PLAN * 300,
    _deep(300),
]
