"""A run as one HTML file: nothing is loaded from outside, and the page forbids it. All text of a corpus or a model is escaped."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
import os
import re
from importlib.resources import files
from pathlib import Path
from typing import Any, TypedDict

from rlm_ray import __version__
from rlm_ray.handle.values import size
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.report.gathering import GatheredRun, ShownShards, gather
from rlm_ray.report.pictures import CLASSES, WORDS, cost_by_depth, shard_map, timeline
from rlm_ray.report.terminal import shown_lines
from rlm_ray.text import counted
from rlm_ray.types.run import AnswerRecord
from rlm_ray.types.usage import ModelUsage

#: Turns of these calls stand in the page itself; those of the others are drawn when they are opened.
_DRAWN = ("0",)
#: Height of the frame in a notebook.
HEIGHT = 720
_SPECIAL = re.compile("[&<>\u2028\u2029]")


class ShownTable(TypedDict):
    """An answer that is a table: the number of its rows, and the result that holds them."""

    rows: int
    result: str | None


class ShownReading(TypedDict):
    """How much of a corpus was read; `parts` is text for each class."""

    shards: int
    failed: int
    size: str
    parts: list[str]


class Report(str):
    """A run as HTML, complete in itself. A notebook shows it in a frame of its own."""

    __slots__ = ()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it to a file and return its path."""
        file = Path(path)
        file.write_text(self, "utf-8")
        return file

    def __repr__(self) -> str:
        return f"<Report of {len(self):,} characters: .save('report.html') writes it>"

    def _repr_html_(self) -> str:
        # the frame's content is a document of its own, which neither sees the notebook nor reaches any server
        frame = f'sandbox="allow-scripts allow-downloads" style="width:100%;height:{HEIGHT}px;border:0" title="the report of a run"'
        return f'<iframe {frame} srcdoc="{html.escape(self)}"></iframe>'


def report(run: str, base: str | None = None) -> Report:
    """Return the report of a run. Reads its directory, in bounded amounts; calls no model.

    Parameters
    ----------
    run, base : str
        A run directory, or an id and the folder that it is under.

    Returns
    -------
    Report
        A str of HTML, complete in itself.

    Raises
    ------
    RunNotFound
        There is no such run.
    """
    return Report(page(gather(RunDirectory.find(run, base))))


def page(gathered: GatheredRun) -> str:
    """Return the page of a gathered run."""
    style, script = _asset("report.css"), _asset("report.js")
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(script)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    results, settings = gathered["results"], gathered["about"].get("settings", {})
    below = [call for call in gathered["calls"] if call["id"] not in _DRAWN]
    text: str = _template().render(
        version=__version__,
        policy=policy,
        style=style,
        script=script,
        run=gathered["run"],
        about=gathered["about"],
        answer=gathered["answer"],
        validated=gathered["validated"],
        value=_value(gathered["answer"]),
        table=_table(gathered["answer"]),
        numbers=_numbers(gathered),
        shown=shown_lines(gathered["answer"]["coverage"]) if gathered["answer"] is not None else [],
        quoted=_quoted(gathered["answer"]) if gathered["answer"] is not None else "",
        root=gathered["calls"][0] if gathered["calls"] else None,
        below=[{name: call[name] for name in ("id", "depth", "question", "outcome")} for call in below],
        below_data={call["id"]: _json(call) for call in below},
        results=results,
        results_data={name: _json(item) for name, item in results.items()},
        maps={name: shard_map(item["shares"], item["names"]) for name, item in gathered["shards"].items() if item["shares"]},
        shards={name: _read(item) for name, item in gathered["shards"].items()},
        legend=[(name, WORDS[name]) for name in CLASSES] + [("failed", "failed")],
        unreadable=[failure for item in gathered["shards"].values() for failure in item["unreadable"]],
        timeline=timeline(gathered["spans"], gathered["seconds"], gathered["leaves"]) if gathered["spans"] else "",
        depths=cost_by_depth(_by_model(gathered["answer"])) if len(_by_model(gathered["answer"])) > 1 else "",
        settings={name: value for name, value in sorted(settings.items()) if value not in (None, {}, [])},
    )
    return text


@functools.cache
def _asset(name: str) -> str:
    return files("rlm_ray.report").joinpath("templates", name).read_text("utf-8")


@functools.cache
def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["counted"] = counted
    return environment.from_string(_asset("report.html"))


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _json(value: Any) -> str:
    """JSON that cannot end the element that it stands in."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    return _SPECIAL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _value(answer: AnswerRecord | None) -> str:
    if answer is None or answer["value"] is None:
        return ""
    value = answer["value"]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


def _by_model(answer: AnswerRecord | None) -> list[ModelUsage]:
    return list(answer["usage"].get("by_model") or ()) if answer is not None else []


def _table(answer: AnswerRecord | None) -> ShownTable | None:
    """Of an answer that is a table: how many rows, and the result that they are in."""
    value = answer["value"] if answer is not None else None
    if not isinstance(value, dict) or set(value) != {"table", "info", "rows"}:
        return None
    return {"rows": value["rows"], "result": value["table"][0].get("id")}


def _read(item: ShownShards) -> ShownReading:
    """Return how much of a corpus was read, as text."""
    known = [shares for shares in item["shares"] if shares is not None]
    total = sum(map(sum, known))
    parts = [(name, sum(shares[at] for shares in known)) for at, name in enumerate(CLASSES)]
    return {
        "shards": len(item["shares"]),
        "failed": len(item["shares"]) - len(known),
        "size": size(item["nbytes"]),
        "parts": [f"{size(count)} ({count / total:.1%}) {WORDS[name]}" for name, count in parts if count],
    }


def _quoted(answer: AnswerRecord) -> str:
    """What is known of the quotes of an answer's citations. Versions that refused none did not look for them.

    Examples
    --------
    >>> _quoted({"citations": [{"quote": "a"}, {"quote": "b"}, {"address": "…"}], "refused": []})
    '; each of the 2 quotes was found in its record'
    >>> _quoted({"citations": [{"address": "…"}], "refused": []})
    '; no quote was given'
    """
    quotes = sum(bool(item.get("quote")) for item in answer["citations"])
    if "refused" not in answer:
        return ""
    if quotes < 2:
        return "; the quote was found in its record" if quotes else "; no quote was given"
    return f"; each of the {quotes:,} quotes was found in its record"


def _numbers(gathered: GatheredRun) -> list[tuple[str, str]]:
    answer = gathered["answer"]
    if answer is None:
        return [("seconds so far", f"{gathered['seconds']:,.1f}")]
    usage = answer["usage"]
    return [
        ("model calls", f"{usage['calls']:,}"),
        ("tokens in", f"{usage['prompt_tokens']:,}"),
        ("of them cached", f"{usage['cached_tokens']:,}"),
        ("tokens out", f"{usage['completion_tokens']:,}"),
        ("cost", "unknown" if usage["usd"] is None else f"${usage['usd']:,.4f}"),
        ("seconds", f"{usage['seconds']:,.1f}"),
        ("turns", f"{answer['turns']:,}"),
    ]
