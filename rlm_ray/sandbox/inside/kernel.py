"""The child process in which root code lives: one namespace and the commands of the parent. Started by `repl.boot`.

Imports the standard library, and of rlm_ray only errors, the corpus's handle, plan and verbs, and parts of this
room. Nothing that happens here is trusted by the parent.
"""

from __future__ import annotations

import builtins
import functools
import json
import signal
import sys
import time
import types
from collections.abc import Callable

from rlm_ray.sandbox.inside import cells, finals, snapshot
from rlm_ray.sandbox.inside.backend import Backend
from rlm_ray.sandbox.inside.link import Interrupts, Link
from rlm_ray.sandbox.inside.output import Capture
from rlm_ray.sandbox.inside.walls import denials
from rlm_ray.sandbox.wire.channel import Header
from rlm_ray.sandbox.wire.shared_output import SharedOutput

TYPE_CHECKING = False  # see rlm_ray/__init__.py
if TYPE_CHECKING:
    from typing import Any

    from rlm_ray.types.json import JsonObject

#: Seconds for the pickling of one variable, and of all of them.
SNAPSHOT_VARIABLE, SNAPSHOT_ALL = 2.0, 6.0
_OVER_TIME = (
    "the cell has computed for {:g} s, its limit (waiting for models does not count). Variables are kept. "
    "Work on a smaller part, or use the corpus's own verbs (count_by, map, aggregate), which run in parallel"
)
#: Bytes that are given back when a cell runs out of memory.
RESERVE = 4 << 20
_MISSING = object()


