"""Counts denied attempts of root code, with an audit hook in the child that nothing can remove.

A hint for people, not a wall: code that calls the kernel by `ctypes` passes it by, and the walls refuse it all the same.
"""

from __future__ import annotations

import os
import sys
from collections import Counter

TYPE_CHECKING = False  # see rlm_ray/__init__.py
if TYPE_CHECKING:
    from typing import Any

#: Audit events that the walls refuse whatever their arguments are.
REFUSED = frozenset(
    {
        "os.chdir",
        "os.chmod",
        "os.chown",
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.kill",
        "os.killpg",
        "os.link",
        "os.mkdir",
        "os.posix_spawn",
        "os.remove",
        "os.removexattr",
        "os.rename",
        "os.rmdir",
        "os.setxattr",
        "os.spawn",
        "os.symlink",
        "os.system",
        "os.truncate",
        "os.utime",
        "pty.spawn",
        "socket.bind",
        "socket.connect",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "socket.sendmsg",
        "socket.sendto",
        "subprocess.Popen",
    }
)
#: Refused for some paths, or for writing.
_LOOKING = frozenset({"open", "os.listdir", "os.scandir"})
#: AF_UNIX, which a pair of sockets is of, and what is not said.
_HARMLESS_FAMILIES = (1, -1)
MAX_KINDS = 50
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

_seen: Counter[str] = Counter()
_readable: tuple[str, ...] = ()


def begin(readable: list[str]) -> None:
    """Start counting; files below `readable` may be opened for reading."""
    global _readable
    _readable = tuple(readable)
    sys.addaudithook(_hook)


def take() -> dict[str, int]:
    """Return what was counted since the last time, and start again."""
    seen = dict(_seen)
    _seen.clear()
    return seen


def any_seen() -> bool:
    """Tell whether something was counted since the last time."""
    return bool(_seen)


def count(what: str) -> None:
    """Count one refused act."""
    if what in _seen or len(_seen) < MAX_KINDS:
        _seen[what] += 1


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _LOOKING:
        path, flags = arguments[0], arguments[2] if event == "open" else 0
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        if isinstance(path, str) and ((isinstance(flags, int) and flags & _WRITING) or not path.startswith(_readable)):
            count(f"{event} {path[:150]}")
    elif event in REFUSED:
        count(event)
    elif event == "socket.__new__" and arguments[1] not in _HARMLESS_FAMILIES:
        count("socket.socket")
