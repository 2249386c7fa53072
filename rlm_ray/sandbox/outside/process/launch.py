"""Chooses the environment, import path, readable files and preloaded modules of a child process."""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
from pathlib import Path

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
TABLE_MODULES = ("rlm_ray.sandbox.inside.tasks.tables", "rlm_ray.sandbox.inside.tasks.engine")

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
    "rlm_ray.handle.verbs",
    "rlm_ray.errors",
    "rlm_ray.sandbox.inside.walls.denials",
    "rlm_ray.sandbox.inside.kernel",
    "rlm_ray.sandbox.inside.tasks.applying",
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
    return str(Path(__file__).resolve().parents[3])


def module_path() -> list[str]:
    """Return the `sys.path` of a child: standard library and installed packages, not the folders that this process added."""
    paths = _paths()
    ours = [*{paths["stdlib"]: 0, paths["platstdlib"]: 0, paths["purelib"]: 0, paths["platlib"]: 0}]
    standard = [entry for entry in sys.path if entry.startswith(paths["stdlib"]) or entry.endswith(".zip")]
    installed = [entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
    return list(dict.fromkeys([*standard, *ours, *installed]))
