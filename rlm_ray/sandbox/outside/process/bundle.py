"""The modules that every sandbox starts with, compiled, as one file in memory: a child reads it in one go.

Otherwise each of some fifty modules would be looked for, opened and read by every child, and compiled anew by each where
there is no bytecode (children write none). The file is sealed, and a child closes it before anything else.
"""

from __future__ import annotations

import functools
import importlib.util
import marshal

from rlm_ray.sandbox.inside import unbundle
from rlm_ray.sandbox.outside.process.connection import memory_file

#: What a child has imported when it waits for its first cell; what a version of Python does not have is left out.
NAMES = (
    "__future__",
    "_collections_abc",
    "_compat_pickle",
    "_weakrefset",
    "collections",
    "collections.abc",
    "contextlib",
    "copyreg",
    "ctypes",
    "ctypes._endian",
    "encodings",
    "encodings.ascii",
    "enum",
    "functools",
    "genericpath",
    "importlib",
    "json",
    "json.decoder",
    "json.encoder",
    "json.scanner",
    "keyword",
    "operator",
    "os",
    "posixpath",
    "re",
    "re._casefix",
    "re._compiler",
    "re._constants",
    "re._parser",
    "reprlib",
    "rlm_ray",
    "rlm_ray.errors",
    "rlm_ray.handle",
    "rlm_ray.handle.arguments",
    "rlm_ray.handle.chunks",
    "rlm_ray.handle.corpus",
    "rlm_ray.handle.display",
    "rlm_ray.handle.excerpts",
    "rlm_ray.handle.reflexes",
    "rlm_ray.handle.tabular",
    "rlm_ray.handle.parts",
    "rlm_ray.handle.plan",
    "rlm_ray.handle.values",
    "rlm_ray.handle.verbs",
    "rlm_ray.sandbox",
    "rlm_ray.sandbox.inside",
    "rlm_ray.sandbox.inside.backend",
    "rlm_ray.sandbox.inside.boot",
    "rlm_ray.sandbox.inside.cells",
    "rlm_ray.sandbox.inside.finals",
    "rlm_ray.sandbox.inside.kernel",
    "rlm_ray.sandbox.inside.link",
    "rlm_ray.sandbox.inside.output",
    "rlm_ray.sandbox.inside.snapshot",
    "rlm_ray.sandbox.inside.walls",
    "rlm_ray.sandbox.inside.walls.denials",
    "rlm_ray.sandbox.inside.walls.lock",
    "rlm_ray.sandbox.inside.walls.syscalls",
    "rlm_ray.sandbox.wire",
    "rlm_ray.sandbox.wire.channel",
    "rlm_ray.sandbox.wire.shared_output",
    "signal",
    "stat",
    "struct",
    "threading",
    "types",
    "warnings",
)

#: What a child runs: its arguments are two descriptors for `boot.main`, that of the bundle, and the bundle's size.
BOOT = (
    "import sys, marshal, posix; numbers = [int(text) for text in sys.argv[1:]]; "
    "code, modules = marshal.loads(posix.pread(numbers[2], numbers[3], 0)); posix.close(numbers[2]); "
    "exec(code, {'__name__': 'unbundle'} | {'modules': modules}); "
    "from rlm_ray.sandbox.inside import boot; boot.main(*numbers[:2])"
)


def contents() -> bytes:
    """Return the bundle: the code that installs it in a child, then each module's code, place and whether it is a package.

    Examples
    --------
    >>> code, modules = marshal.loads(contents())
    >>> modules["rlm_ray.sandbox"][1].endswith("rlm_ray/sandbox/__init__.py"), modules["json.decoder"][2]
    (True, False)
    """
    modules: dict[str, tuple[bytes, str, bool]] = {}
    for name in NAMES:
        try:
            spec = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            continue
        read = getattr(spec.loader, "get_code", None) if spec is not None else None
        if spec is None or read is None or not spec.has_location or spec.origin is None:
            continue  # built in, or in the interpreter itself
        code = read(name)
        if code is not None:
            modules[name] = marshal.dumps(code), spec.origin, spec.submodule_search_locations is not None
    loader = importlib.util.find_spec(unbundle.__name__)
    assert loader is not None
    return marshal.dumps((loader.loader.get_code(unbundle.__name__), modules))  # type: ignore[union-attr]


@functools.cache
def bundle() -> tuple[int, int]:
    """Return the descriptor of this process's bundle, and its size in bytes. Made once; some 20 ms."""
    data = contents()
    return memory_file(data), len(data)
