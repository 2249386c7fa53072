"""What the command line prints of an answer, a corpus and an estimate. Text of a corpus or a model is printed as it is, without
control characters: a terminal obeys those."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

from rlm_ray.handle.values import Description, size
from rlm_ray.recursion.answer import Answer
from rlm_ray.text import counted
from rlm_ray.types.estimate import Cost, Estimate
from rlm_ray.types.json import JsonObject
from rlm_ray.types.run import Coverage, Failure, Verified
from rlm_ray.types.usage import RunUsage, RunUsageRecord, UsageRecord

#: Sentences on how sure an answer is that are printed.
MAX_SURE = 10
#: Different refused acts that are printed.
MAX_DENIED = 10
#: Objects with replaced bytes that are named.
MAX_REPLACED = 5
_REPLACED = ("byte that is no text is shown as", "bytes that are no text are shown as")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def safe(text: str) -> str:
    """Return a text without control characters, but for line ends and tabs.

    Examples
    --------
    >>> safe("red \\x1b[31malert\\x07")
    'red [31malert'
    """
    return _CONTROL.sub("", text)


def value_text(value: Any) -> str:
    """Return an answer's value for a person: a text as it is, else indented JSON."""
    return safe(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2))


def summary(answer: Answer, console: Console) -> None:
    """Print what an answer cost and what is to be known about it, to stderr."""
    usage = answer.usage
    dollars = "price unknown" if usage["usd"] is None else f"${usage['usd']:.4f}"
    lines = [f"{_state(answer)}: {counted(answer.turns, 'turn')}, {spent_text(usage)}, {dollars}, {usage['seconds']:.1f} s"]
    lines += coverage_lines(answer.coverage)
    if answer.message:
        lines.append(answer.message)
    lines += failure_lines(answer.failures)
    lines += [f"how sure: {item['sentence']}" for item in answer.sure[:MAX_SURE]]
    if answer.refused:
        refused = counted(len(answer.refused), "citation was", "citations were")
        lines.append(f"{refused} refused: the quote is not in the record, or there is no such record")
    if answer.isolation != "strict":
        lines.append(
            f"isolation {answer.isolation}: root code ran {'without walls' if answer.isolation == 'none' else 'behind fewer walls'}"
        )
    if any(answer.events.values()):
        lines += security(answer.events, answer.denied)
    lines += [f"run: {answer.run}"] if answer.run else []
    for text in lines:
        console.print(Text(safe(text)), soft_wrap=True)


def failure_lines(failures: Sequence[Failure]) -> list[str]:
    """Return the lines that say what could not be read, and what failed that the answer may rest on.

    Examples
    --------
    >>> failure_lines([{"verb": "llm_each", "reason": "llm_each failed on 2 of 9: no such model"}])
    ['1 verb failed on what the answer may rest on:', '  llm_each failed on 2 of 9: no such model']
    """
    shards = [f"{item['object']}: {item['reason']}" for item in failures if "object" in item]
    verbs = [item["reason"] for item in failures if "verb" in item]
    unread = counted(len(shards), "shard could not be read and is", "shards could not be read and are")
    lines: list[str] = []
    heads = (f"{unread} not part of the answer:", f"{counted(len(verbs), 'verb')} failed on what the answer may rest on:")
    for found, head in zip((shards, verbs), heads, strict=True):
        lines += [head, *(f"  {text}" for text in found[:10])] if found else []
        lines += [f"  … and {len(found) - 10:,} more"] if len(found) > 10 else []
    return lines


def _state(answer: Answer) -> str:
    state = "answered" if answer.complete else "answered in part" if answer.answered else "not answered"
    return state if answer.stop_reason == "answered" else f"{state} ({answer.stop_reason})"


_CLASS_LABELS: tuple[tuple[Literal["read_by_model", "read_by_code", "excluded", "not_read"], str], ...] = (
    ("read_by_model", "by a model"),
    ("read_by_code", "by code alone"),
    ("excluded", "excluded by statistics"),
    ("not_read", "not read"),
)


