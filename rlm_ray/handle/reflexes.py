"""Names that other libraries have, with the line that does it here: what a root model tries first is answered by how."""

from __future__ import annotations

_COUNTS = "c.count_by('column')"
_SQL = "c.sql('select …, count(*) n from context group by …', combine='select …, sum(n) n from context group by …')"
_LOOK = "c.head(20), c.sample(20), or for record in c"
_NUMBERS = "c.sql('select sum(x) s from context', combine='select sum(s) s from context')"

#: Name -> the line.
LINES = {
    "unique": "c.distinct('column')",
    "nunique": "c.count_by('column').distinct",
    "drop_duplicates": "c.distinct('column'), or llm_each, which asks about equal records once",
    "value_counts": _COUNTS,
    "groupby": f"{_COUNTS}, or {_SQL}",
    "group_by": f"{_COUNTS}, or {_SQL}",
    "agg": _SQL,
    "apply": "c.map(fn), where fn takes a record and returns a dict",
    "shape": "c.count() and c.columns",
    "size": "c.count()",
    "length": "c.count()",
    "dtypes": "c.schema",
    "stats": "c.describe()",
    "summary": "c.describe()",
    "tail": "c[-5:]",
    "first": "c[0]",
    "last": "c[-1]",
    "iloc": "c[0:10]",
    "loc": "c.where([('column', '==', value)])",
    "query": "c.where([('column', '==', value)]), or c.sql('select … from context where …')",
    "dropna": "c.where([('column', '!=', None)])",
    "isna": "c.where([('column', '==', None)])",
    "isnull": "c.where([('column', '==', None)])",
    "contains": "c.grep('pattern')",
    "search": "c.grep('pattern')",
    "find": "c.grep('pattern')",
    "match": "c.grep('pattern')",
    "sort_values": "c.sort('column')",
    "sorted": "c.sort('column')",
    "order_by": "c.sort('column')",
    "limit": "c[:100]",
    "take": "c[:100]",
    "explode": "c.split('text', by='line')",
    "lines": "c.split('text', by='line')",
    "splitlines": "c.split('text', by='line')",
    "merge": "c.where([('key', 'in', list_of_values)])",
    "read": "c.text(max_chars=20000), which reads a little",
    "collect": _LOOK,
    "rows": _LOOK,
    "records": _LOOK,
    "tolist": _LOOK,
    "to_list": _LOOK,
    "to_dict": _LOOK,
    "values": "c.distinct('column')",
    "sum": _NUMBERS,
    "mean": _NUMBERS,
    "min": _NUMBERS,
    "max": _NUMBERS,
}


def answer(name: str) -> str:
    """Return what to say to a name that a Corpus does not have.

    Examples
    --------
    >>> answer("value_counts")
    "A Corpus has no 'value_counts'. Here it is: c.count_by('column')"
    >>> answer("xyz")
    "A Corpus has no 'xyz'. It has: head, sample, text, count, select, where, grep, split, map, filter, aggregate, sql, chunks"
    """
    if name in LINES:
        return f"A Corpus has no {name!r}. Here it is: {LINES[name]}"
    verbs = "head, sample, text, count, select, where, grep, split, map, filter, aggregate, sql, chunks"
    return f"A Corpus has no {name!r:.60}. It has: {verbs}"
