"""The arena: what root code must not touch, code that tries, and the facts, looked at from outside.

Run as a program, under whatever user: ``python -m tests.security.arena LEVEL`` prints one JSON line for each
snippet, with every breach that was seen. It needs nothing of pytest, so that a test can start it as another user.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import resource
import secrets
import select
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlm_ray.sandbox.outside.events import CellDone, Event, Limits, Request, Restarted
from rlm_ray.sandbox.outside.host import Sandbox
from rlm_ray.sandbox.outside.process import launch
from tests.security.snippets import files, network, processes, protocol, resources, writing
from tests.security.snippets import secrets as secret_things

KINDS = {
    "secrets": secret_things,
    "files": files,
    "writing": writing,
    "network": network,
    "processes": processes,
    "resources": resources,
    "protocol": protocol,
}
#: Kinds that try to break the sandbox itself.
BREAKING = {"resources", "protocol"}
#: Snippets that follow each other in one sandbox, over its restarts: what one leaves behind can only help the next.
SHARED = 25
SHARED_WHEN_BREAKING = 8
ROOMY = Limits(soft_seconds=15.0, wall_seconds=30.0, requests=400, memory=2 << 30, output_chars=20_000, grace_seconds=1.0)
TIGHT = Limits(soft_seconds=0.25, wall_seconds=8.0, requests=400, memory=192 << 20, output_chars=20_000, grace_seconds=0.2)
#: What a sandbox may have resident above its budget: an interpreter with what it starts with.
INTERPRETER = 160 << 20
PATIENCE = 60.0
#: Seconds between two looks at a child that runs.
LOOK = 0.1
#: Threads are counted, and too many end the sandbox, some twenty times a second.
MOST_THREADS = 3_000

SCAFFOLD = """
class Targets:
    pass
def namespace(backend, setup):
    T = Targets()
    vars(T).update(setup["targets"])
    def call(verb, args):
        return backend.call(verb, args)[0]
    def attempt(function, *arguments):
        try:
            value = function(*arguments)
            print("got", value)
            return value
        except Exception as error:
            print(type(error).__name__, error)
    return {"T": T, "call": call, "attempt": attempt}