def coverage_lines(coverage: Coverage) -> list[str]:
    """Return the lines that say what was read, and by whom.

    Examples
    --------
    >>> classes = {"read_by_model": 100, "read_by_code": 900, "excluded": 0, "not_read": 0}
    >>> coverage_lines({"shards": 2, "bytes": {"total": 1000} | classes, "records": {"total": None, "read_by_model": 3}})
    ['touched: 100 B (10.0 %, 3 records) by a model, 900 B (90.0 %) by code alone, of 1.0 KB']
    >>> shown = {"calls": 2, "records": 3, "characters": 40, "derived": {"calls": 0, "records": 0, "characters": 0}}
    >>> records = {"total": 30, "read_by_model": 3}
    >>> coverage_lines({"shards": 2, "bytes": {"total": 100} | classes, "records": records, "shown": shown})[0]
    'shown to a model: 40 characters of 3 records (10.0 % of 30), in 2 sub-calls'
    """
    if not coverage.get("shards") or not isinstance(coverage["bytes"], dict):  # one of an earlier version
        return []
    total = coverage["bytes"]["total"]
    parts = []
    for name, label in _CLASS_LABELS:
        count, records = coverage["bytes"][name], coverage["records"].get(name)
        if count:
            known = "" if records is None else f", {counted(records, 'record')}"
            parts.append(f"{size(count)} ({100 * count / max(1, total):.1f} %{known}) {label}")
    lines = shown_lines(coverage)
    lines.append(f"touched: {', '.join(parts)}, of {size(total)}")
    replaced = coverage.get("replaced", [])
    lines += [f"  {counted(item['bytes'], *_REPLACED)} \ufffd in {item['object']}" for item in replaced[:MAX_REPLACED]]
    if len(replaced) > MAX_REPLACED:
        lines.append(f"  … and in {counted(len(replaced) - MAX_REPLACED, 'other object')}")
    for item in coverage.get("unparsed", [])[:MAX_REPLACED]:
        cut = f"; {counted(item['cut'], 'event was', 'events were')} cut" if item["cut"] else ""
        lines.append(f"  {counted(item['records'], 'record')} without a known format in {item['object']}{cut}")
    return lines


def shown_lines(coverage: Coverage) -> list[str]:
    """Return the lines that say how many characters sub-calls were shown, and of what.

    Examples
    --------
    >>> shown_lines({"unattributed": {"calls": 1, "characters": 7}})
    ["shown to a model: 7 characters that are no record's, in 1 sub-call"]
    """
    shown, parts = coverage.get("shown"), list[str]()
    every = coverage["records"]["total"] if "records" in coverage else None
    amounts = [(shown, "of"), (shown["derived"], "that code or a model made of")] if shown is not None else []
    for amount, what in amounts:
        if amount["characters"]:
            share = f" ({100 * amount['records'] / every:.1f} % of {every:,})" if every else ""
            about = f"{what} {counted(amount['records'], 'record')}{share}"
            parts.append(f"{counted(amount['characters'], 'character')} {about}, in {counted(amount['calls'], 'sub-call')}")
    text = coverage.get("unattributed")
    if text is not None and text["characters"]:
        about = counted(text["characters"], "character that is", "characters that are")
        parts.append(f"{about} no record's, in {counted(text['calls'], 'sub-call')}")
    if not parts:
        nothing = "shown to a model: nothing in sub-calls; the root model saw what its code printed"
        return [nothing] if shown is not None else []
    return [f"shown to a model: {parts[0]}", *(f"  besides, {part}" for part in parts[1:])]


