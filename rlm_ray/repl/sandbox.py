"""Which walls this machine gives, and what a child is started with."""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
import warnings
from dataclasses import dataclass
from pathlib import Path

from rlm_ray.errors import SandboxError, SandboxUnavailable
from rlm_ray.settings import Isolation

#: The whole environment of a child. Nothing of the parent's goes in.
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
    "POLARS_MAX_THREADS": "2",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}

#: What DuckDB reads of its control group, without which it aborts; readable only in sandboxes that run SQL.
TABLE_PATHS = ("/proc/self/cgroup", "/sys/fs/cgroup")
#: What it imports behind its walls while it waits.
TABLE_MODULES = ("rlm_ray.repl.tables", "rlm_ray.repl.engine")

#: How to run where this machine cannot build the walls.
CONTAINER = (
    'docker run --rm -it --security-opt seccomp=unconfined -v "$PWD":/work -w /work python:3.12-slim '
    "sh -c 'pip install rlm-ray && rlm-ray ask …'"
)

#: Loaded before the walls at level `noopen`, where nothing can be imported afterwards.
PRELOADED = (
    "_strptime",
    "abc",
    "array",
    "ast",
    "asyncio",
    "base64",
    "bisect",
    "calendar",
    "cloudpickle",
    "cmath",
    "collections",
    "collections.abc",
    "concurrent.futures",
    "concurrent.futures.thread",
    "contextlib",
    "copy",
    "csv",
    "dataclasses",
    "datetime",
    "decimal",
    "difflib",
    "encodings.ascii",
    "encodings.idna",
    "encodings.latin_1",
    "encodings.utf_16",
    "encodings.utf_8_sig",
    "enum",
    "fnmatch",
    "fractions",
    "functools",
    "gc",
    "graphlib",
    "hashlib",
    "heapq",
    "hmac",
    "html",
    "html.parser",
    "inspect",
    "io",
    "ipaddress",
    "itertools",
    "json",
    "json.scanner",
    "keyword",
    "linecache",
    "locale",
    "logging",
    "math",
    "mmap",
    "numbers",
    "operator",
    "pathlib",
    "pickle",
    "pprint",
    "queue",
    "random",
    "re",
    "reprlib",
    "rlm_ray.corpus.verbs",
    "rlm_ray.errors",
    "rlm_ray.repl.denials",
    "rlm_ray.repl.kernel",
    "rlm_ray.repl.applying",
    "secrets",
    "statistics",
    "string",
    "struct",
    "sys",
    "textwrap",
    "threading",
    "time",
    "timeit",
    "tokenize",
    "traceback",
    "types",
    "typing",
    "unicodedata",
    "urllib.parse",
    "uuid",
    "warnings",
    "weakref",
    "xml.etree.ElementTree",
    "zlib",
    "zoneinfo",
)
#: The same, where installed.
PRELOADED_EXTRAS = ("numpy",)


@dataclass(frozen=True)
class Choice:
    """The isolation level of a run on this node, and what a person should know about it."""

    level: Isolation
    warning: str | None = None


def readable_paths() -> list[str]:
    """Return what a child may read at level `strict`: code of the interpreter and of its packages, and the shared libraries.

    Not the interpreter's prefix (it can hold an index password) and not the folder in which rlm_ray lies (a repository).
    """
    return list(_readable_paths())


@functools.cache
def _paths() -> dict[str, str]:
    return sysconfig.get_paths()


@functools.cache
def _readable_paths() -> tuple[str, ...]:
    paths = _paths()
    folders = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [os.path.join(sys.base_prefix, "lib"), os.path.join(sys.prefix, "lib")]
    triplet = sysconfig.get_config_var("MULTIARCH")
    for root in ("/lib", "/usr/lib"):
        with_triplet = os.path.join(root, triplet) if triplet else ""
        folders.append(with_triplet if with_triplet and os.path.isdir(with_triplet) else root)
    folders += ["/lib64", "/usr/lib64", "/usr/share/zoneinfo", "/etc/localtime", "/etc/ld.so.cache", "/dev/null", "/dev/urandom"]
    folders.append(package_folder())
    return tuple(dict.fromkeys(os.path.realpath(folder) for folder in folders))


def package_folder() -> str:
    """Return the folder of the package rlm_ray itself."""
    return str(Path(__file__).resolve().parent.parent)


def module_path() -> list[str]:
    """Return the `sys.path` of a child: standard library and installed packages, not the folders that this process added."""
    paths = _paths()
    ours = [*{paths["stdlib"]: 0, paths["platstdlib"]: 0, paths["purelib"]: 0, paths["platlib"]: 0}]
    standard = [entry for entry in sys.path if entry.startswith(paths["stdlib"]) or entry.endswith(".zip")]
    installed = [entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
    return list(dict.fromkeys([*standard, *ours, *installed]))


@functools.cache
def probe(level: Isolation) -> dict[str, int | bool]:
    """Build the walls of `level` once on this node and return which stand: Landlock's version, seccomp, namespaces.

    Starts one child (some 50 ms); the result is kept for the life of the process.

    Raises
    ------
    SandboxUnavailable
        They cannot be built here.
    """
    from rlm_ray.repl.events import Limits
    from rlm_ray.repl.host import Sandbox

    sandbox = Sandbox({}, level=level, limits=Limits())
    try:
        return sandbox.wait_ready()
    finally:
        sandbox.close()


def choose(wanted: Isolation = "strict") -> Choice:
    """Settle the isolation level of a run on this node.

    Returns
    -------
    Choice
        The level wanted; or `noopen` with a warning, where `strict` was wanted and this kernel has no Landlock.

    Raises
    ------
    SandboxUnavailable
        Neither can be had here: says what is missing, and how to run in a container.
    """
    if wanted == "none":
        return Choice("none", "isolation none: code that a model wrote runs as an ordinary process with this user's rights")
    reasons = []
    for level in ("strict", "noopen") if wanted == "strict" else ("noopen",):
        try:
            probe(level)
        except SandboxError as error:
            reasons.append(f"{level}: {error}")
            continue
        warning = (
            f"isolation noopen instead of strict ({reasons[0]}): cells cannot import what is not loaded at their start, no SQL"
            if reasons
            else None
        )
        if warning:
            warnings.warn(warning, RuntimeWarning, stacklevel=2)
        return Choice(level, warning)
    raise unavailable("; ".join(reasons))


def unavailable(why: str) -> SandboxUnavailable:
    """Make the error that refuses a run, with the way out."""
    return SandboxUnavailable(
        f"The sandbox for code that a model writes cannot be built on this machine: {why}. "
        f"Run on Linux 5.13 or later (x86-64 or aarch64), or in a container: {CONTAINER}. "
        "For data and models that you trust wholly there is isolation none (--isolation none)."
    )
