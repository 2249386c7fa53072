"""Draws the pages, as HTML from templates that escape all text. What runs hold was written by models and corpora: it is hostile."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from rlm_ray import __version__
from rlm_ray.handle.values import cell_text
from rlm_ray.history import Run
from rlm_ray.report.page import own_style, shown_value
from rlm_ray.report.run_pages import place_text
from rlm_ray.text import counted
from rlm_ray.types.json import Record
from rlm_ray.ui.catalog import STATES, Catalog, ListedRun
from rlm_ray.ui.comparing import compare
from rlm_ray.ui.live import live
from rlm_ray.ui.nights import history, jobs

#: What is served beside the pages, and as what.
STATIC = {"ui.css": "text/css", "ui.js": "text/javascript", "icon.svg": "image/svg+xml"}
#: Rows of an answer and findings that a page shows; the report has all. Runs that can be chosen to compare with.
MAX_ROWS, MAX_OTHERS = 50, 50


def list_page(catalog: Catalog, text: str, state: str, job: str, number: int) -> str:
    """Return the list of runs."""
    page = catalog.page(text, state, job, number)
    names = sorted({run.job for run in catalog.runs() if run.job})
    given = {name: value for name, value in (("q", text), ("state", state), ("job", job)) if value}
    values = {"text": text, "state": state, "job": job, "jobs": names, "states": STATES, "given": given}
    return _draw("list.html", catalog, page=page, is_cut=catalog.is_cut, **values)


def run_page(catalog: Catalog, run: ListedRun) -> str:
    """Return the page of one run: its answer or findings in short, or where it is."""
    (described,) = catalog.describe([run])
    if described.state == "unreadable":
        return _draw("unreadable.html", catalog, run=described)
    others = _others(catalog, run)
    if not run.is_answered:
        return _draw("live.html", catalog, run=described, live=live(run.directory), others=others)
    record = Run(run.directory).record
    answer, job = record["answer"], record["job"]
    assert answer is not None
    value = answer["value"]
    rows = value if shown_value(answer)["kind"] == "rows" else []
    return _draw(
        "run.html",
        catalog,
        run=described,
        about=record["about"],
        answer=answer,
        job=job,
        value=shown_value(answer),
        table=_table(rows, list(dict.fromkeys(name for row in rows for name in row))),
        findings=_findings(job["findings"], job["failing"]) if job is not None else None,
        others=others,
    )


def fragment(run: ListedRun) -> str:
    """Return the part of a live run's page that changes."""
    text: str = _environment().get_template("going.html").render(live=live(run.directory), id=run.id)
    return text


def compare_page(catalog: Catalog, left: ListedRun, right: ListedRun) -> str:
    """Return two runs side by side."""
    sides = catalog.describe([left, right])
    comparison = compare(left.directory, right.directory)
    return _draw("compare.html", catalog, left=sides[0], right=sides[1], comparison=comparison)


def jobs_page(catalog: Catalog) -> str:
    """Return the list of jobs."""
    return _draw("jobs.html", catalog, jobs=jobs(catalog))


def job_page(catalog: Catalog, name: str) -> str | None:
    """Return a job with its nights; None where there is no such job."""
    found = history(catalog, name)
    return None if found is None else _draw("job.html", catalog, history=found)


def message_page(catalog: Catalog, title: str, text: str) -> str:
    """Return a page that says why there is no other."""
    return _draw("message.html", catalog, title=title, message=text)


def static(name: str) -> str | None:
    """Return the style, the script or the icon of the pages; None where there is no file of that name."""
    if name not in STATIC:
        return None
    text = _read(name)
    return own_style() + text if name == "ui.css" else text


def _read(name: str) -> str:
    return files("rlm_ray.ui").joinpath("templates", name).read_text("utf-8")


def _draw(template: str, catalog: Catalog, **values: Any) -> str:
    text: str = _environment().get_template(template).render(base=catalog.base, version=__version__, **values)
    return text


@functools.cache
def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(counted=counted, moment=_moment, part=lambda text: quote(str(text), safe=""), query=_query)
    return environment


def _moment(made: str) -> str:
    """A time as people read it.

    Examples
    --------
    >>> _moment("2026-01-02T03:04:05+00:00"), _moment("")
    ('2026-01-02 03:04', 'at an unknown time')
    """
    return made[:16].replace("T", " ") or "at an unknown time"


def _query(given: dict[str, str], **more: str) -> str:
    """The query of an address.

    Examples
    --------
    >>> _query({"q": "a&b"}, page="2")
    '?q=a%26b&page=2'
    """
    both = {**given, **{name: str(value) for name, value in more.items()}}
    return f"?{urlencode(both)}" if both else ""


def _others(catalog: Catalog, run: ListedRun) -> list[ListedRun]:
    """Runs to compare with: of the same job or the same question first, the newest first."""
    runs = [other for other in catalog.runs() if other.id != run.id and not other.problem]
    alike = [other for other in runs if (other.job == run.job if run.job else other.question == run.question)]
    known = {other.id for other in alike}
    return [*alike, *(other for other in runs if other.id not in known)][:MAX_OTHERS]


class DrawnTable(NamedTuple):
    """The first of `total` rows as text; `marked` says of each whether it stands out."""

    columns: list[str]
    rows: list[list[str]]
    marked: list[bool]
    total: int


def _findings(rows: Sequence[Record], failing: Sequence[str]) -> DrawnTable:
    """A job's findings, those that make it fail first."""
    ordered = sorted(rows, key=lambda row: row.get("id") not in failing)
    names = list(dict.fromkeys(name for row in ordered for name in row if name not in ("id", "address", "since")))
    places = [{**row, "where": place_text(str(row.get("address") or ""))} for row in ordered[:MAX_ROWS]]
    table = _table(places, [*names, "where"])
    return table._replace(marked=[row.get("id") in failing for row in places], total=len(rows))


def _table(rows: Sequence[Record], columns: list[str]) -> DrawnTable:
    cells = [[cell_text(row.get(name)) for name in columns] for row in rows[:MAX_ROWS]]
    return DrawnTable(columns, cells, [False] * len(cells), len(rows))
