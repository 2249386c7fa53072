"""Runs a job: from its specification to its table of findings."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rlm_ray import storage
from rlm_ray.audit import deltas, programs, values
from rlm_ray.audit import findings as table
from rlm_ray.audit.demands import CoverageSpec, unmet
from rlm_ray.audit.findings import Checked, Finding
from rlm_ray.audit.incremental import CARRIED, GONE, NEW, Night, check_of
from rlm_ray.audit.programs import Program
from rlm_ray.audit.spec import EVIDENCE, NIGHT, Spec, settings_of
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.errors import AssumptionBroken, InputError, MissingExtra
from rlm_ray.handle.corpus import Corpus
from rlm_ray.handle.values import facts_html, rows_html
from rlm_ray.ledger.rundir import RunDirectory, default_base, new_id
from rlm_ray.recursion.answer import SHOWN_ROWS, Answer, partial_because
from rlm_ray.settings import Settings
from rlm_ray.subcalls.schema import AnswerSchema
from rlm_ray.text import counted
from rlm_ray.types.json import JsonObject
from rlm_ray.types.run import AnswerRecord, JobOutcome, JobRecord
from rlm_ray.types.usage import RunUsage

#: Findings that the summary lists.
MAX_LISTED = 200


class JobResultRecord(AnswerRecord):
    """What `rlm-ray run --json` prints of a job; `failing` has the ids of findings."""

    findings: list[Finding]
    rejected: list[JsonObject]
    failing: list[str]
    broken: str
    written: dict[str, str]


@dataclass(frozen=True, slots=True, repr=False)
class JobResult:
    """What a job came to.

    Attributes
    ----------
    answer : Answer
    checked : Checked
        Findings that stand and those that were rejected.
    failing : list of dict
        Findings that fulfil the job's `fail_on`.
    broken : str
        What the program took for granted and does not hold; empty where all holds.
    written : dict of str to str
        `findings`, `report`, `summary`: where they are.
    """

    answer: Answer
    checked: Checked = field(default_factory=Checked)
    failing: list[Finding] = field(default_factory=list)
    broken: str = ""
    written: dict[str, str] = field(default_factory=dict)

    @property
    def findings(self) -> list[Finding]:
        """Findings that stand: the columns of the job, with `id`, `address`, `quote`; of an incremental job also `status`."""
        return self.checked.standing

    @property
    def rejected(self) -> list[JsonObject]:
        """Findings that are not what their record says, each with its `reason`."""
        return self.checked.rejected

    def parse(self, model: Any) -> list[Any]:
        """Return the findings as a pydantic model, one each.

        Raises
        ------
        InputError
            A finding has another shape.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(list[model]).validate_python(self.findings)
        except ValidationError as error:
            raise InputError(f"The findings are no {model}: {error}. Look at .findings.") from None

    def to_polars(self) -> Any:
        """Return the findings as a `polars.DataFrame`."""
        import polars

        return polars.DataFrame(self.findings, infer_schema_length=None)

    def to_pandas(self) -> Any:
        """Return the findings as a `pandas.DataFrame`.

        Raises
        ------
        MissingExtra
            pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise MissingExtra("A DataFrame of pandas", "pandas") from None
        return pandas.DataFrame(self.findings)

    def __repr__(self) -> str:
        failing = f", {len(self.failing):,} of them make the job fail" if self.failing else ""
        rejected = f"; {counted(len(self.rejected), 'finding was', 'findings were')} rejected" if self.rejected else ""
        broken = f"; {self.broken}" if self.broken else ""
        found = f"{counted(len(self.findings), 'finding')}{self.statuses}"
        return f"<JobResult: {found}{failing}{rejected}{broken}; run: {self.answer.run}>"

    def _repr_html_(self) -> str:
        """Show in a notebook the findings, those that make the job fail first, then what it cost and where its results are."""
        failing = {finding["id"] for finding in self.failing}
        rows = sorted(self.findings, key=lambda finding: finding["id"] not in failing)[:SHOWN_ROWS]
        shown = [{name: value for name, value in row.items() if name != "id"} for row in rows]
        usage = self.answer.usage
        facts = {
            "make the job fail": f"{len(self.failing):,}" if self.failing else "",
            "rejected": "\n".join(str(item["reason"]) for item in self.rejected[:10]),
            "broken": self.broken,
            "cost": f"{counted(usage.calls, 'call')}, " + ("price unknown" if usage.usd is None else f"${usage.usd:.4f}"),
            "run": self.answer.run,
        } | self.written
        return rows_html(shown, len(self.findings), "finding") + facts_html("", facts)

    @property
    def statuses(self) -> str:
        """How many findings of an incremental job are new, carried forward and gone, in words; else nothing."""
        counts = {status: sum(row.get("status") == status for row in self.checked.standing) for status in (NEW, CARRIED, GONE)}
        return f" ({', '.join(f'{count:,} {status}' for status, count in counts.items())})" if any(counts.values()) else ""

    def to_json(self) -> JobResultRecord:
        """Return what `--json` prints: the answer's record, with `findings`, `rejected`, `failing` and `written`."""
        return {
            **self.answer.to_json(),
            "findings": self.checked.standing,
            "rejected": self.checked.rejected,
            "failing": [finding["id"] for finding in self.failing],
            "broken": self.broken,
            "written": self.written,
        }


