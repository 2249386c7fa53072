"""Prints runs on the command line: the list, one run, its turns, citations, failures and findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.operations.operations import shown_text
from rlm_ray.errors import InputError
from rlm_ray.handle.values import cell_text
from rlm_ray.report.terminal import coverage_lines, dollars_text, failure_lines, safe, security, spent_text, value_text
from rlm_ray.text import counted
from rlm_ray.types.json import JsonObject, Record
from rlm_ray.types.run import AnswerRecord, RunRecord, RunRow, SourceRecord

#: Different reasons of failed sub-calls that are printed.
MAX_REASONS = 10
#: Lines of an answer, findings and citations on the page of a run.
MAX_LINES, MAX_FINDINGS, MAX_CITATIONS = 24, 50, 3
#: Characters of an id that a terminal shows: those of an id that was not chosen, and a little.
ID_WIDTH = 26


# the list of runs


def runs_table(rows: Sequence[RunRow]) -> Table:
    """Return the list of runs for a terminal: a line a run, also at 80 columns. A long id is cut where it is one run's alone."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0), expand=True)
    names, states = list(_brief_ids([row["run"] for row in rows])), [row["state"].replace(" (", ": ").rstrip(")") for row in rows]
    table.add_column("run", no_wrap=True, overflow="ellipsis", width=min(ID_WIDTH, max(map(len, names), default=0)))
    table.add_column("state", no_wrap=True, overflow="ellipsis", width=min(16, max(map(len, states), default=0)))
    table.add_column("cost", no_wrap=True, justify="right", min_width=8)
    table.add_column("question", no_wrap=True, overflow="ellipsis", ratio=1)
    for row, name, state in zip(rows, names, states, strict=True):
        cost = counted(row["calls"], "call") if row["dollars"] is None else f"${row['dollars']:.4f}"
        question = " ".join((row["question"] or "(not stored)").split())
        style = "green" if row["state"] == "complete" else "yellow"
        table.add_row(Text(safe(name)), Text(safe(state), style=style), Text(cost), Text(safe(question)))
    return table


def _brief_ids(ids: Sequence[str]) -> Iterator[str]:
    """Return each id, or as much of a long one as names it alone and fits."""
    for name in ids:
        yield (
            name
            if len(name) <= ID_WIDTH
            else next(
                (f"{name[:end]}…" for end in range(12, ID_WIDTH) if sum(other.startswith(name[:end]) for other in ids) == 1), name
            )
        )


def runs_lines(rows: Sequence[RunRow]) -> list[str]:
    """Return the same as whole lines, a tab between columns: what a pipe gets."""
    lines = ["run\tstate\tcalls\tdollars\tshown\tquestion"]
    for row in rows:
        dollars = "unknown" if row["dollars"] is None else f"{row['dollars']:.4f}"
        question = " ".join((row["question"] or "(not stored)").split())
        lines.append(safe("\t".join((row["run"], row["state"], str(row["calls"]), dollars, str(row["shown"] or 0), question))))
    return lines


# a run


def show_page(run: RunRecord, console: Console) -> None:
    """Print a run on about a page: the question, the answer or the findings, what they rest on, what was read and what failed."""
    about, answer, job = run["about"], run["answer"], run["job"]
    name = run["run"].rstrip("/").rsplit("/", 1)[-1]
    console.print(Text(safe(about.get("question") or "(the question was not stored)"), style="bold"))
    usage = run["usage"]
    cost = f"{counted(len(run['turns']), 'turn')}, {spent_text(usage)}, {dollars_text(usage['usd'])}"
    if answer is None:
        console.print(Text(f"\nno answer yet: stopped in {run['stopped']}", style="yellow"))
    else:
        console.print()
        if job is not None:
            console.print(findings_table(job["findings"], job["failing"]))
            console.print(Text(safe("\n".join(job_lines(job["findings"], job["rejected"], job["failing"], job["fail_on"])))))
        else:
            console.print(Text(_cut(value_text(answer["value"]), "--json has all of it")))
        if not answer["complete"]:
            console.print(Text(safe(f"\npartial ({answer['stop_reason']}) {answer.get('message') or ''}".rstrip()), style="red"))
        if answer["citations"] and job is None:
            console.print(Text(f"\n{counted(len(answer['citations']), 'citation')}", style="bold"))
            for number, item in enumerate(answer["citations"][:MAX_CITATIONS], 1):
                console.print(Text(safe(_cited(number, item))))
        console.print()
        for text in coverage_lines(answer["coverage"]) if answer.get("coverage") else ():
            console.print(Text(safe(text)))
        for text in _failed_in_short(run, answer):
            console.print(Text(safe(text), style="red"))
    console.print(Text(safe(f"\n{name}, made {about.get('made') or 'at an unknown time'}: {cost}"), style="dim"))
    flags = ["--turns", *(["--citations"] if answer is not None and answer["citations"] else []), "--failures", "--html FILE"]
    console.print(Text(f"more: rlm-ray show {name} {' | '.join(flags)}", style="dim"))


