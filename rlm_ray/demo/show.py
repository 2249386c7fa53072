"""Prints the demo's report on a terminal of 80 columns or more."""

from __future__ import annotations

from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlm_ray.demo.compare import Comparison, Finding, Score
from rlm_ray.demo.run import DemoReport
from rlm_ray.text import counted

#: Below this, the demo says plainly that the reader was not good enough.
GOOD = 0.9


def show(report: DemoReport, console: Console) -> None:
    """Print the answer, how it compares with what was planted, and what it cost."""
    truth, answer, usage = report.truth, report.answer, report.answer.usage
    console.rule("What happened in this shop?", style="dim")
    planted = f"Seed {report.seed} planted {counted(len(truth.incidents), 'incident')} ({counted(len(truth.records), 'line')})."
    console.print(f"{counted(truth.lines, 'log line')} in {counted(truth.objects, 'Parquet object')}. {planted}")
    read = f" It read {counted(report.lines_read, 'line')}." if report.lines_read else ""
    console.print(Text(f"Reader: {report.reader}{read}"))
    console.print()
    if report.comparison is None:
        console.print(Text(f"There is no answer: the run ended with {answer.stop_reason!r}.", style="bold red"))
    else:
        _findings(report.comparison, console)
        console.print()
        console.print(_scores(report.comparison, report.searches))
        if min(report.comparison.records.precision, report.comparison.records.recall) < GOOD:
            weak = "The reader was too weak for this lake. With a key, rlm-ray demo --live asks real models."
            console.print(Text(weak, style="yellow"))
    console.print()
    tokens = usage["prompt_tokens"] + usage["completion_tokens"]
    spent = f"{counted(usage['calls'], 'model call')}, {counted(tokens, 'token')}, {_dollars(usage['usd'])}"
    console.print(f"{counted(answer.turns, 'turn')}, {spent}.")
    console.print(
        f"{report.seconds:.0f} s in all, {usage['seconds']:.0f} s of them the run; code ran behind {answer.isolation} walls."
    )
    console.print("Every turn, its code and output, and another lake:", style="dim")
    console.print(Text(f"  rlm-ray show {answer.run}\n  rlm-ray demo --seed {report.seed + 1}"), soft_wrap=True)


def _findings(comparison: Comparison, console: Console) -> None:
    console.print(_columns("kind", "service", "when", "lines", Text("planted")), style="dim")
    for finding in comparison.findings:
        console.print(_row(finding))
        for quote in finding.reported["quotes"][:1]:
            console.print(Text(f"  “{quote}”", style="dim"), no_wrap=True, overflow="ellipsis")
    for incident in comparison.missed:
        when = _when(incident.first, incident.last)
        console.print(_columns(incident.kind, incident.service, when, f"0/{len(incident.records)}", Text("missed", style="red")))


def _row(finding: Finding) -> Text:
    reported, planted = finding.reported, finding.planted
    kind, service = str(reported["kind"]), str(reported["service"])
    when = _when(_moment(reported["first"]), _moment(reported["last"]))
    if planted is None:
        return _columns(kind, service, when, str(len(reported["records"])), Text("no", style="red"))
    verdict = Text("yes", style="green") if finding.kind_is_right else Text(f"as {planted.kind}", style="yellow")
    return _columns(kind, service, when, f"{finding.right}/{len(planted.records)}", verdict)


def _columns(kind: str, service: str, when: str, lines: str, verdict: Text) -> Text:
    row = Text(f"{kind:<15}{service:<11}{when:<23}{lines:>6}  ", no_wrap=True, overflow="ellipsis")
    return row.append_text(verdict)


def _scores(comparison: Comparison, searches: dict[str, Score]) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="dim")
    table.add_column("against what was planted", no_wrap=True)
    table.add_column("precision", justify="right")
    table.add_column("recall", justify="right")
    table.add_row("incidents", *_shares(comparison.incidents), style="bold")
    table.add_row("their lines", *_shares(comparison.records), style="bold")
    table.add_row(f"kinds named rightly: {comparison.kinds_right} of {comparison.incidents.found}")
    for name, score in searches.items():
        table.add_row(f"lines, by {name}", *_shares(score), style="dim")
    return table


def _shares(score: Score) -> tuple[str, str]:
    return f"{score.precision:.2f}", f"{score.recall:.2f}"


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:  # a live model may write a time as it likes
        return None


def _when(first: datetime | None, last: datetime | None) -> str:
    return f"{first:%b %d %H:%M} to {last:%H:%M}" if first is not None and last is not None else "?"


def _dollars(usd: float | None) -> str:
    return "dollars unknown" if usd is None else f"${usd:.2f}" if usd else "no money"
