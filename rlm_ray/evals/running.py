"""An evaluation from its specification to its table: every method on every case, each seed, and what it scored and cost."""

from __future__ import annotations

import io
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from rlm_ray import storage
from rlm_ray.errors import RlmRayError
from rlm_ray.evals import alerts, clauses, methods, oolong, pairs, questions, sniah
from rlm_ray.evals.cases import Case
from rlm_ray.evals.methods import Reply, Tools, Way
from rlm_ray.evals.spec import EvaluationSpec
from rlm_ray.text import counted

#: The cases of each evaluation, by its name.
SOURCES: dict[str, Callable[[Sequence[int], int, int, str | None], Iterator[Case]]] = {
    "sniah": sniah.cases,
    "oolong": oolong.cases,
    "oolong-pairs": pairs.cases,
    "alerts": alerts.cases,
    "clauses": clauses.cases,
    "questions": questions.cases,
}


class Row(TypedDict):
    """One case by one method; `coverage` and `shown` are shares of the bytes: read at all, put before a model."""

    evaluation: str
    method: str
    accuracy: float | None
    votes: str
    seed: int
    case: str
    score: float
    by_arithmetic: float | None
    calls: int
    tokens: int
    usd: float | None
    seconds: float
    coverage: float | None
    shown: float | None
    trouble: str


class Mean(TypedDict):
    """Means over the cases of one method; `spread` is the standard deviation of the seeds' means."""

    evaluation: str
    method: str
    accuracy: float | None
    votes: str
    cases: int
    spread: float
    score: float
    by_arithmetic: float | None
    calls: float
    tokens: float
    usd: float | None
    seconds: float
    coverage: float | None
    shown: float | None
    trouble: int


class EvaluatedRecord(TypedDict):
    """What `rlm-ray run --json` prints of an evaluation."""

    means: list[Mean]
    rows: list[Row]
    written: dict[str, str]


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation came to: a row for each case, and means over them.

    Attributes
    ----------
    rows : list of dict
        `evaluation`, `method`, `accuracy`, `votes`, `seed`, `case`, `score`, `by_arithmetic`, `calls`, `tokens`, `usd`,
        `seconds`, `coverage` and `shown` (shares of the bytes: read at all, put before a model), `trouble`.
    written : dict of str to str
        `results` (Parquet) and `table` (Markdown).
    """

    rows: list[Row]
    written: dict[str, str]

    @property
    def means(self) -> list[Mean]:
        """Means over the cases of each method; `spread` is the standard deviation of the seeds' means."""
        return means(self.rows)

    def to_polars(self) -> Any:
        """Return the rows as a `polars.DataFrame`."""
        import polars

        return polars.read_parquet(io.BytesIO(_parquet(self.rows)))

    def _repr_markdown_(self) -> str:
        """Show the means in a notebook."""
        return as_table(self.means)

    def to_json(self) -> EvaluatedRecord:
        """Return what `--json` prints."""
        return {"means": self.means, "rows": self.rows, "written": self.written}


def run(spec: EvaluationSpec, tools: Tools, say: Callable[[str], None] = lambda text: None) -> Evaluated:
    """Run an evaluation. Calls models, where it is not told to simulate them; writes its results.

    Parameters
    ----------
    spec : EvaluationSpec
    tools : Tools
    say : callable
        Gets a line for each method of each evaluation that is done.
    """
    rows: list[Row] = []
    for name in spec.evaluate:
        for way in ways(spec, tools):
            done = []
            for case in SOURCES[name](spec.sizes, spec.cases, way.seed, spec.data):
                try:
                    reply = methods.answer(case, way, tools)
                except RlmRayError as error:
                    if error_ends(error):
                        raise
                    reply = Reply(None, trouble=str(error)[:200])
                if reply is not None:
                    done.append(_row(name, way, case, reply))
            rows += done
            if done:
                score = statistics.fmean(row["score"] for row in done)
                say(f"{name}, {_named(done[0])}, seed {way.seed}: {counted(len(done), 'case')}, score {score:.3f}")
    table = as_table(means(rows))
    folder = storage.normal(spec.output)
    written = {
        "results": _write(storage.join(folder, "results.parquet"), _parquet(rows)),
        "table": _write(storage.join(folder, "results.md"), table.encode()),
    }
    return Evaluated(rows, written)


def ways(spec: EvaluationSpec, tools: Tools) -> Iterator[Way]:
    """Yield the ways of a specification: simulated readers where its settings name no model."""
    live = tools.settings.root_model is not None or tools.settings.sub_model is not None
    for method in spec.methods:
        for seed in spec.seeds:
            if method in ("constant", "keyword", "code"):
                yield Way(method, seed, None if live else 1.0)
                continue
            for accuracy in (None,) if live else spec.accuracies:
                for votes in spec.votes if method == "engine" else (1,):
                    yield Way(method, seed, accuracy, votes)


