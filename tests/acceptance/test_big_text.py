"""A text corpus far larger than what a process may use: opened, sampled, counted and searched, in bounded memory.

300 MB by default; 2 GB with RLM_RAY_TEST_FULL=1. And a run of 30 turns with large outputs, whose messages stay bounded.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest

import rlm_ray
from tests.acceptance.conftest import scripted

MEGABYTES = 2_000 if os.environ.get("RLM_RAY_TEST_FULL") == "1" else 300
FILES = 4
#: Most that a process may grow.
MOST_MEGABYTES = 300
TURNS = 30


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A folder of logs, and how many lines they have. Every line says its number in its block and file."""
    folder = tmp_path_factory.mktemp("big")
    lines = [f"2026-01-01T00:00:00 INFO host-{n % 97:02d} request {n:07d} served in {n % 1013} ms\n" for n in range(1 << 14)]
    block = "".join(lines).encode()
    blocks = MEGABYTES * 1_000_000 // len(block) // FILES
    for number in range(FILES):
        with (folder / f"part-{number}.log").open("wb") as file:
            file.write(b"2026-01-01T00:00:00 ERROR host-00 the first line of its file\n")
            for _ in range(blocks):
                file.write(block)
    return folder, FILES * (1 + blocks * len(lines))


class MemoryWatch:
    """Looks at this process and all below it, and keeps how much private memory each has gained since it was first seen.

    Anonymous memory: pages of files and of the object store are shared, and the kernel takes them back.
    """

    def __init__(self) -> None:
        self._first: dict[int, int] = {}
        self.grown: dict[int, tuple[int, str]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def _run(self) -> None:
        while not self._over.wait(0.05):
            self._look()

    def _look(self) -> None:
        for pid in _family(os.getpid()):
            with contextlib.suppress(OSError, TypeError):
                status = Path(f"/proc/{pid}/status").read_text()
                kilobytes = int(re.search(r"RssAnon:\s+(\d+)", status)[1])  # type: ignore[index]
                gained = kilobytes - self._first.setdefault(pid, kilobytes)
                if gained >= self.grown.get(pid, (0, ""))[0]:
                    self.grown[pid] = gained, Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:80]

    def largest(self) -> tuple[int, str]:
        """Return the most megabytes that a process has gained, and its command."""
        kilobytes, name = max(self.grown.values())
        return kilobytes >> 10, name


def _family(root: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            fields = Path(f"/proc/{int(entry)}/stat").read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(entry))
    left = [root]
    while left:
        pid = left.pop()
        yield pid
        left += children.get(pid, [])


LOOK = [
    "print(context)\nprint(context.describe(), context.head(2))",
    """
total = context.count()
sampled = context.sample(50, seed=1)
print(total, sampled[:2])""",
    """
errors = context.grep(" ERROR ")
first = [record["_address"] for record in errors]
slow = context.grep(r"served in (?:100[0-9]|101[0-2]) ms")
print(errors.count(), slow.count())""",
    """
hosts = slow.map(lambda record: {"host": record["text"].split()[2]}).count_by("host")
middle = context[total // 2]["text"]
Final = {"total": total, "sampled": len({record["_address"] for record in sampled}), "errors": first, "slow": slow.count(),
         "hosts": sum(hosts.values()), "middle": middle}""",
]


def test_no_process_grows_with_the_corpus(ask, corpus):
    folder, lines = corpus
    with MemoryWatch() as watch:
        answer = ask(rlm_ray.open(str(folder)), LOOK)
    assert answer.complete, answer.message
    assert answer.value["total"] == lines
    assert answer.value["sampled"] == 50
    assert [address.split("@")[0] for address in answer.value["errors"]] == [f"{folder}/part-{n}.log" for n in range(FILES)]
    assert answer.value["slow"] == answer.value["hosts"] == (lines // (1 << 14)) * sum(n % 1013 >= 1000 for n in range(1 << 14))
    assert answer.value["middle"].endswith("ERROR host-00 the first line of its file"), (
        "half of the lines are in front of the third file"
    )
    grown, name = watch.largest()
    print(f"{grown} MB: {name}", sorted(watch.grown.values())[-8:])
    assert grown < MOST_MEGABYTES, name


def test_the_roots_messages_stay_under_their_limit(ray_local, model_server, run_dir, corpus):
    folder, _ = corpus
    cells = [f"print(context[{turn * 1_000} :].text(max_chars=500_000))\nnote_{turn} = 'kept'" for turn in range(1, TURNS)]
    last = """
seen = [turn for turn in range(1, 30) if f"request {(turn * 1_000 - 1) % (1 << 14):07d}" in history]
Final = [note_1, note_29, len(history), seen]"""
    server = model_server(root=scripted([*cells, last]), keep_messages=True)
    settings = server.settings(run_dir=str(run_dir), max_turns=TURNS)
    answer = rlm_ray.ask(rlm_ray.open(str(folder)), "How many?", settings)
    kept, kept_last, history, seen = answer.value
    assert (kept, kept_last) == ("kept", "kept")
    assert answer.turns == TURNS
    requests = server.requests
    assert len(requests) == TURNS
    assert max(request["prompt_tokens"] for request in requests) <= settings.history_tokens
    # the limit was met by folding: all that was said is more than the limit, and code can still read it
    assert history / 4 > settings.history_tokens
    assert seen == list(range(1, TURNS)), "what was folded is whole in `history`"
    messages = requests[-1]["messages"]
    assert "last turn" in messages[-1]["content"]
    assert any("folded" in message["content"] for message in messages)
    assert "characters cut here" in messages[-1]["content"]
    # between foldings messages only grow, so that an endpoint can keep the prefix
    grown = sum(
        after["messages"][: len(before["messages"])] == before["messages"] for before, after in itertools.pairwise(requests)
    )
    assert grown >= TURNS - 6
