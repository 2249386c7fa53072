"""The tasks of a contributor: `nox -l` lists them. Each uses an environment of its own; `nox --no-venv` uses the active one."""

from __future__ import annotations

import nox

nox.options.sessions = ["lint", "types", "fast"]
nox.options.reuse_existing_virtualenvs = True


def _install(session: nox.Session) -> None:
    if session.virtualenv.is_sandboxed:
        session.install("-e", ".[dev]")


@nox.session
def fast(session: nox.Session) -> None:
    """Run the tests that start no Ray, no server and no sandbox."""
    _install(session)
    session.run("pytest", "-q", "-m", "fast", "-n", "2", "tests", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the whole suite on two processes."""
    _install(session)
    session.run("pytest", "-q", "-n", "2", "--dist", "loadfile", "--durations=20", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, the structure of the imports and the news fragments."""
    _install(session)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")
    session.run("towncrier", "build", "--draft", "--version", "next")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types."""
    _install(session)
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the pages as a site; a warning is an error."""
    if session.virtualenv.is_sandboxed:
        session.install("-e", ".[docs]")
    session.run("mkdocs", "build", "--strict", *session.posargs, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Run one benchmark: `nox -s benchmarks -- lake`."""
    _install(session)
    name, *arguments = session.posargs or ["lake"]
    session.run("python", f"tests/benchmarks/{name}.py", *arguments)