def _failed_in_short(run: RunRecord, answer: AnswerRecord) -> list[str]:
    refused = len(answer.get("refused") or ())
    parts = [
        counted(len(answer["failures"]), "failure") if answer["failures"] else "",
        f"{counted(sum(run['failed'].values()), 'sub-call')} failed" if run["failed"] else "",
        counted(refused, "citation was refused", "citations were refused") if refused else "",
        counted(sum(answer.get("events", {}).values()), "security event") if any(answer.get("events", {}).values()) else "",
    ]
    said = ", ".join(filter(None, parts))
    return [f"{said}: --failures has them"] if said else []


def _cut(text: str, rest: str) -> str:
    lines = text.splitlines()
    more = len(lines) - MAX_LINES
    return text if more <= 0 else "\n".join([*lines[:MAX_LINES], f"… {counted(more, 'more line')}: {rest}"])


def show_turns(run: RunRecord, console: Console) -> None:
    """Print each turn's cells with what they gave."""
    for turn in run["turns"]:
        console.print(Text(f"\nturn {turn['turn']}", style="bold"))
        for cell in turn["cells"]:
            if cell["code"] is not None:
                console.print(Text(safe(cell["code"]), style="cyan"), soft_wrap=True)
            for text, style in ((cell["output"], ""), (cell["error"], "red"), (cell["problem"], "red")):
                if text:
                    console.print(Text(safe(text), style=style), soft_wrap=True)
    if run["answer"] is None:
        console.print(Text(f"\nno answer yet: stopped in {run['stopped']}"), soft_wrap=True)


def show_citations(run: RunRecord, console: Console) -> None:
    """Print all citations, numbered as `--finding` takes them, and those that were refused."""
    answer = run["answer"]
    for number, item in enumerate(answer["citations"] if answer is not None else (), 1):
        console.print(Text(safe(_cited(number, item))), soft_wrap=True)
    for refused in (answer.get("refused") or ()) if answer is not None else ():
        console.print(Text(safe(f"refused: {refused['address']}: {refused['reason']}"), style="red"), soft_wrap=True)
    if answer is None or not (answer["citations"] or answer.get("refused")):
        console.print("nothing was cited")


def _cited(number: int, item: Mapping[str, object]) -> str:
    quote = item.get("quote")
    return f"{number:>4}  {item['address']}" if quote is None else f"{number:>4}  “{cell_text(quote)}”\n      {item['address']}"


def show_failures(run: RunRecord, console: Console) -> None:
    """Print what could not be read, what failed, what was refused and what was rejected, each with its reason."""
    answer, job = run["answer"], run["job"]
    lines = failure_lines(answer["failures"]) if answer is not None else []
    lines += failed_lines(run["failed"])
    if answer is not None:
        lines += [f"refused: {item['address']}: {item['reason']}" for item in answer.get("refused") or ()]
        if any(answer.get("events", {}).values()):
            lines += security(answer["events"], answer.get("denied", {}))
    lines += [f"rejected: {item['reason']}" for item in job["rejected"]] if job is not None else []
    for turn in run["turns"]:
        errors = [cell["error"] or cell["problem"] for cell in turn["cells"]]
        lines += [f"turn {turn['turn']}: {error.strip().splitlines()[-1]}" for error in errors if error and error.strip()]
    for text in lines or ["nothing failed"]:
        console.print(Text(safe(text)), soft_wrap=True)


