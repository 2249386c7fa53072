"""A coverage-guided fuzzer of the parent's side: frames, their order, snapshots, answers, results of functions.

    python -m tests.sandbox.fuzz_parent -max_total_time=60 -len_control=0 -max_len=600

Needs atheris. Takes libFuzzer's options; ends with 0 when nothing but the errors that are promised came out.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import Any

#: Instrumented when they are imported, by `main` alone: importing this module changes nothing.
MODULES = [
    "wire.channel",
    "wire.shared_output",
    "outside.counts",
    "outside.events",
    "outside.functions",
    "outside.host",
    "outside.saved_variables",
    "outside.store",
    "outside.process.clock",
    "outside.process.connection",
]
KINDS = ["ready", "set", "refused", "failed", "call", "done", "snapshot", "restoring", "restored", "x"]
FIELDS = ["walls", "error", "why", "verb", "args", "id", "n", "output", "final", "denied", "cut", "names", "new", "lost", "name"]
VALUES = [
    None,
    True,
    0,
    1,
    -1,
    1 << 70,
    0.5,
    "a",
    "\\ud800",
    "json",
    "records",
    [],
    {},
    ["a"],
    [["a", 3]],
    [["a", -1]],
    {"a": 2},
    {"b": {}},
]


def header(found: Any) -> object:
    """Make a header: one of a known kind with some fields, as a rule."""
    made = {"t": found.PickValueInList(KINDS)}
    for _ in range(found.ConsumeIntInRange(0, 5)):
        made[found.PickValueInList(FIELDS)] = found.PickValueInList(VALUES)
    return made


def main() -> None:
    """Fuzz until libFuzzer has enough."""
    import atheris

    with atheris.instrument_imports(include=["rlm_ray.sandbox"]):
        parts = {name.rpartition(".")[2]: importlib.import_module(f"rlm_ray.sandbox.{name}") for name in MODULES}
    from rlm_ray.errors import ProtocolError, SandboxError
    from tests.sandbox.liars import GOOD, Liars, check, frame

    channel, counts, events, functions, host, shared_output, store = (
        parts[name] for name in ("channel", "counts", "events", "functions", "host", "shared_output", "store")
    )
    limits = events.Limits(requests=3, output_chars=100)
    liars = Liars()
    host.pool = lambda: liars

    def said(found: Any) -> bytes:
        way = found.ConsumeIntInRange(0, 3)
        if way == 0:
            return bytes(found.ConsumeBytes(found.ConsumeIntInRange(1, 40)))
        if way == 1:
            head, blob = found.ConsumeBytes(found.ConsumeIntInRange(0, 60)), found.ConsumeBytes(found.ConsumeIntInRange(0, 20))
            return bytes(channel.PREFIX.pack(len(head), len(blob), found.ConsumeIntInRange(0, 2)) + head + blob)
        return GOOD[0] if way == 2 else frame(header(found), found.ConsumeBytes(found.ConsumeIntInRange(0, 20)))

    def one(data: bytes) -> None:
        found = atheris.FuzzedDataProvider(data)
        with contextlib.suppress(ProtocolError):
            text = found.ConsumeBytes(found.ConsumeIntInRange(0, 40))
            functions.entries_of({"t": "results", "first": 0}, text, 0, 2, boolean=True)
        shared_output.text_of(found.ConsumeBytes(16).ljust(shared_output.SIZE, b"y"))
        before = store.pack({"a": b"1", "b": b"22"}) if found.ConsumeBool() else None
        box = host.Sandbox({}, level="strict", limits=limits, snapshot=before)
        try:
            for _ in range(found.ConsumeIntInRange(1, 20)):
                what = found.ConsumeIntInRange(0, 9)
                if what == 0 and not box.busy:
                    box.start_cell("1")
                elif what == 1:
                    box.interrupt()
                elif what == 2:
                    liars.now.mouth.close()
                else:
                    liars.now.say(said(found))
                for event in box.receive():
                    check(event)
                    if isinstance(event, events.Request):
                        box.reply(event.id, {"value": 1})
                store.unpack(box.snapshot)
                counts.split(box.events)
                channel.dumps(box.events)
        except SandboxError:
            pass  # what is promised of a child that dies again and again
        finally:
            box.close()

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