def run(
    spec: Spec,
    beside: Path,
    ask: Callable[..., Answer],
    open_corpus: Callable[..., Corpus],
    report: Callable[[str], str],
    flags: JsonObject,
    observe: Any = None,
) -> JobResult:
    """Run a job. Reads its corpora, calls models, writes its findings, a report and a summary.

    Parameters
    ----------
    spec : Spec
    beside : Path
        The folder of the specification: a program's folder is meant from there.
    ask, open_corpus, report : callable
        `rlm_ray.ask`, `rlm_ray.open`, and what makes a run's page.
    flags : mapping
        Settings that go before the job's own.

    Raises
    ------
    AssumptionBroken
        Before any model call: the program was made for data of another shape.
    """
    settings = settings_of(spec, **flags)
    program = programs.load(beside / spec.program) if spec.program is not None else None
    if spec.output.format == "delta":
        deltas.require()
    corpora = {name: open_corpus(*item.uris, **item.options(settings)) for name, item in spec.corpora.items()}
    if program is not None:
        program.check_imports()
        program.check_corpora({name: corpus.info for name, corpus in corpora.items()})
    cells = _cells(program, spec)
    settings = settings if settings.run_id is not None else settings.with_(run_id=new_id())
    run_dir = storage.join(storage.normal(settings.run_dir or default_base()), settings.run_id or "")
    if settings.store_prompts:  # a resumed run has to end as the job ends
        job: JobRecord = {"spec": spec.model_dump(mode="json"), "beside": str(beside.resolve()), "folder": os.getcwd()}
        RunDirectory(run_dir).save_job(job)
    if not spec.incremental:
        answer = _asked(spec, settings, corpora, cells, ask, observe)
        return _audited(spec, program, answer, list(corpora), report)
    name, corpus = next(iter(corpora.items()))
    backend: Any = corpus.backend
    check = check_of(spec.question, spec.finding, cells, spec.corpora[name].model_dump(), settings.leaf_model, settings.root_model)
    folder = spec.output.state or f"{spec.output.findings.rstrip('/')}-state"
    with Night(folder, settings.run_id or "", check, backend.manifest, run_dir) as night:
        fresh = night.changes.fresh
        if night.finished is not None or not fresh:
            return _nothing_new(spec, night)
        some = {name: backend.only(fresh)}
        answer = _asked(spec, settings, some, cells, ask, observe, night.reuse)
        return _audited(spec, program, answer, [name], report, night)


def _asked(
    spec: Spec,
    settings: Settings,
    corpora: dict[str, Corpus],
    cells: tuple[str, ...],
    ask: Callable[..., Answer],
    observe: Any,
    reuse: Sequence[str] = (),
) -> Answer:
    return ask(
        next(iter(corpora.values())) if list(corpora) == ["context"] else corpora,
        spec.question,
        settings,
        spec.answer_schema,
        program=cells,
        reuse=reuse,
        observe=observe,
    )


def _audited(
    spec: Spec,
    program: Program | None,
    answer: Answer,
    corpora: Sequence[str],
    report: Callable[[str], str],
    night: Night | None = None,
) -> JobResult:
    """Hold an answer's findings against their records, and write them."""
    broken = ""
    if program is not None and answer.answered:
        try:
            program.check_answer(answer.value)
        except AssumptionBroken as error:
            return JobResult(answer, broken=str(error))
    elif answer.stop_reason == "program":
        broken = answer.message
    if not answer.answered:
        return JobResult(answer, broken=broken)
    directory = RunDirectory(answer.run)
    manifests = {name: Manifest.load(directory.path("manifest", name)) for name in corpora}
    if spec.require_coverage is not None:
        answer = _demanded(spec.require_coverage, answer, directory, manifests)
    checked = table.check(answer.value, spec.answer_schema["items"], manifests)
    failing = _failing(spec, checked.standing)
    if night is not None:
        checked = replace(checked, standing=night.settle(checked.standing))
    written = _written(spec, directory.id, checked.standing)
    audited = JobResult(answer, checked, failing, broken, written)
    directory.save_outcome_of_job(_outcome(spec, audited))
    # a night with failed sub-calls or functions has not looked at all that is new: the next one does
    if night is not None and answer.stop_reason == "answered" and all("object" in item for item in answer.failures):
        night.finish(checked.standing, {item["object"] for item in answer.failures if "object" in item})
    _report(spec, audited, directory.id, report)
    return audited


