"""The shipped audit of logs, with a reader that knows: every trouble is found, and a model reads a few lines of each form."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import rlm_ray
from rlm_ray.audit.running import JobResult
from rlm_ray.testing import ModelServer, each, small_lake
from tests.jobs.jobs import precision_recall, run_job
from tests.jobs.logs import ALERTS, Reader, bgl, is_alert, lines_by_form

pytest.importorskip("drain3", reason="pip install 'rlm-ray[audit]' brings drain3")
KINDS = {"charged twice": "money", "damaged": "data loss", "about to fail": "failing hardware", "nobody can open": "outage"}


def reader(text: str) -> dict[str, str]:
    kind = next((kind for words, kind in KINDS.items() if words in text), None)
    return {"severity": "none" if kind is None else "high", "kind": kind or "other"}


@pytest.mark.parametrize("form", ["text", "parquet"])
def test_every_trouble_is_found_and_few_lines_are_read(model_server: Callable[..., ModelServer], tmp_path: Path, form: str) -> None:
    lake = small_lake(tmp_path / "lake", days=3, events_per_day=200)
    asked: list[str] = []
    server = model_server(leaf=each(lambda text: asked.append(text) or reader(text)), models=("leaf",))
    audited = run_job("log_audit", "logs", getattr(lake, form), tmp_path, server.base_url)
    assert audited.answer.complete, audited.answer
    assert audited.broken == ""
    assert audited.checked.rejected == []
    found: Counter[str] = Counter()
    for finding in audited.checked.standing:
        found[finding["kind"]] += finding["lines"]
        assert finding["first"] <= finding["last"]
        assert sum(int(hour.split()[1]) for hour in finding["timeline"].split(", ") if "more hours" not in hour) <= finding["lines"]
        assert set(finding["hosts"]) <= {"alpha", "beta", "gamma", "delta"}
        assert finding["hosts"] or form == "text"
    expected = Counter(kind for message in lake.gold for words, kind in KINDS.items() if words in message)
    assert found == expected
    assert audited.failing == audited.checked.standing
    assert len(asked) < lake.events / 2  # four hosts, five levels and eight messages are many forms for few lines


@pytest.mark.parametrize(
    ("line", "first", "hosts", "timeline"),
    [
        ("Dec 10 06:55:46 LabSZ sshd[1]: refused", "Dec 10 06:55:46", ["LabSZ"], "Dec 10 06h 1"),
        ("[Sun Dec 04 04:47:44 2005] [error] refused", "Dec 04 04:47:44", [], "Dec 04 04h 1"),
        ("2015-07-29 17:41:44,747 - WARN refused", "2015-07-29 17:41:44", [], "2015-07-29 17h 1"),
        ("081109 203615 148 INFO refused", "081109 203615", [], "081109 20h 1"),
        ("refused", None, [], None),
        ('a "GET / HTTP/1.1" 500 refused', None, [], None),
    ],
)
def test_times_and_hosts_are_read_from_lines(
    model_server: Callable[..., ModelServer], tmp_path: Path, line: str, first: str | None, hosts: list[str], timeline: str | None
) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.log").write_text(line + "\n" + line.replace("refused", "served").replace("500", "200") + "\n")
    leaf = each(lambda text: {"severity": "low" if "refused" in text else "none", "kind": "other"})
    server = model_server(leaf=leaf, models=("leaf",))
    (finding,) = run_job("log_audit", "logs", str(tmp_path / "logs"), tmp_path, server.base_url).checked.standing
    assert (finding["first"], finding["hosts"], finding["timeline"], finding["lines"]) == (first, hosts, timeline, 1)
    assert finding["quote"] == line
    assert ("500" in finding["form"]) == ("500" in line)


def _audit(
    model_server: Callable[..., ModelServer], folder: Path, files: dict[str, list[str]], trouble: Callable[[str], bool]
) -> JobResult:
    (folder / "logs").mkdir()
    for name, lines in files.items():
        (folder / "logs" / name).write_text("\n".join(lines) + "\n")
    leaf = each(lambda text: {"severity": "high" if trouble(text) else "none", "kind": "outage" if trouble(text) else "other"})
    server = model_server(leaf=leaf, models=("leaf",))
    return run_job("log_audit", "logs", str(folder / "logs"), folder, server.base_url)


def test_first_and_last_are_times_and_not_the_order_of_files(model_server: Callable[..., ModelServer], tmp_path: Path) -> None:
    files = {
        "app.log" + (f".{number}" if number else ""): [
            f"2024-01-{20 - number:02d} {hour:02d}:00:00 web1 app: write failed" for hour in (9, 3)
        ]
        for number in range(12)
    }
    (finding,) = _audit(model_server, tmp_path, files, lambda line: "failed" in line).checked.standing
    assert (finding["first"], finding["last"], finding["hosts"]) == ("2024-01-09 03:00:00", "2024-01-20 09:00:00", ["web1"])
    assert finding["lines"] == 24


def test_a_line_that_differs_in_the_word_that_counts_is_a_finding_of_its_own(
    model_server: Callable[..., ModelServer], tmp_path: Path
) -> None:
    """The last pair differs in a word of no list: it is read since the form has few variants."""
    time = "2024-01-05 10:00:00"
    pairs = {
        "web": ('10.0.0.1 - - [05/Jan/2024:10:00:00 +0000] "GET /pay HTTP/1.1" {} 12', "200", "500"),
        "job": (f"{time} web1 nightly backup of the customer database to offsite storage has {{}} run 7", "completed", "failed"),
        "task": (f"{time} web1 worker finished the task cleanup of all old files rc={{}} in 4 ms", "0", "137"),
        "odd": (f"{time} web1 the cooling of rack number two in hall north is {{}} at this hour", "calm", "frobnicated"),
    }
    files = {
        name: [line.format(bad if number == 50 else good) for number in range(100)] for name, (line, good, bad) in pairs.items()
    }
    trouble = [lines[50] for lines in files.values()]
    audited = _audit(
        model_server, tmp_path, files, lambda text: any(word in text for word in ('" 500 ', "failed", "rc=137", "frob"))
    )
    assert audited.checked.rejected == []
    assert sorted((finding["quote"], finding["lines"]) for finding in audited.checked.standing) == sorted(
        (line, 1) for line in trouble
    )


def test_a_message_that_is_an_object_is_read_and_levels_keep_lines_apart(
    model_server: Callable[..., ModelServer], tmp_path: Path
) -> None:
    line = {"time": "2024-01-05T10:00:00Z", "level": "info", "message": "request 5 served"}
    lines = [json.dumps(line)] * 3000 + [
        json.dumps(line | {"message": {"error": "disk full", "volume": number}}) for number in range(5)
    ]
    lines += [json.dumps(line | {"level": "fatal"})]
    audited = _audit(model_server, tmp_path, {"app.jsonl": lines}, lambda text: "disk full" in text or "fatal" in text)
    assert audited.checked.rejected == []
    assert sorted(finding["lines"] for finding in audited.checked.standing) == [1, 5]


def test_no_stream_is_a_host(model_server: Callable[..., ModelServer], tmp_path: Path) -> None:
    lines = [f"2024-01-05T10:00:{number:02d}.123456789Z stderr F payment {number} refused by bank" for number in range(20)]
    audited = _audit(model_server, tmp_path, {"0.log": lines}, lambda line: "refused" in line)
    (finding,) = audited.checked.standing
    assert (finding["hosts"], finding["lines"]) == ([], 20)
    (row,) = rlm_ray.open(audited.written["findings"])
    assert row["hosts"] is None  # a list without members is no text `[]`


@pytest.mark.parametrize(("column", "said"), [("text", "There is no line"), ("level", "holds a log line")])
def test_data_of_another_shape_stops_it(model_server: Callable[..., ModelServer], tmp_path: Path, column: str, said: str) -> None:
    server = model_server(leaf=each(reader), models=("leaf",))
    (tmp_path / "rows.jsonl").write_text(json.dumps({column: " "}) + "\n")
    audited = run_job("log_audit", "logs", str(tmp_path / "rows.jsonl"), tmp_path, server.base_url)
    assert said in audited.broken
    assert audited.written == {}


@pytest.mark.parametrize("errs", [0.0, 0.05], ids=["gold", "noisy"])
def test_real_alerts(
    model_server: Callable[..., ModelServer], tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, errs: float
) -> None:
    """A search for FATAL finds 347 lines; 143 are alerts, in 12 kinds that the operators tagged."""
    lines = bgl(data)
    gold = {number for number, line in enumerate(lines) if is_alert(line)}
    assert {words: sum(words in lines[number] for number in gold) for words in ALERTS} == ALERTS
    knows = Reader(errs)
    server = model_server(leaf=each(knows), models=("leaf",))
    audited = run_job("log_audit", "logs", str(data / "logs" / "text" / "BGL.log"), tmp_path, server.base_url)
    assert audited.answer.complete, audited.answer.message
    forms = lines_by_form(lines, monkeypatch)
    assert all(finding["lines"] == len(forms[finding["form"]]) for finding in audited.checked.standing)
    found = set().union(*(forms[finding["form"]] for finding in audited.checked.standing))
    precision, recall = precision_recall(found, gold)
    fatal = {number for number, line in enumerate(lines) if "FATAL" in line}
    assert (len(fatal), len(gold)) == (347, 143)
    assert precision > precision_recall(fatal, gold)[0]
    assert knows.read < len(lines) / 5
    if errs == 0:
        assert (precision, recall) == (1.0, 1.0)


def test_a_log_over_a_new_year_begins_in_december(model_server: Callable[..., ModelServer], tmp_path: Path) -> None:
    files = {name: [f"{day} 10:00:00 web1 app: write failed" for day in days] for name, days in YEAR.items()}
    (finding,) = _audit(model_server, tmp_path, files, lambda line: "failed" in line).checked.standing
    assert (finding["first"], finding["last"]) == ("Dec 30 10:00:00", "Jan  2 10:00:00")
    assert finding["timeline"] == "Dec 30 10h 1, Dec 31 10h 1, Jan  1 10h 1, Jan  2 10h 1"


YEAR = {"a.log": ["Jan  1", "Jan  2"], "b.log": ["Dec 30", "Dec 31"]}


def test_of_a_long_line_what_decides_is_read_and_what_is_not_read_is_counted(
    model_server: Callable[..., ModelServer], tmp_path: Path
) -> None:
    """The middle of a line of 40,000 characters is read where its words say so; of one above 256 KiB the rest is not."""
    filling = "lorem ipsum dolor " * 1_200
    files = {"a.log": [f"begin {filling} disk failed {filling} end", "all is well"], "b.log": ["x" * (256 << 10) + " disk failed"]}
    audited = _audit(model_server, tmp_path, files, lambda line: "disk failed" in line)
    assert not audited.broken, audited
    assert sorted(finding["lines"] for finding in audited.checked.standing) == [1, 1]
    assert not audited.answer.complete
    (failure,) = audited.answer.failures
    assert (failure["verb"], failure["failed"]) == ("map", 1)
    assert "only the first 262,144 of its 262,156 characters" in failure["error"]