class Kernel:
    """One namespace, the scaffold in it, and the commands of the parent."""

    def __init__(self, link: Link, interrupts: Interrupts, shared: SharedOutput) -> None:
        self._link = link
        self._interrupts = interrupts
        self._backend = Backend(link, interrupts)
        self._output = Capture(shared)
        module = types.ModuleType("__main__")
        sys.modules["__main__"] = module
        self._namespace: dict[str, Any] = module.__dict__
        self._scaffold: dict[str, Any] = {}
        self._hidden = set(self._namespace) | {"__builtins__"}
        self._keeper = snapshot.Keeper(self._namespace)
        self._warned: set[str] = set()
        self._final: Any = _MISSING
        self._answer: dict[str, Any] = {}
        self._cell = 0
        self._reserve: list[bytearray] = []
        self._builtins = {**vars(builtins), **_usual(), "input": _no_input}

    def serve(self) -> None:
        """Carry out commands until the parent is gone."""
        commands: dict[str, Callable[[Header, bytes], None]] = {
            "setup": self._setup,
            "restore": self._restore,
            "cell": self._run_cell,
        }
        while True:
            header, blob = self._link.command()
            if header["t"] not in commands:
                from rlm_ray.sandbox.inside.tasks.applying import Functions

                self._take_streams()
                commands |= Functions(self._link, self.timed).commands
            commands[header["t"]](header, blob)

    # -- setting up ------------------------------------------------------------------------------------

    def _setup(self, header: Header, blob: bytes) -> None:
        setup = json.loads(blob)
        self._take_streams()
        scaffold: dict[str, Any] = {
            "FINAL": self._set_final,
            "FINAL_VAR": self._set_final_variable,
            "SHOW_VARS": self._show_variables,
            "history": "",
        }
        try:
            scaffold |= _scaffold(self._backend, setup)
        except Exception as error:  # noqa: BLE001 - reported to the parent, which raises it
            self._link.send({"t": "set", "error": f"{type(error).__name__}: {error}"})
            return
        self._scaffold = scaffold
        self._hidden |= {*scaffold, "answer", "Final"}
        fixtures = {f"scaffold {name}": value for name, value in scaffold.items()}
        snapshot.set_fixtures(fixtures | {"backend": self._backend, "namespace": self._namespace})
        self._reset_answer()
        self._namespace.update(scaffold, answer=self._answer)
        self._link.send({"t": "set"})

    def _take_streams(self) -> None:
        """What is printed, from now on and by every thread, is captured; nobody can be asked."""
        builtins.__dict__.update(self._builtins)
        sys.stdout = sys.stderr = self._output
        self._interrupts.install()

    def _reset_answer(self) -> None:
        self._answer = {"content": "", "ready": False}

    def _set_final(self, value: Any = None) -> Any:
        """FINAL(value): the same as ``Final = value``."""
        self._final = value
        return value

    def _set_final_variable(self, name: Any) -> Any:
        """FINAL_VAR("name"): the variable of that name is the answer."""
        if not isinstance(name, str):
            return self._set_final(name)
        name = name.strip().strip("\"'")
        if name not in self._namespace:
            names = ", ".join(self._names()) or "none yet"
            raise NameError(f"FINAL_VAR: there is no variable {name!r}. Variables: {names}. Build it first, or set Final = value.")
        return self._set_final(self._namespace[name])

    def _show_variables(self) -> dict[str, str]:
        """SHOW_VARS(): the variables that cells made, with their types."""
        return {name: type(self._namespace[name]).__name__ for name in self._names()}

    def _names(self, *, modules: bool = False) -> list[str]:
        return [
            name
            for name, value in self._namespace.copy().items()
            if isinstance(name, str)
            and name not in self._hidden
            and not (name.startswith("__") and name.endswith("__"))
            and (modules or not isinstance(value, types.ModuleType))
        ]

    # -- running ---------------------------------------------------------------------------------------

    def _restore_scaffold(self, history: str | None) -> list[str]:
        """Put back what root code overwrote; return what to tell it, once for each name."""
        if history is not None:
            self._scaffold["history"] = history
            self._namespace.setdefault("history", history)
            if isinstance(self._namespace["history"], str):
                self._namespace["history"] = history
        notes = []
        for name, value in self._scaffold.items():
            if self._namespace.get(name, _MISSING) is not value:
                if name in self._namespace and name not in self._warned:
                    self._warned.add(name)
                    notes.append(f"[{name} belongs to the sandbox and was put back; keep results under another name]\n")
                self._namespace[name] = value
        self._namespace["__builtins__"] = builtins
        self._namespace.pop("Final", None)
        self._final = _MISSING
        current = self._namespace.get("answer", _MISSING)
        if current is _MISSING or current is self._answer:
            self._reset_answer()
            self._namespace["answer"] = self._answer
        elif isinstance(current, dict) and "ready" in current:
            current.pop("ready")
        return notes

    def _run_cell(self, header: Header, blob: bytes) -> None:
        self._cell, seconds = header["n"], header["soft"]
        self._output.begin(header["output_chars"])
        self._take_streams()
        self._keep_reserve()
        self._backend.begin()
        for note in self._restore_scaffold(header.get("history")):
            self._output.write(note)
        try:
            self.timed(lambda: self._execute(blob.decode("utf-8")), seconds, _OVER_TIME)
            error = None
        except BaseException as problem:  # noqa: BLE001 - a cell may raise anything; all of it is told to the root
            self._reserve.clear()  # room to say so, when it was memory that ran out
            self._take_streams()
            error = self._explain(problem)
        self._backend.end()
        kind, answer, problem_text, note = self._take_final(seconds)
        if note:
            self._output.line(note)
        text, cut = self._output.end()
        report = {
            "t": "done",
            "n": self._cell,
            "output": text,
            "error": error,
            "cut": cut,
            "final": kind,
            "problem": problem_text,
        }
        report |= {"names": self._names()[:2_000], "denied": denials.take()}
        self._link.send(report, answer, ends_cell=True)
        self._send_snapshot()

    def _keep_reserve(self) -> None:
        if not self._reserve:
            try:
                self._reserve.append(bytearray(RESERVE))
            except MemoryError:
                return

    def _execute(self, code: str) -> None:
        value = cells.execute(cells.compile_cell(code, f"<cell {self._cell}>"), self._namespace)
        if value is not None:
            self._output.write(cells.echo(value) + "\n")

    def _explain(self, error: BaseException) -> str:
        if isinstance(error, PermissionError) and not denials.any_seen() and not cells.is_import(error):
            denials.count("PermissionError")
        hint = sys.modules["rlm_ray.handle.verbs"].explain if "rlm_ray.handle.verbs" in sys.modules else None

        def work() -> str:
            more = hint(error) if hint is not None and isinstance(error, TypeError) else None
            return cells.explain(error) + (f"\n{more}" if more else "")

        try:
            return str(self.timed(work, 2.0))
        except BaseException:  # noqa: BLE001 - root code's own exception may do anything while it is looked at
            return type(error).__name__

    def timed(self, work: Callable[[], Any], seconds: float, message: str = "took more than {:g} s") -> Any:
        """Run something of root code's under the clock. Raises what it raises, TimeoutError, or KeyboardInterrupt."""
        interrupts = self._interrupts
        interrupts.message = message.format(seconds)
        try:
            try:
                interrupts.armed = True
                signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
                return work()
            finally:
                interrupts.armed = False
                signal.setitimer(signal.ITIMER_REAL, 0)
        finally:  # again: an interrupt may have come in the middle of the first one
            interrupts.disarm()
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _take_final(self, seconds: float) -> tuple[str | None, bytes, str | None, str]:
        """Find the answer that the cell set, and encode it: its kind, its JSON, what is wrong with it; what to say of none."""
        try:
            return self.timed(self._encode_final, seconds)
        except finals.NoAnswer as problem:
            return None, b"", str(problem), ""
        except BaseException as problem:  # noqa: BLE001 - the value's own methods may raise anything
            told = f"The answer could not be turned into JSON ({type(problem).__name__}). Assign plain data to Final."
            return None, b"", told, ""
        finally:
            self._namespace.pop("Final", None)

    def _encode_final(self) -> tuple[str | None, bytes, str | None, str]:
        given = self._namespace.get("answer")
        candidates = {
            "Final": self._namespace.get("Final", _MISSING),
            "FINAL(…)": self._final,
            "answer['content']": given.get("content") if isinstance(given, dict) and given.get("ready") else _MISSING,
        }
        found = {name: value for name, value in candidates.items() if value is not _MISSING}
        for value in found.values():
            if finals.is_set(value):
                kind, blob = finals.encode(value)
                return kind, blob, None, ""
        return None, b"", None, next((finals.unset(name, value) for name, value in found.items()), "")

    # -- keeping ---------------------------------------------------------------------------------------

    def _send_snapshot(self) -> None:
        new: list[list[Any]] = []
        parts: list[bytes] = []
        lost: dict[str, None] = {}
        ends = time.monotonic() + SNAPSHOT_ALL
        kept = self._names(modules=True)

        def guard(work: Callable[[], Any]) -> Any:
            left = ends - time.monotonic()
            return self._attempt(work, min(left, SNAPSHOT_VARIABLE)) if left > 0 else None

        for name, data in self._keeper.changes(kept, guard):
            if data is None:
                lost[name] = None
            else:
                new.append([name, len(data)])
                parts.append(data)
        held = [name for name in kept if name not in lost]
        self._link.send({"t": "snapshot", "n": self._cell, "names": held, "new": new, "lost": list(lost)}, b"".join(parts))

    def _attempt(self, work: Callable[[], Any], seconds: float) -> Any:
        """Run a pickling or an unpickling under the clock; None when it failed, however it did."""
        try:
            return self.timed(work, seconds)
        except BaseException:  # noqa: BLE001 - root code's own methods may raise anything
            return None

    def _restore(self, header: Header, blob: bytes) -> None:
        lost = []
        offset = 0
        for name, size in header["names"]:
            self._link.send({"t": "restoring", "name": name})
            data = blob[offset : offset + size]
            offset += size
            found = self._attempt(functools.partial(_load, data), SNAPSHOT_VARIABLE)
            if found is None or not isinstance(name, str):
                lost.append(name)
            else:
                self._namespace[name] = found[0]
        self._link.send({"t": "restored", "lost": lost, "names": self._names()[:2_000]})


def _load(data: bytes) -> list[Any]:
    return [snapshot.load(data)]


def _scaffold(backend: Backend, setup: JsonObject) -> dict[str, object]:
    """The names of the run's corpora and verbs. A setup may bring the source of its own: tests do."""
    if "scaffold_source" in setup:
        room: dict[str, Any] = {}
        exec(setup["scaffold_source"], room)
        return dict(room["namespace"](backend, setup))
    if not setup:
        return {}
    from rlm_ray.handle import verbs

    return verbs.namespace(backend, setup)


def _usual() -> dict[str, object]:
    """What an interpreter has beside its builtins when it starts with the module `site`, as this one did not."""
    import _sitebuiltins

    leave = {name: _sitebuiltins.Quitter(name, "Ctrl-D (i.e. EOF)") for name in ("exit", "quit")}
    return leave | {"help": _sitebuiltins._Helper()}


def _no_input(prompt: object = "") -> str:
    raise RuntimeError("input() has nobody to ask here: write the value into the cell, or look at the corpus")