def _nothing_new(spec: Spec, night: Night) -> JobResult:
    """A night on which nothing is to be read: what stood before, but for what is gone; or what this very run found before."""
    rows = night.finished if night.finished is not None else night.settle(())
    answer = Answer([], True, "nothing new", "", RunUsage())
    failing = _failing(spec, [row for row in rows if row["status"] == NEW])
    audited = JobResult(answer, Checked(rows), failing, "", _written(spec, night.run_id, rows))
    night.finish(rows)
    _report(spec, audited, night.run_id, None)
    return audited


def _outcome(spec: Spec, audited: JobResult) -> JobOutcome:
    """What a job came to, as its run directory keeps it."""
    return {
        "name": spec.name,
        "columns": AnswerSchema.of(spec.finding).properties,
        "fail_on": spec.fail_on,
        "findings": audited.findings,
        "rejected": audited.rejected,
        "failing": [finding["id"] for finding in audited.failing],
        "broken": audited.broken,
        "written": audited.written,
    }


def _failing(spec: Spec, findings: Sequence[Finding]) -> list[Finding]:
    condition = spec.condition
    return [finding for finding in findings if condition is not None and condition.holds(finding)]


def _written(spec: Spec, run: str, findings: Sequence[Finding]) -> dict[str, str]:
    kinds = AnswerSchema.of(spec.finding).columns | dict.fromkeys([*EVIDENCE, *(NIGHT if spec.incremental else ())], "string")
    return {"findings": table.write(spec.output.findings, run, findings, kinds, spec.output.format)}


def _report(spec: Spec, audited: JobResult, run: str, report: Callable[[str], str] | None) -> None:
    if spec.output.reports is None:
        return
    folder = storage.join(storage.normal(spec.output.reports), run)
    texts = {"summary.md": summary(spec, audited)}
    if report is not None:
        texts = {"report.html": report(audited.answer.run)} | texts
    for name, text in texts.items():
        storage.write_bytes(storage.join(folder, name), text.encode("utf-8", "replace"))
        audited.written[name.partition(".")[0]] = storage.join(folder, name)


def _demanded(demand: CoverageSpec, answer: Answer, directory: RunDirectory, manifests: Mapping[str, Manifest]) -> Answer:
    """The answer; marked as partial where less was read than the job demands."""
    said = unmet(demand, answer.run, manifests, answer.failures)
    if said is None:
        return answer
    answer = replace(answer, complete=False, stop_reason="coverage" if answer.complete else answer.stop_reason, message=said)
    directory.save_answer(answer.to_json())
    return answer


def _cells(program: Program | None, spec: Spec) -> tuple[str, ...]:
    if program is None:
        return ()
    return (values.cell(spec.values), *program.cells) if spec.values else program.cells


def summary(spec: Spec, audited: JobResult) -> str:
    """Return a job's summary as Markdown. What came from a corpus or a model stands in code, where it is no markup."""
    answer, checked = audited.answer, audited.checked
    state = "complete" if answer.complete else f"partial ({partial_because(answer.stop_reason, answer.failures)})"
    usd = "price unknown" if answer.usage["usd"] is None else f"${answer.usage['usd']:.4f}"
    lines = [
        f"# {spec.name}",
        "",
        f"{counted(len(checked.standing), 'finding')}{audited.statuses}, {len(audited.failing):,} of them "
        f"{'fails' if len(audited.failing) == 1 else 'fail'} the job; "
        f"{len(checked.rejected):,} {'was' if len(checked.rejected) == 1 else 'were'} rejected. The answer is {state}.",
        "",
        f"{counted(answer.usage['calls'], 'model call')}, {usd}, {answer.usage['seconds']:.0f} s; run `{_code(answer.run)}`."
        if answer.run
        else "Nothing was new, so nothing was read.",
        "",
    ]
    if checked.standing:
        columns = [*(NIGHT[:1] if spec.incremental else ()), *spec.finding, "quote"]
        lines += ["| " + " | ".join([*columns, "where"]) + " |", "|" + " --- |" * (len(columns) + 1)]
        failing = {finding["id"] for finding in audited.failing}
        shown = sorted(checked.standing, key=lambda finding: finding["id"] not in failing)
        for finding in shown[:MAX_LISTED]:
            lines.append("| " + " | ".join(f"`{_code(finding.get(name))}`" for name in [*columns, "address"]) + " |")
        if len(shown) > MAX_LISTED:
            lines += ["", f"{counted(len(shown) - MAX_LISTED, 'more is', 'more are')} in the table."]
    if checked.rejected:
        lines += ["", "## Rejected", ""]
        lines += [f"- `{_code(item['reason'])}`" for item in checked.rejected[:MAX_LISTED]]
    return "\n".join(lines) + "\n"


def _code(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return " ".join(text.replace("`", "'").replace("|", "¦").split())[:300] or " "
