"""Chooses the isolation level of a run: which walls this machine can build, and what a person should know about them."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass

from rlm_ray.errors import SandboxError, SandboxUnavailable
from rlm_ray.sandbox.outside.events import Limits
from rlm_ray.sandbox.outside.host import Sandbox
from rlm_ray.settings import Isolation

#: How to run where this machine cannot build the walls.
CONTAINER = (
    'docker run --rm -it --security-opt seccomp=unconfined -v "$PWD":/work -w /work python:3.12-slim '
    "sh -c 'pip install rlm-ray && rlm-ray ask …'"
)


@dataclass(frozen=True)
class Choice:
    """The isolation level of a run on this node, and what a person should know about it."""

    level: Isolation
    warning: str | None = None


@functools.cache
def probe(level: Isolation) -> dict[str, int | bool]:
    """Build the walls of `level` once on this node and return which stand: Landlock's version, seccomp, namespaces.

    Starts one child (some 50 ms); the result is kept for the life of the process.

    Raises
    ------
    SandboxUnavailable
        They cannot be built here.
    """
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
