"""The system calls that root code may make, as data, and the seccomp program made of them.

Two machines: x86-64 and aarch64. A name that one of them lacks has None there. What is not listed fails with
EPERM; `clone3` fails with ENOSYS, so that the C library falls back to `clone`, whose flags a filter can see;
a call through a foreign ABI (32-bit `int 0x80`, x32) ends the process.
"""

from __future__ import annotations

import struct

#: machine -> (value of AUDIT_ARCH, column in the tables below)
MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

#: Allowed whatever the arguments. The busiest come first: older kernels walk the program for each call.
ALLOWED: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63),
    "write": (1, 64),
    "futex": (202, 98),
    "poll": (7, None),
    "ppoll": (271, 73),
    "recvmsg": (47, 212),
    "recvfrom": (45, 207),
    "mmap": (9, 222),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "mprotect": (10, 226),
    "madvise": (28, 233),
    "brk": (12, 214),
    "close": (3, 57),
    "fstat": (5, 80),
    "stat": (4, None),
    "lstat": (6, None),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "lseek": (8, 62),
    "pread64": (17, 67),
    "readv": (19, 65),
    "writev": (20, 66),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "getcwd": (79, 17),
    "getdents64": (217, 61),
    "fadvise64": (221, 223),
    "pipe": (22, None),
    "pipe2": (293, 59),
    "dup": (32, 23),
    "select": (23, None),
    "pselect6": (270, 72),
    "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21),
    "epoll_wait": (232, None),
    "epoll_pwait": (281, 22),
    "eventfd2": (290, 19),
    "getsockname": (51, 204),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "getitimer": (36, 102),
    "setitimer": (38, 103),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "times": (100, 153),
    "restart_syscall": (219, 128),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "getcpu": (309, 168),
    "membarrier": (324, 283),
    "mbind": (237, 235),
    "rseq": (334, 293),
    "set_robust_list": (273, 99),
    "getrandom": (318, 278),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getppid": (110, 173),
    "getuid": (102, 174),
    "getgid": (104, 176),
    "geteuid": (107, 175),
    "getegid": (108, 177),
    "getrlimit": (97, 163),
    "getrusage": (98, 165),
    "sysinfo": (99, 179),
    "uname": (63, 160),
    "exit": (60, 93),
    "exit_group": (231, 94),
}


#: One argument of a call: its number, a mask, and what `value & mask` must be one of. Its upper half must be zero.
Check = tuple[int, int, tuple[int, ...]]


#: Stands in `allowed` for the process's own id, which is known only when the program is built.
OWN_PID = -1

_ALL = 0xFFFFFFFF
#: O_WRONLY and O_RDWR, O_CREAT, O_TRUNC, O_ASYNC, O_PATH, O_TMPFILE: equal on both machines.
_OPEN_REFUSED = 0o3 | 0o100 | 0o1000 | 0o20000 | 0o10000000 | 0o20000000
#: CLONE_THREAD and every CLONE_NEW*.
_CLONE_SEEN = 0x10000 | 0x7E020000

#: Allowed for some arguments only: here the call itself is a door.
FILTERED: dict[str, tuple[tuple[int | None, int | None], tuple[Check, ...]]] = {
    "clone": ((56, 220), ((0, _CLONE_SEEN, (0x10000,)),)),  # threads; no process, no namespace
    "prlimit64": ((302, 261), ((0, _ALL, (0,)), (2, _ALL, (0,)))),  # own limits, read only
    "tgkill": ((234, 131), ((0, _ALL, (OWN_PID,)),)),  # raise() inside this process
    "prctl": ((157, 167), ((0, _ALL, (15, 16)),)),  # a thread's name
    "socketpair": ((53, 199), ((0, _ALL, (1,)), (1, 0xF, (1,)))),  # AF_UNIX stream; a datagram pair could be aimed anew
    "sendto": ((44, 206), ((4, _ALL, (0,)),)),  # send(), never to an address
    # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC, F_GET_SEALS: not F_SETOWN or F_SETSIG, which aim signals
    "fcntl": ((72, 25), ((1, _ALL, (0, 1, 2, 3, 4, 1030, 1034)),)),
    # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX: not FIOASYNC or FIOSETOWN
    "ioctl": ((16, 29), ((1, _ALL, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),)),
}

#: Reading a file: present at level `strict`, where Landlock says which; absent at `noopen`.
OPENING: dict[str, tuple[tuple[int | None, int | None], tuple[Check, ...]]] = {
    "openat": ((257, 56), ((2, _OPEN_REFUSED, (0,)),)),
    "open": ((2, None), ((1, _OPEN_REFUSED, (0,)),)),
}

CLONE3 = (435, 435)

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _KILL, _EPERM, _ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_X32 = 1 << 30


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _checks(checks: tuple[Check, ...], own_pid: int) -> list[bytes]:
    """Instructions that return EPERM unless every check holds. Little-endian: both machines are."""
    body: list[bytes] = []
    for argument, mask, allowed in checks:
        values = [own_pid if value == OWN_PID else value for value in allowed]
        offset = _ARGUMENTS + 8 * argument
        body += [_instruction(_LOAD, offset + 4), _instruction(_JUMP_EQUAL, 0, 1, 0), _instruction(_RETURN, _EPERM)]
        body += [_instruction(_LOAD, offset), _instruction(_AND, mask)]
        body += [_instruction(_JUMP_EQUAL, value, len(values) - index, 0) for index, value in enumerate(values)]
        body.append(_instruction(_RETURN, _EPERM))
    return body


def program(machine: str, *, own_pid: int, may_open: bool) -> bytes:
    """Build the seccomp program for `machine`, as bytes of `struct sock_filter`.

    Parameters
    ----------
    machine : str
        ``"x86_64"`` or ``"aarch64"``.
    own_pid : int
        The only process that `tgkill` may name.
    may_open : bool
        Whether files may be opened for reading.

    Examples
    --------
    >>> len(program("x86_64", own_pid=7, may_open=False)) % 8
    0
    """
    architecture, column = MACHINES[machine]
    lines = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_JUMP_EQUAL, architecture, 1, 0),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER),
        _instruction(_JUMP_AT_LEAST, _X32, 0, 1),
        _instruction(_RETURN, _KILL),
    ]
    for numbers in ALLOWED.values():
        number = numbers[column]
        if number is not None:
            lines += [_instruction(_JUMP_EQUAL, number, 0, 1), _instruction(_RETURN, _ALLOW)]
    lines += [_instruction(_JUMP_EQUAL, CLONE3[column], 0, 1), _instruction(_RETURN, _ENOSYS)]
    for numbers, checks in [*FILTERED.values(), *(OPENING.values() if may_open else ())]:
        number = numbers[column]
        if number is not None:
            body = [*_checks(checks, own_pid), _instruction(_RETURN, _ALLOW)]
            lines += [_instruction(_JUMP_EQUAL, number, 0, len(body)), *body]
    lines.append(_instruction(_RETURN, _EPERM))
    return b"".join(lines)