"""
_VICTIM = (
    "import ctypes, sys\nbuffer = ctypes.create_string_buffer(sys.stdin.readline().strip().encode())\n"
    "print(ctypes.addressof(buffer), flush=True)\nsys.stdin.read()"
)
_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGTERM, signal.SIGIO, signal.SIGURG, signal.SIGCONT)


class Arena:
    """A lake, a home, listeners, a victim and a parent with secrets; all made new by each instance."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="arena-"))
        self.tokens = {
            name: f"canary-{secrets.token_hex(12)}" for name in ("lake", "name", "home", "environ", "memory", "victim", "link")
        }
        self.made = f"made-{secrets.token_hex(6)}"
        self.key = secrets.randbelow(1 << 30) + 1
        os.environ["ARENA_SECRET"] = self.tokens["environ"]
        self.buffer = ctypes.create_string_buffer(self.tokens["memory"].encode())
        self._make_files()
        self._make_listeners()
        self._start_victim()
        self.signals: list[int] = []
        self.handlers = {number: signal.signal(number, lambda number, frame: self.signals.append(number)) for number in _SIGNALS}
        self.nice = os.getpriority(os.PRIO_PROCESS, 0)
        self.outside = self._outside()

    # -- what is put up --------------------------------------------------------------------------------

    def _make_files(self) -> None:
        self.lake, home, scratch = self.folder / "lake", self.folder / "home", self.folder / "scratch"
        for folder in (self.lake, home / ".aws", home / ".config", scratch):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        self.canary = self.lake / f"part-{self.tokens['name']}.csv"
        self.canary.write_text(f"# {self.tokens['lake']}\n")
        (self.lake / "canary_module.py").write_text(f"TOKEN = {self.tokens['lake']!r}\n")
        with sqlite3.connect(self.lake / "base.sqlite") as base:
            base.execute("create table t (a)")
            base.execute("insert into t values (?)", (self.tokens["lake"],))
        base.close()
        for name in (".aws/credentials", ".netrc", ".config/token"):
            (home / name).write_text(self.tokens["home"])
        self.link = self.folder / "link"
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(self.canary)
        self.fifo = self.folder / "pipe"
        self.fifo.unlink(missing_ok=True)
        os.mkfifo(self.fifo)
        self.pipe = os.open(self.fifo, os.O_RDONLY | os.O_NONBLOCK)
        self.descriptor = os.open(self.canary, os.O_RDWR)
        os.set_inheritable(self.descriptor, True)
        with contextlib.suppress(OSError):  # not every file system has attributes
            os.setxattr(self.canary, "user.secret", self.tokens["lake"].encode())
        self.tree = self._tree()

    def _make_listeners(self) -> None:
        self.listeners: dict[str, socket.socket] = {}

        def listen(name: str, family: int, kind: int, address: Any) -> socket.socket:
            listener = socket.socket(family, kind)
            listener.bind(address)
            if kind != socket.SOCK_DGRAM:
                listener.listen()
            listener.setblocking(False)
            self.listeners[name] = listener
            return listener

        self.tcp = listen("TCP", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)).getsockname()[1]
        self.udp = listen("UDP", socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)).getsockname()[1]
        try:
            self.tcp6 = listen("TCP over IPv6", socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0)).getsockname()[1]
        except OSError:
            self.tcp6 = self.tcp  # no IPv6 here
        listen("path socket", socket.AF_UNIX, socket.SOCK_STREAM, str(self.folder / "stream"))
        listen("path datagrams", socket.AF_UNIX, socket.SOCK_DGRAM, str(self.folder / "dgram"))
        listen("path packets", socket.AF_UNIX, socket.SOCK_SEQPACKET, str(self.folder / "packets"))
        listen("abstract socket", socket.AF_UNIX, socket.SOCK_STREAM, f"\0{self.made}-stream")
        listen("abstract datagrams", socket.AF_UNIX, socket.SOCK_DGRAM, f"\0{self.made}-dgram")
        self.free_port = _port_that_nobody_is_given()

    def _start_victim(self) -> None:
        self.victim = subprocess.Popen(
            [sys.executable, "-c", _VICTIM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, text=True
        )
        assert self.victim.stdin is not None
        assert self.victim.stdout is not None
        self.victim.stdin.write(self.tokens["victim"] + "\n")
        self.victim.stdin.flush()
        self.victim_address = int(self.victim.stdout.readline())
        self.victim_facts = self._victim_facts()

    def targets(self) -> dict[str, Any]:
        """What `T` names. No token is among it, but for the name of the canary file: names may be listed, not told."""
        return {
            "canary": str(self.canary_alias()),
            "lake": str(self.lake),
            "home": str(self.folder / "home"),
            "scratch": str(self.folder / "scratch"),
            "token_file": str(self.folder / "home" / ".config" / "token"),
            "link": str(self.link),
            "fifo": str(self.fifo),
            "descriptor": self.descriptor,
            "made": self.made,
            "key": self.key,
            "parent": os.getpid(),
            "parent_address": ctypes.addressof(self.buffer),
            "victim": self.victim.pid,
            "victim_address": self.victim_address,
            "tcp": self.tcp,
            "tcp6": self.tcp6,
            "udp": self.udp,
            "free_port": self.free_port,
            "unix": str(self.folder / "stream"),
            "dgram": str(self.folder / "dgram"),
            "seqpacket": str(self.folder / "packets"),
            "abstract": f"{self.made}-stream",
            "abstract_dgram": f"{self.made}-dgram",
        }

    def canary_alias(self) -> Path:
        """A second name of the lake's file, without a token in it."""
        alias = self.lake / "part-0.csv"
        if not alias.exists():
            os.link(self.canary, alias)
            self.tree = self._tree()
        return alias

    def close(self) -> None:
        """Take everything down."""
        self.victim.kill()
        self.victim.communicate()
        for listener in self.listeners.values():
            listener.close()
        os.close(self.pipe)
        os.close(self.descriptor)
        os.environ.pop("ARENA_SECRET", None)
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- what is looked at -----------------------------------------------------------------------------

    def breaches(self, said: bytes, pid: int) -> list[str]:
        """Return what has happened that must not: in words, empty when all is as it was."""
        found = [f"{name} token came out" for name, token in self.tokens.items() if token.encode() in said]
        found += [line.strip() for line in said.decode("utf-8", "replace").splitlines() if line.startswith("BREACH")]
        if self._tree() != self.tree:
            found.append("the lake, the home or the scratch folder has changed")
        if self._outside() != self.outside:
            found.append("something was left on this machine")
        found += self._heard()
        if self._victim_facts() != self.victim_facts:
            found.append("the victim was harmed")
        if self.signals:
            found.append(f"the parent got signals {sorted(set(self.signals))}")
        if os.getpriority(os.PRIO_PROCESS, 0) != self.nice or self.buffer.value.decode() != self.tokens["memory"]:
            found.append("the parent was changed")
        return found + (_processes_of(pid) if pid else [])

    def repair(self) -> None:
        """Put up again what a snippet has broken, where there are no walls."""
        self.signals.clear()
        self._heard()
        self.buffer.value = self.tokens["memory"].encode()
        self.nice = os.getpriority(os.PRIO_PROCESS, 0)
        self.victim.kill()
        self.victim.communicate()
        self._start_victim()
        os.close(self.pipe)
        os.close(self.descriptor)
        for name in ("/dev/shm", "/tmp", "/var/tmp", "/"):
            Path(name, self.made).unlink(missing_ok=True)
        ipc = ctypes.CDLL(None)
        ipc.shmctl(ipc.shmget(self.key, 0, 0), 0, None)
        ipc.msgctl(ipc.msgget(self.key, 0), 0, None)
        ipc.semctl(ipc.semget(self.key, 0, 0), 0, 0)
        self._make_files()
        self.canary_alias()
        self.outside = self._outside()

    def _tree(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for path in sorted(self.folder.rglob("*")):
            facts = path.lstat()
            content = b""
            if stat.S_ISREG(facts.st_mode):
                descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
                content = os.read(descriptor, 1 << 20)
                os.close(descriptor)
            try:
                attributes = {
                    name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
                }
            except OSError:
                attributes = {}
            links = facts.st_nlink
            found[str(path)] = (
                facts.st_mode,
                facts.st_uid,
                links,
                facts.st_mtime_ns,
                hashlib.sha256(content).hexdigest(),
                attributes,
            )
        return found

    def _outside(self) -> list[Any]:
        """Things of the whole machine that a snippet could leave behind, by their names."""
        places = [
            name for name in ("/tmp", "/dev/shm", "/var/tmp", "/", os.path.dirname(os.__file__)) if Path(name, self.made).exists()
        ]
        ipc = [_key_in(f"/proc/sysvipc/{kind}", self.key) for kind in ("shm", "msg", "sem")]
        try:
            keys = self.made in Path("/proc/keys").read_text()
        except OSError:
            keys = False
        return [places, ipc, keys, os.uname().nodename, self.made in Path("/proc/self/mounts").read_text()]

    def _victim_facts(self) -> Any:
        pid = self.victim.pid
        if self.victim.poll() is not None:
            return "dead"
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return (
            "stopped" if state in "Tt" else "running",
            os.getpriority(os.PRIO_PROCESS, pid),
            sorted(os.sched_getaffinity(pid)),
            os.sched_getscheduler(pid),
            resource.prlimit(pid, resource.RLIMIT_NOFILE),
        )

    def _heard(self) -> list[str]:
        heard = []
        for name, listener in self.listeners.items():
            try:
                if listener.type == socket.SOCK_DGRAM:
                    heard.append(f"{len(listener.recv(65536))} bytes over {name}")
                else:
                    listener.accept()[0].close()
                    heard.append(f"a connection over {name}")
            except BlockingIOError:
                continue
        try:
            piped = os.read(self.pipe, 65536)
        except BlockingIOError:
            piped = b""
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", self.free_port)) == 0:
                heard.append("a port is listened on")
        return heard + ["bytes through the named pipe"] * bool(piped)


def _port_that_nobody_is_given() -> int:
    """Return a free port below those that Linux gives out by default: servers of tests beside this one do not get it."""
    for port in range(20_000 + os.getpid() % 5_000, 32_000):
        with socket.socket() as free:
            try:
                free.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("No port between 20,000 and 32,000 is free.")


def _key_in(name: str, key: int) -> bool:
    try:
        return any(line.split()[:1] == [str(key)] for line in Path(name).read_text().splitlines())
    except OSError:
        return False


def _processes_of(pid: int) -> list[str]:
    """Processes that a sandbox has started: of its session, or its children."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == pid:
            continue
        try:
            fields = Path(f"/proc/{entry}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        state, parent, group, session = fields[0], *map(int, fields[1:4])
        if pid in (parent, group, session) and state not in "ZX":
            found.append("a process was started")
    try:
        group, session = os.getpgid(pid), os.getsid(pid)
    except ProcessLookupError:
        return found
    return found if (group, session) == (pid, pid) else [*found, "the sandbox left its session"]


class Trial:
    """One sandbox in the arena and what came out of it."""

    def __init__(self, arena: Arena, level: Any, limits: Limits) -> None:
        self.said = bytearray()
        self.limits = limits
        self.box = Sandbox({"scaffold_source": SCAFFOLD, "targets": arena.targets()}, level=level, limits=limits)
        self.box.wait_ready()
        self.resident = 0
        self.threads = 0
        self.kept: Any = None
        self.patiently("keep = ['kept', 1]")

    def patiently(self, code: str) -> Event | None:
        """Run a cell of the arena's own: on a busy machine the tight limits of a hostile one could end it before it began."""
        self.box.limits = replace(self.limits, soft_seconds=ROOMY.soft_seconds, grace_seconds=ROOMY.grace_seconds)
        try:
            return self.run(code)
        finally:
            self.box.limits = self.limits

    def run(self, code: str) -> Event | None:
        """Run a cell to its end; None when it does not end."""
        self.box.start_cell(code)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            ends = min(self.box.deadline() or until, time.monotonic() + LOOK)
            select.select([self.box.fileno()], [], [], max(0.0, ends - time.monotonic()))
            self._look()
            for event in self.box.receive():
                if isinstance(event, Request):
                    self.said += json.dumps([event.verb, event.args]).encode() + event.blob
                    self._answer(event)
                    continue
                self.said += repr(event).encode("utf-8")
                self.said += "\n".join([getattr(event, "output", ""), getattr(event, "error", None) or ""]).encode("utf-8")
                if not (isinstance(event, Restarted) and not event.in_cell and self.box.busy):
                    return event
        return None

    def _answer(self, request: Request) -> None:
        if request.verb == "keep":
            self.kept = request.args.get("value")
        if request.verb in ("ping", "keep"):
            self.box.reply(request.id, request.args.get("value"))
        else:
            self.box.reply(request.id, error=("InputError", f"there is no verb {request.verb[:40]!r}", {}))

    def _look(self) -> None:
        try:
            lines = Path(f"/proc/{self.box.pid}/status").read_text(errors="replace").splitlines()
            facts = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
            self.resident = max(self.resident, int(facts["VmHWM"][0]) << 10)
            self.threads = max(self.threads, int(facts["Threads"][0]))
        except (OSError, KeyError, ValueError, IndexError):
            return


def trials(level: str, wanted: list[str]) -> Iterator[dict[str, Any]]:
    """Run every snippet of the wanted kinds and yield what was seen of each."""
    arena = Arena()
    trial: Trial | None = None
    uses = 0
    try:
        for kind in wanted:
            limits, most = (TIGHT, SHARED_WHEN_BREAKING) if kind in BREAKING else (ROOMY, SHARED)
            if kind in BREAKING:
                launch.PRELOADED_EXTRAS = ()  # at level noopen each start would wait for numpy
            for name, code in KINDS[kind].SNIPPETS.items():
                if level == "none" and (kind in BREAKING or name in KINDS[kind].ONLY_BEHIND_WALLS):
                    continue
                if trial is None or trial.limits is not limits or uses >= most or level == "none":
                    if trial is not None:
                        trial.box.close()
                    trial, uses = Trial(arena, level, limits), 0
                uses += 1
                seen = _one(arena, trial, level, kind, name, code)
                yield seen
                if seen["end"] == "NoneType":
                    trial.box.close()
                    trial = None
    finally:
        if trial is not None:
            trial.box.close()
        arena.close()


def _one(arena: Arena, trial: Trial, level: str, kind: str, name: str, code: str) -> dict[str, Any]:
    began = time.monotonic()
    trial.said.clear()
    trial.resident = trial.threads = 0
    event = trial.run(code)
    breaches = arena.breaches(bytes(trial.said) + trial.box.snapshot, trial.box.pid)
    if event is not None:
        _ask_for_kept(trial)
    if event is None:
        breaches.append("the cell never ended")
    else:
        breaches += _bounds(trial, event, level)
    if trial.kept != ["kept", 1]:
        breaches.append("the earlier variable is lost")
    if breaches and level == "none":
        arena.repair()
    return {
        "kind": kind,
        "name": name,
        "breaches": breaches,
        "end": type(event).__name__,
        "events": trial.box.events,
        "said": _tail(trial),
        "seconds": round(time.monotonic() - began, 3),
    }


_ASK = "call('keep', {'value': keep})"


def _ask_for_kept(trial: Trial) -> None:
    """Ask for the earlier variable; once more when the lie of the cell before ended this one."""
    trial.kept = None
    event = trial.patiently(_ASK)
    if isinstance(event, Restarted):
        trial.patiently(_ASK)


def _bounds(trial: Trial, event: Event, level: str) -> list[str]:
    found = []
    if level != "none":
        adjusted = Path(f"/proc/{trial.box.pid}/oom_score_adj")
        if adjusted.exists() and adjusted.read_text().strip() != "1000":
            found.append("the oom score was changed")
        if trial.threads > MOST_THREADS:
            found.append(f"{trial.threads} threads")
    if trial.resident > trial.limits.memory + INTERPRETER:
        found.append(f"{trial.resident >> 20} MB resident")
    if isinstance(event, CellDone) and len(event.output) > trial.limits.output_chars + 200:
        found.append(f"{len(event.output)} characters of output")
    return found


def _tail(trial: Trial) -> str:
    return bytes(trial.said[-400:]).decode("utf-8", "replace")


def main() -> None:
    """Print one JSON line for each snippet of a level, of all kinds or of those named."""
    level, *wanted = sys.argv[1:]
    for seen in trials(level, wanted or list(KINDS)):
        print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    main()
