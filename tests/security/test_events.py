"""Security events from the sandbox to the answer: summed, kept over a resume, told by name."""

from __future__ import annotations

from rlm_ray.recursion.loop import loop, recovery
from rlm_ray.sandbox.outside import counts


def test_a_resumed_run_counts_on():
    entries = [
        recovery.entry_of(loop.Started(), "", system="s", task="t", questions_unread=False),
        recovery.entry_of(loop.Replied("```repl\n1\n```"), ""),
    ]
    for number in (1, 2):
        events = {"denials": number, "denied: os.kill": number}
        entries.append(
            recovery.entry_of(
                loop.CellDone("1\n", None, requests=0), "", cell=f"1.{number}", code="1", snapshot=1, lost=[], events=events
            )
        )
    past = recovery.replay(entries[:3], 1_000, 3.0, 10)
    assert past is not None
    assert past.events == {"denials": 1, "denied: os.kill": 1}


def test_kinds_are_bounded_and_lies_are_not_counted():
    events = counts.fresh()
    counts.add_denials(events, {f"open /{number}": 1 for number in range(1_000)})
    counts.add_denials(events, {"x\x1b[31m": 1, "huge": 10**30, "negative": -1, "true": True})
    counts.add_denials(events, ["open"])
    totals, denied = counts.split(events)
    assert totals == {"denials": counts.MAX_DENIED + 1, "restarts": 0, "protocol_errors": 0}
    assert len(denied) < counts.MAX_DENIED
    assert not any("\x1b" in what for what in denied)


def test_counts_of_many_sandboxes_are_summed_by_name():
    summed = counts.add({"denials": 1, "denied: os.kill": 1}, {"denials": 2, "denied: os.kill": 1, "denied: os.fork": 1})
    assert counts.split(summed) == ({"denials": 3}, {"os.kill": 2, "os.fork": 1})
