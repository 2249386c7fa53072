"""The first thing that runs in a child: it shuts itself in, then becomes the kernel.

Before the walls stand it imports hardly anything, and reads its orders by hand: that is quick, and there is little that
could go wrong outside them.
"""

from __future__ import annotations

import gc
import os
import sys

from rlm_ray.sandbox.inside.walls import lock
from rlm_ray.sandbox.wire.shared_output import SharedOutput

#: Stack of a thread that cells start: address space is bounded.
THREAD_STACK = 2 << 20
#: Imported while the child waits for its run, so that the first cell does not wait.
_WARM = ("rlm_ray.sandbox.inside.kernel", "rlm_ray.handle.verbs")


def orders(
    level: str, memory: int, parent: int, readable: list[str], path: list[str], preload: list[str], warm: list[str]
) -> bytes:
    """Write what a child is to do, for `main` to read; it imports `preload` before the walls stand, `warm` while it waits.

    Examples
    --------
    >>> read_orders(orders("strict", 1, 2, ["/lib"], [], ["re"], ["duckdb"])[4:])
    ('strict', 1, 2, ['/lib'], [], ['re'], ['duckdb'])
    """
    fields = [level, str(memory), str(parent)]
    for group in (readable, path, preload, warm):
        fields += [str(len(group)), *group]
    data = "\0".join(fields).encode("utf-8", "surrogateescape")
    return len(data).to_bytes(4, "big") + data


def read_orders(data: bytes) -> tuple[str, int, int, list[str], list[str], list[str], list[str]]:
    """Read what `orders` wrote, without its length."""
    level, memory, parent, *rest = data.decode("utf-8", "surrogateescape").split("\0")
    groups = []
    for _ in range(4):
        count = int(rest[0])
        groups.append(rest[1 : 1 + count])
        del rest[: 1 + count]
    readable, path, preload, warm = groups
    return level, int(memory), int(parent), readable, path, preload, warm


def main(descriptor: int, output_descriptor: int) -> None:
    """Shut this process in and serve the parent over `descriptor`; the shared output is in the other. The parent first says how."""
    gc.disable()  # nothing that is loaded now is ever garbage
    output = SharedOutput(output_descriptor)
    size = int.from_bytes(_take(descriptor, 4), "big")
    level, memory, parent, readable, path, preload, warm = read_orders(_take(descriptor, size))
    sys.path[:] = path
    namespaced = lock.namespaces() if level == "strict" else False
    for name in preload:
        __import__(name)
    try:
        report = lock.lock(level, readable=readable, memory=memory, parent=parent, namespaced=namespaced)
    except OSError as error:
        import json

        _say(descriptor, json.dumps({"t": "refused", "why": str(error)}))
        os._exit(1)
    stands = ", ".join(f'"{name}": {str(value).lower()}' for name, value in report.items())
    _say(descriptor, f'{{"t": "ready", "walls": {{{stands}}}}}')
    _serve(descriptor, output, level, readable, warm)


def _take(descriptor: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = os.read(descriptor, size - len(data))
        if not more:
            os._exit(0)  # the parent is gone
        data += more
    return data


def _say(descriptor: int, header: str) -> None:
    """Send a frame without a blob, as `channel` lays it out."""
    data = header.encode("utf-8", "replace")
    os.write(descriptor, len(data).to_bytes(4, "big") + bytes(5) + data)


def _serve(descriptor: int, output: SharedOutput, level: str, readable: list[str], warm: list[str]) -> None:
    import _socket  # `socket` would turn a thousand constants into enumerations
    import threading

    from rlm_ray.sandbox.inside.link import Interrupts, Link

    threading.stack_size(THREAD_STACK)
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fileno=descriptor)
    interrupts = Interrupts()
    link = Link(connection, interrupts)
    for name in (*_WARM, *warm):
        if not link.readable():
            __import__(name)
    try:
        from rlm_ray.sandbox.inside import kernel
        from rlm_ray.sandbox.inside.walls import denials

        if level != "none":
            denials.begin(readable)
        made = kernel.Kernel(link, interrupts, output)
        gc.enable()
        made.serve()
    except Exception as error:
        import traceback

        where = "".join(traceback.format_exception(error)[-3:])
        link.send({"t": "failed", "why": f"{type(error).__name__} in the sandbox's own code: {where}"})
        raise
