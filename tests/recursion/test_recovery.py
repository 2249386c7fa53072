"""A log leads back to where its call was, also one that an older version wrote."""

from __future__ import annotations

import pytest

from rlm_ray.recursion.loop import loop, recovery

EVENTS = [loop.LimitReached("time", "over"), loop.Unaffordable("spent"), loop.ProgramEnded("failed"), loop.Replied("hi")]


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_comes_back_as_it_was(event: loop.Event) -> None:
    assert recovery.event_of(recovery.entry_of(event, "Left: 3 calls.")) == event


@pytest.mark.parametrize("event", EVENTS[:3])
def test_logs_of_older_versions_are_read(event: loop.Event) -> None:
    entry = recovery.entry_of(event, "")
    entry["given"]["said"] = entry["given"].pop("message")
    assert recovery.event_of(entry) == event