def failed_lines(failed: dict[str, int]) -> list[str]:
    """Return the lines that say how many sub-calls failed, and why.

    Examples
    --------
    >>> failed_lines({"no such model": 1_200, "timed out": 1})
    ['', '1,201 sub-calls failed:', '  1,200 times: no such model', '  once: timed out']
    """
    if not failed:
        return []
    total = sum(failed.values())
    lines = ["", f"{counted(total, 'sub-call')} failed:"]
    lines += [f"  {'once' if n == 1 else f'{n:,} times'}: {reason}" for reason, n in list(failed.items())[:MAX_REASONS]]
    if len(failed) > MAX_REASONS:
        lines.append(f"  … and {counted(len(failed) - MAX_REASONS, 'other reason')}")
    return lines


def source_text(source: SourceRecord) -> str:
    """Return what `rlm-ray show --finding` prints: the record, and a little of what stands before and behind it."""
    lines = [source["address"]]
    if source["quote"]:
        lines.append(f"quote: {source['quote']}")
    lines.append("")
    lines += [f"  {line}" for item in source["before"] for line in _record_text(item).splitlines()]
    lines += [f"> {line}" for line in _record_text(source["record"]).splitlines()]
    lines += [f"  {line}" for item in source["behind"] for line in _record_text(item).splitlines()]
    return safe("\n".join(lines))


def _record_text(record: Record | str) -> str:
    return record if isinstance(record, str) else shown_text(record)


# the findings of a job


def findings_table(findings: Sequence[Record], failing: Sequence[str]) -> Table | Text:
    """Return a job's findings for a terminal, those that make the job fail first. A column is never narrower than its words."""
    if not findings:
        return Text("no findings")
    rows = sorted(findings, key=lambda finding: finding.get("id") not in failing)
    columns = [
        name for name in rows[0] if name not in ("id", "address", "since") and any(row.get(name) is not None for row in rows)
    ]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("")
    for name in (*columns, "where"):
        words = [word for row in rows[:MAX_FINDINGS] for word in _cell(row, name).split()] + [name]
        table.add_column(name, overflow="fold", min_width=min(16, max(map(len, words))))
    for row in rows[:MAX_FINDINGS]:
        fails = row.get("id") in failing
        cells = [Text(safe(_cell(row, name))) for name in (*columns, "where")]
        table.add_row(Text("✗" if fails else "", style="red"), *cells, style="red" if fails else "")
    return table


def _cell(row: Record, name: str) -> str:
    return place_text(str(row.get("address") or "")) if name == "where" else cell_text(row.get(name))


def place_text(address: str) -> str:
    """Return an address as a person says it: the object's name and the place in it.

    Examples
    --------
    >>> place_text("s3://lake/day=1/app.log@9f2c#bytes=10-20"), place_text("nowhere")
    ('app.log, byte 10', 'nowhere')
    """
    try:
        parsed = Address.parse(address)
    except InputError:
        return address
    place = f"row {parsed.start:,}" if parsed.unit == "row" else f"byte {parsed.start:,}"
    return f"{parsed.object.rsplit('/', 1)[-1]}, {place}"


def job_lines(findings: Sequence[Record], rejected: Sequence[JsonObject], failing: Sequence[str], fail_on: str | None) -> list[str]:
    """Return what is said of a job's findings below their table.

    Examples
    --------
    >>> job_lines([{"id": "a"}], [{"reason": "there is no record at x"}], ["a"], "severity >= high")
    ['1 finding; 1 with severity >= high', 'rejected: 1, since it is not what the record says:', '  there is no record at x']
    """
    more = len(findings) - MAX_FINDINGS
    lines = [f"… {counted(more, 'more finding')}"] if more > 0 else []
    counts = [
        f"{count:,} {status}"
        for status in ("new", "carried", "gone")
        if (count := sum(row.get("status") == status for row in findings))
    ]
    statuses = f" ({', '.join(counts)})" if counts else ""
    lines.append(counted(len(findings), "finding") + statuses + (f"; {len(failing):,} with {fail_on}" if fail_on else ""))
    if rejected:
        why = "since it is not what the record says" if len(rejected) == 1 else "since they are not what the record says"
        lines.append(f"rejected: {len(rejected):,}, {why}:")
        lines += [f"  {item['reason']}" for item in rejected[:10]]
        if len(rejected) > 10:
            lines.append(f"  … and {len(rejected) - 10:,} more")
    return lines
