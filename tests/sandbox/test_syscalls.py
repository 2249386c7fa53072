"""The tables of system calls, against the kernel's own headers, and the seccomp program, run instruction by instruction."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from rlm_ray.sandbox.inside.walls import syscalls
from rlm_ray.sandbox.inside.walls.syscalls import ALLOWED, CLONE3, FILTERED, MACHINES, OPENING, program

TABLES = ALLOWED | {name: numbers for name, (numbers, _) in (FILTERED | OPENING).items()} | {"clone3": CLONE3}
HEADERS = {
    "x86_64": ["/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"],
    "aarch64": ["/usr/include/asm-generic/unistd.h", "/usr/aarch64-linux-gnu/include/asm-generic/unistd.h"],
}
#: The generic header gives these by a name of its own.
GENERIC = {"__NR3264_fstat": "fstat", "__NR3264_lseek": "lseek", "__NR3264_mmap": "mmap", "__NR3264_fcntl": "fcntl"} | {
    "__NR3264_fstatat": "newfstatat",
    "__NR3264_fadvise64": "fadvise64",
}
ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026


def numbers_of(machine: str) -> dict[str, int]:
    for name in HEADERS[machine]:
        if Path(name).is_file():
            text = Path(name).read_text("utf-8")
            found = {key: int(number) for key, number in re.findall(r"#define\s+(__NR\w+)\s+(\d+)\b", text)}
            return {GENERIC.get(key, key.removeprefix("__NR_")): number for key, number in found.items()}
    pytest.skip(f"no kernel headers of {machine}: install linux-libc-dev")


@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_are_the_kernels(machine):
    column = MACHINES[machine][1]
    kernel = numbers_of(machine)
    assert kernel["read"] == ALLOWED["read"][column]  # the header was understood
    wrong = {
        name: (numbers[column], kernel.get(name))
        for name, numbers in TABLES.items()
        if numbers[column] != kernel.get(name) and not (machine == "aarch64" and name == "fstat" and kernel.get(name) is None)
    }
    assert wrong == {}


def verdict(machine: str, number: int, arguments: tuple[int, ...] = (), *, architecture: int | None = None, **options) -> int:
    """Run the program on one call, as the kernel does."""
    code = program(machine, own_pid=options.get("own_pid", 77), may_open=options.get("may_open", True))
    given = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=IIQ6Q", number, MACHINES[machine][0] if architecture is None else architecture, 0, *given)
    lines = [struct.unpack_from("=HBBI", code, place) for place in range(0, len(code), 8)]
    accumulator = place = 0
    while True:
        operation, if_true, if_false, value = lines[place]
        place += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif operation == 0x54:
            accumulator &= value
        elif operation == 0x15:
            place += if_true if accumulator == value else if_false
        elif operation == 0x35:
            place += if_true if accumulator >= value else if_false
        elif operation == 0x06:
            return value
        else:
            raise AssertionError(f"unknown instruction {operation:#x}")


@pytest.mark.parametrize("machine", MACHINES)
def test_exactly_the_listed_calls_are_allowed(machine):
    column = MACHINES[machine][1]
    allowed = {numbers[column] for numbers in ALLOWED.values()} - {None}
    special = {numbers[column] for numbers, _ in (FILTERED | OPENING).values()} | {CLONE3[column]}
    for number in range(600):
        if number not in special:
            assert verdict(machine, number) == (ALLOW if number in allowed else EPERM), number
    assert verdict(machine, CLONE3[column]) == ENOSYS


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("clone", (0x3D0F00,), ALLOW),  # what pthread_create asks for
        ("clone", (0x11,), EPERM),  # fork
        ("clone", (0x4111,), EPERM),  # vfork
        ("clone", (0x3D0F00 | 0x10000000,), EPERM),  # a thread in a namespace of its own
        ("clone", (0x3D0F00 | 1 << 32,), EPERM),
        ("openat", (3, 0, 0o2000000), ALLOW),
        ("openat", (3, 0, 1), EPERM),
        ("openat", (3, 0, 2), EPERM),
        ("openat", (3, 0, 0o100), EPERM),
        ("openat", (3, 0, 0o1000), EPERM),
        ("openat", (3, 0, 0o10000000), EPERM),
        ("openat", (3, 0, 0o20200000), EPERM),
        ("prlimit64", (0, 7, 0, 1), ALLOW),
        ("prlimit64", (0, 7, 1, 0), EPERM),
        ("prlimit64", (5, 7, 0, 0), EPERM),
        ("tgkill", (77, 78, 14), ALLOW),
        ("tgkill", (78, 78, 9), EPERM),
        ("prctl", (15, 1), ALLOW),
        ("prctl", (4, 1), EPERM),
        ("prctl", (1, 0), EPERM),
        ("socketpair", (1, 1 | 0o2000000, 0), ALLOW),
        ("socketpair", (1, 2, 0), EPERM),
        ("socketpair", (2, 1, 0), EPERM),
        ("sendto", (3, 1, 1, 0, 0, 0), ALLOW),
        ("sendto", (3, 1, 1, 0, 0x7FFF00000000, 16), EPERM),
        ("sendto", (3, 1, 1, 0, 1, 16), EPERM),
        ("fcntl", (3, 3), ALLOW),
        ("fcntl", (3, 8), EPERM),
        ("fcntl", (3, 10), EPERM),
        ("ioctl", (3, 0x5421), ALLOW),
        ("ioctl", (3, 0x5452), EPERM),
        ("ioctl", (3, 0x8901), EPERM),
        ("ioctl", (3, 0x5412), EPERM),
    ],
)
def test_doors_are_open_for_some_arguments_only(machine, name, arguments, expected):
    number = (FILTERED | OPENING)[name][0][MACHINES[machine][1]]
    assert verdict(machine, number, arguments) == expected


@pytest.mark.parametrize("machine", MACHINES)
def test_nothing_opens_where_nothing_may_be_opened(machine):
    for numbers, _ in OPENING.values():
        number = numbers[MACHINES[machine][1]]
        if number is not None:
            assert verdict(machine, number, (3, 0, 0), may_open=False) == EPERM


@pytest.mark.parametrize("machine", MACHINES)
def test_foreign_calls_end_the_process(machine):
    assert verdict(machine, 1, architecture=0x40000003) == KILL  # i386
    assert verdict(machine, 0x40000000 + 1) == KILL  # x32


@pytest.mark.parametrize("machine", MACHINES)
def test_the_program_is_one_the_kernel_takes(machine):
    code = program(machine, own_pid=1, may_open=True)
    lines = len(code) // 8
    assert lines < 4096
    for place in range(lines):
        operation, if_true, if_false, _ = struct.unpack_from("=HBBI", code, place * 8)
        if operation in (0x15, 0x35):
            assert place + 1 + max(if_true, if_false) < lines
    assert syscalls.program(machine, own_pid=1, may_open=False) != code
