"""The walls, from the inside: a fresh interpreter shuts itself in. Linux only, standard library only.

Each function builds one wall and raises OSError where the kernel refuses it. `lock` puts them up in the order
that matters and reports what stands. Nothing here can be undone by the process that called it.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct

from rlm_ray.sandbox.inside.walls import syscalls

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 1, 4, 24, 38, 47
_NAMESPACES = 0x10000000 | 0x40000000 | 0x08000000 | 0x04000000  # user, network, ipc, host name
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446  # the same on every machine
_READ_FILE, _READ_DIRECTORY = 4, 8
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_CAPABILITY_VERSION_3 = 0x20080522
_SIGKILL = 9

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _write(name: str, text: str) -> None:
    """Tell the kernel something that it may refuse."""
    try:
        with open(name, "w", encoding="ascii") as file:
            file.write(text)
    except OSError:
        return


def _prctl(option: int, value: int, what: str, *, more: int = 0) -> None:
    _check(_libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(more), ctypes.c_ulong(0), ctypes.c_ulong(0)), what)


def namespaces() -> bool:
    """Leave the user, network, ipc and host name namespaces, where the kernel lets an ordinary user. A bonus: pods often refuse.

    Must come before any thread is started: with threads the call fails.
    """
    user, group = os.geteuid(), os.getegid()
    if _libc.unshare(_NAMESPACES) != 0:
        return False
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        _write(f"/proc/self/{name}", text)
    _libc.sethostname(b"sandbox", 7)
    return True


def threads() -> int:
    """Count the threads of this process, also those that no Python code knows of."""
    return len(os.listdir("/proc/self/task"))


def first_victim() -> None:
    """Ask the kernel to end this process before any other when memory is short."""
    _write("/proc/self/oom_score_adj", "1000")


def die_with_parent(parent: int) -> None:
    """End this process when the thread that started it ends."""
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL, "death signal")
    if os.getppid() != parent:
        os._exit(1)


def limit_memory(memory: int) -> None:
    """Bound the address space to `memory` bytes above what is mapped now; no core file."""
    with open("/proc/self/statm", encoding="ascii") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    _limit(resource.RLIMIT_AS, mapped + memory)
    _limit(resource.RLIMIT_CORE, 0)


def limit_resources(*, namespaced: bool) -> None:
    """Bound descriptors and threads; no file grows, no page is locked."""
    _limit(resource.RLIMIT_NOFILE, 64)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_MEMLOCK, 0)
    if namespaced:  # counted per user: outside a namespace of its own it would count the neighbours' processes too
        _limit(resource.RLIMIT_NPROC, 256)


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (bound, bound))


def landlock(readable: list[str]) -> int:
    """Let this process read below `readable` and nothing else.

    No file made or changed; no TCP, no abstract socket and no signal to others, where the kernel's version has it.

    Returns
    -------
    int
        The kernel's Landlock version; 0 where it has none.
    """
    version = _libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return 0
    files = (1 << 13) - 1
    for since, bit in ((2, 13), (3, 14), (5, 15)):  # rename across folders, truncate, ioctl on devices
        files |= (version >= since) << bit
    size = 24 if version >= 6 else 16 if version >= 4 else 8  # then TCP ports; then abstract sockets and signals
    attributes = struct.pack("=QQQ", files, 0b11, 0b11)[:size]
    rules = _check(
        _libc.syscall(_LANDLOCK_CREATE, ctypes.c_char_p(attributes), ctypes.c_size_t(size), ctypes.c_uint32(0)), "landlock"
    )
    try:
        for path in readable:
            try:
                handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue  # a path that is not there needs no rule
            try:
                rights = _READ_FILE | _READ_DIRECTORY if os.path.isdir(path) else _READ_FILE
                rule = struct.pack("=Qi", rights, handle)
                _check(
                    _libc.syscall(_LANDLOCK_ADD, rules, 1, ctypes.c_char_p(rule), ctypes.c_uint32(0)), f"landlock rule for {path}"
                )
            finally:
                os.close(handle)
        _check(_libc.syscall(_LANDLOCK_RESTRICT, rules, ctypes.c_uint32(0)), "landlock")
    finally:
        os.close(rules)
    return int(version)


def drop_capabilities() -> None:
    """Give up every capability, also those that a later exec could bring back."""
    for capability in range(64):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # refused where there is none to drop
    _libc.prctl(_PR_CAP_AMBIENT, 4, 0, 0, 0)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(ctypes.c_char_p(header), ctypes.c_char_p(bytes(24))), "capset")


def seccomp(*, may_open: bool) -> None:
    """Install the allow-list of system calls for every thread of this process."""
    machine = os.uname().machine
    code = syscalls.program(machine, own_pid=os.getpid(), may_open=may_open)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    set_filter, for_all_threads = 1, 1
    result = _libc.syscall(_SECCOMP[machine], set_filter, for_all_threads, ctypes.c_char_p(header))
    if result > 0:
        raise OSError(f"seccomp: thread {result} could not be brought inside")
    _check(result, "seccomp")


def lock(level: str, *, readable: list[str], memory: int, parent: int, namespaced: bool) -> dict[str, int | bool]:
    """Put up the walls of `level`, for good, and say which stand.

    Parameters
    ----------
    level : str
        ``strict``, ``noopen``, or ``none``, which bounds resources only.
    readable : list of str
        Files and folders that stay readable at level `strict`.
    memory : int
        Bytes of address space above what is mapped now.
    parent : int
        Process id of the parent; its death ends this process.
    namespaced : bool
        What `namespaces` returned.

    Raises
    ------
    OSError
        A wall that the level needs cannot be built here; the message names it.
    """
    first_victim()
    limit_memory(memory)
    if level == "none":
        die_with_parent(parent)
        return {"namespaces": False, "landlock": 0, "seccomp": False}
    if (count := threads()) != 1:
        raise OSError(f"the sandbox has {count} threads before its walls are up; each would stay outside them")
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, "no_new_privs")
    limit_resources(namespaced=namespaced)
    version = landlock(readable) if level == "strict" else 0
    if level == "strict" and not version:
        raise OSError("this kernel has no Landlock")
    drop_capabilities()
    die_with_parent(parent)
    _prctl(_PR_SET_DUMPABLE, 0, "not dumpable")
    seccomp(may_open=level == "strict")
    return {"namespaces": namespaced, "landlock": version, "seccomp": True}
