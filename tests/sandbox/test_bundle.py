"""What sandboxes start with is handed to them in one file, sealed and closed; and it is what they start with."""

from __future__ import annotations

import marshal
import os

import pytest

from rlm_ray.sandbox.outside.process import bundle

LOADED = """
import sys
found = [name for name, module in sorted(sys.modules.items())
    if str(getattr(getattr(module, "__spec__", None), "origin", "")).endswith(".py")]
print(*found)
"""


def test_a_sandbox_starts_with_what_is_in_the_bundle(start):
    """A module that joins what a sandbox imports belongs into the bundle too."""
    driven = start(setup={"scaffold_source": "def namespace(backend, setup):\n    import rlm_ray.handle.verbs\n    return {}"})
    assert set(driven.output(LOADED).split()) <= {*bundle.NAMES, "encodings.aliases", "encodings.utf_8"}


def test_modules_know_their_place_and_their_source(start):
    driven = start()
    assert driven.output("import json.decoder as d\nprint(d.__loader__.get_source(d.__name__)[:20])").startswith('"""')
    source = "import inspect, json.decoder as d\nprint(inspect.getsource(d.JSONDecoder)[:40])"
    assert "class JSONDecoder" in driven.output(source)
    assert driven.output("import importlib, json\nprint(importlib.reload(json).loads('[1]'))") == "[1]\n"


def test_no_child_can_change_what_others_start_with():
    descriptor, size = bundle.bundle()
    with pytest.raises(PermissionError):
        os.pwrite(descriptor, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, size - 1)
    _, modules = marshal.loads(os.pread(descriptor, size, 0))
    assert "rlm_ray.sandbox.inside.boot" in modules


def test_a_child_has_closed_it(start):
    driven = start()
    driven.box.wait_ready()
    folder = f"/proc/{driven.box.pid}/fd"
    names = [os.readlink(f"{folder}/{number}") for number in os.listdir(folder)]
    assert not [name for name in names if "memfd" in name]
    assert len(names) == 4  # nothing in, out and err; and the socket