def error_ends(error: RlmRayError) -> bool:
    """Whether an error will be the same for every case: wrong input or credentials."""
    from rlm_ray.errors import CredentialsError, InputError

    return isinstance(error, InputError | CredentialsError)


def means(rows: Sequence[Row]) -> list[Mean]:
    """Return the means over the cases of each method, in the order of the rows."""
    groups: dict[tuple[str, str, float | None, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["evaluation"], row["method"], row["accuracy"], row["votes"]), []).append(row)
    found = []
    for (evaluation, method, accuracy, votes), group in groups.items():
        seeds = [
            statistics.fmean(row["score"] for row in group if row["seed"] == seed)
            for seed in dict.fromkeys(row["seed"] for row in group)
        ]
        found.append(
            Mean(
                evaluation=evaluation,
                method=method,
                accuracy=accuracy,
                votes=votes,
                cases=len(group),
                spread=statistics.stdev(seeds) if len(seeds) > 1 else 0.0,
                score=statistics.fmean(row["score"] for row in group),
                by_arithmetic=_mean([row["by_arithmetic"] for row in group]),
                calls=statistics.fmean(row["calls"] for row in group),
                tokens=statistics.fmean(row["tokens"] for row in group),
                usd=_mean([row["usd"] for row in group]),
                seconds=statistics.fmean(row["seconds"] for row in group),
                coverage=_mean([row["coverage"] for row in group]),
                shown=_mean([row["shown"] for row in group]),
                trouble=sum(bool(row["trouble"]) for row in group),
            )
        )
    return found


def as_table(means: Sequence[Mean]) -> str:
    """Return the means as a Markdown table.

    Examples
    --------
    >>> row = {"evaluation": "sniah", "method": "engine", "accuracy": 1.0, "votes": "1", "cases": 3, "spread": 0.0, "score": 1.0}
    >>> costs = {"by_arithmetic": 1.0, "calls": 9.0, "tokens": 1200.0, "usd": 0.01, "seconds": 1.0, "coverage": 1.0, "shown": 0.5}
    >>> print(as_table([row | costs]).splitlines()[2])
    | sniah | engine, reader 100 % | 3 | 1.000 ± 0.000 | 1.000 | 9 | 1,200 | $0.0100 | 1.0 | 100 % | 50 % |
    """
    lines = [
        "| evaluation | method | cases | score ± seeds | by arithmetic | calls | tokens | dollars | seconds | read | by a model |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in means:
        cells = [
            row["evaluation"],
            _named(row),
            f"{row['cases']:,}",
            f"{row['score']:.3f} ± {row['spread']:.3f}",
            _or(row["by_arithmetic"], "{:.3f}"),
            f"{row['calls']:,.0f}",
            f"{row['tokens']:,.0f}",
            "$0" if row["usd"] == 0 else _or(row["usd"], "${:.4f}"),
            f"{row['seconds']:.1f}",
            *("" if share is None else f"{share:.0%}".replace("%", " %") for share in (row["coverage"], row["shown"])),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _named(row: Row | Mean) -> str:
    named = str(row["method"])
    if row["method"] in ("engine", "one-prompt", "no-sub-calls") and row["accuracy"] is not None:
        named += f", reader {row['accuracy'] * 100:g} %"
    return named + (f", votes {row['votes']}" if row["votes"] != "1" else "")


def _row(name: str, way: Way, case: Case, reply: Reply) -> Row:
    return {
        "evaluation": name,
        "method": way.method,
        "accuracy": way.accuracy,
        "votes": str(way.votes),
        "seed": way.seed,
        "case": case.id,
        "score": case.score(reply.answer, case.gold),
        "by_arithmetic": methods.by_arithmetic(case, way),
        "calls": reply.calls,
        "tokens": reply.tokens,
        "usd": reply.usd,
        "seconds": round(reply.seconds, 3),
        "coverage": reply.coverage,
        "shown": reply.shown,
        "trouble": reply.trouble,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def _or(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _parquet(rows: list[Row]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    texts = {name: pyarrow.string() for name in ("evaluation", "method", "votes", "case", "trouble")}
    numbers = {name: pyarrow.float64() for name in ("accuracy", "score", "by_arithmetic", "usd", "seconds", "coverage", "shown")}
    whole = {name: pyarrow.int64() for name in ("seed", "calls", "tokens")}
    kinds = texts | numbers | whole
    order = list(rows[0]) if rows else list(kinds)
    buffer = io.BytesIO()
    schema = pyarrow.schema([(name, kinds[name]) for name in order])
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema), buffer, compression="zstd")
    return buffer.getvalue()


def _write(uri: str, data: bytes) -> str:
    storage.write_bytes(uri, data)
    return uri