def security(events: dict[str, int], denied: dict[str, int]) -> list[str]:
    """Return the lines that say what root code tried and was refused.

    Examples
    --------
    >>> security({"denials": 3, "restarts": 0}, {"open /etc/passwd": 3})
    ['security events: denials 3', '  denied: open /etc/passwd (3)']
    """
    lines = ["security events: " + ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in events.items() if count)]
    lines += [f"  denied: {what} ({count:,})" for what, count in list(denied.items())[:MAX_DENIED]]
    if len(denied) > MAX_DENIED:
        lines.append(f"  … and {counted(len(denied) - MAX_DENIED, 'other')}")
    return lines


def corpus_text(info: JsonObject) -> str:
    """Return what `inspect` prints of one corpus."""
    return safe(repr(Description({key: value for key, value in info.items() if value not in (None, [], {})})))


def audited_lines(fail_on: str | None, audited: Any) -> list[str]:
    """Return what is said of a job beside its answer."""
    checked = audited.checked
    lines = [f"findings: {len(checked.standing):,}{audited.statuses}"]
    if checked.rejected:
        lines.append(f"rejected: {len(checked.rejected):,}, since they are not what the record says:")
        lines += [f"  {item['reason']}" for item in checked.rejected[:10]]
        if len(checked.rejected) > 10:
            lines.append(f"  … and {len(checked.rejected) - 10:,} more")
    if fail_on is not None:
        new = "new " if audited.statuses else ""
        lines.append(f"{counted(len(audited.failing), f'{new}finding')} with {fail_on}")
    if audited.broken and audited.broken != audited.answer.message:  # a program's failure is said with the answer
        lines.append(audited.broken)
    lines += [f"{name}: {uri}" for name, uri in audited.written.items()]
    return [safe(line) for line in lines]


def estimate_text(estimate: Estimate) -> str:
    """Return what `ask --dry-run` prints."""
    lines = [
        f"{name}: {counted(item['objects'], 'object')}, {size(item['bytes'])}, {'' if item['records_exact'] else 'about '}"
        f"{counted(item['records'], 'record')}, about {counted(item['tokens'], 'token')} "
        f"({counted(item['sampled'], 'record')} sampled)"
        for name, item in estimate["corpora"].items()
    ]
    lines.append("to have a model read all of it once:")
    rows = [("llm_map over chunks", estimate["ways"]["llm_map"]), ("llm_each over records", estimate["ways"]["llm_each"])]
    for name, way in [*rows, ("the root model beside", estimate["root"])]:
        lines.append(f"  {name}: about {spent_text(way)}, {dollars_text(way['usd'])}")
    limits = [
        f"${value:g}" if name == "usd" else counted(value, name.removesuffix("s"))
        for name, value in dict[str, Any](estimate["limits"]).items()
        if value is not None
    ]
    lines.append(f"limits: {', '.join(limits)}")
    if estimate["enough"]:
        lines.append(f"the limits reach for: {', '.join(estimate['enough'])}")
    else:
        lines.append("the limits do not reach for reading all of it: narrow first, or raise them")
    lines.append("No model was called.")
    return safe("\n".join(lines))


def spent_text(usage: UsageRecord | RunUsageRecord | RunUsage | Cost) -> str:
    """Return calls and tokens."""
    tokens = usage["prompt_tokens"] + usage["completion_tokens"]
    return f"{counted(usage['calls'], 'call')}, {counted(tokens, 'token')}"


def dollars_text(usd: float | None) -> str:
    """Return dollars as people write them."""
    return "price unknown" if usd is None else f"${usd:.4f}"


def verified_text(verified: Verified) -> str:
    """Return what `rlm-ray verify` prints."""
    found = verified["difference"]
    if found is None:
        return f"the same: {counted(verified['cells'], 'cell')} of {verified['run']}"
    where = f"turn {found['cell'].replace('.', ', cell ')}" + ("" if found["call"] == "0" else f" of call {found['call']}")
    return safe(
        f"{where}: the {found['part']} differs, after {counted(verified['cells'], 'cell that was', 'cells that were')} the same\n"
        f"logged:\n{value_text(found['logged'])}\nreplayed:\n{value_text(found['replayed'])}"
    )
