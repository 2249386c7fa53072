"""Running one cell: compile, execute, echo a trailing expression, and say shortly what went wrong."""

from __future__ import annotations

import _ast as ast  # what the module `ast` adds takes as long to import as walls take to build
import os
import sys
import types

TYPE_CHECKING = False  # see rlm_ray/__init__.py
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

ECHO_CHARS = 20_000
ERROR_CHARS = 4_000
KEPT_SOURCES = 300

_CO_COROUTINE = 0x80
#: The lines of the latest cells, as `linecache` keeps such.
_sources: dict[str, tuple[int, None, list[str], str]] = {}
_NOT_HERE = "Cells have no files, network or processes; data comes from the corpus, models are reached by llm_query and its kin"
_MEMORY = "The sandbox's memory is bounded: work on slices of the corpus, and delete what is no longer needed"


def compile_cell(code: str, name: str) -> list[types.CodeType]:
    """Compile a cell into its statements and, when it ends in an expression, that expression.

    Raises
    ------
    SyntaxError
        With the cell's own line.
    """
    remember(code, name)
    try:
        tree: Any = compile(code, name, "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
    except ValueError as error:  # null bytes
        raise SyntaxError(str(error)) from None
    last = tree.body[-1] if tree.body else None
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    if not isinstance(last, ast.Expr):
        return [compile(tree, name, "exec", flags, dont_inherit=True)]
    del tree.body[-1]
    parts = [compile(tree, name, "exec", flags, dont_inherit=True)] if tree.body else []
    return [*parts, compile(ast.Expression(last.value), name, "eval", flags, dont_inherit=True)]


def remember(code: str, name: str) -> None:
    """Let tracebacks and `inspect.getsource` find the lines of a cell."""
    _sources[name] = (len(code), None, code.splitlines(keepends=True), name)
    forgotten = list(_sources)[: max(0, len(_sources) - KEPT_SOURCES)]
    for key in forgotten:
        del _sources[key]
    if (known := sys.modules.get("linecache")) is not None:
        _tell(known, forgotten)
    elif _Lines not in sys.meta_path:
        sys.meta_path.insert(0, _Lines)


def _tell(linecache: Any, forgotten: Sequence[str] = ()) -> None:
    linecache.cache.update(_sources)
    for key in forgotten:
        linecache.cache.pop(key, None)


class _Lines:
    """Gives `linecache` the lines of the cells when it is imported: most cells never need it."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        """Find the module as others would, and let it be told the lines once it has run."""
        if name != "linecache":
            return None
        sys.meta_path.remove(_Lines)
        from importlib.machinery import PathFinder

        spec: Any = PathFinder.find_spec(name, path)
        if spec is not None:
            run = spec.loader.exec_module

            def run_and_tell(module: Any) -> None:
                run(module)
                _tell(module)

            spec.loader.exec_module = run_and_tell
        return spec


def execute(parts: list[types.CodeType], namespace: dict[str, object]) -> Any:
    """Run what `compile_cell` made; return the value of its last expression, or None."""
    value = None
    for part in parts:
        value = eval(part, namespace)
        if part.co_flags & _CO_COROUTINE:
            import asyncio

            value = asyncio.run(_awaited(value))
    return value


async def _awaited(value: Any) -> Any:
    return await value


def echo(value: Any) -> str:
    """Return the text that a notebook would show for the value of a cell's last expression."""
    text = repr(value)
    return (
        text
        if len(text) <= ECHO_CHARS
        else f"{text[: ECHO_CHARS // 2]}\n[… {len(text) - ECHO_CHARS:,} characters cut …]\n{text[-ECHO_CHARS // 2 :]}"
    )


def explain(error: BaseException) -> str:
    """Say what a cell raised: the cell's own lines, then the exception.

    Examples
    --------
    >>> try:
    ...     execute(compile_cell("x = 1\\ny = x / 0", "<cell 1>"), {})
    ... except ZeroDivisionError as problem:
    ...     print(explain(problem))
    line 2: y = x / 0
    ZeroDivisionError: division by zero
    """
    text = _one(error)
    cause = error.__cause__
    if cause is not None:
        text = f"{_one(cause)}\nwhich caused:\n{text}"
    return text if len(text) <= ERROR_CHARS else f"{text[: ERROR_CHARS // 2]}\n…\n{text[-ERROR_CHARS // 2 :]}"


def _one(error: BaseException) -> str:
    lines = []
    step = error.__traceback__
    while step is not None:
        code, number = step.tb_frame.f_code, step.tb_lineno
        if code.co_filename.startswith("<cell "):
            place = f"line {number}" if code.co_name == "<module>" else f"in {code.co_name}, line {number}"
            lines.append(f"{place}: {_line(code.co_filename, number)[:300]}")
        elif code.co_filename == _SENT:
            lines.append(f"in {code.co_name}, line {number}")
        step = step.tb_next
    if len(lines) > 8:
        lines[4:-4] = [f"… {len(lines) - 8} more calls …"]
    if isinstance(error, SyntaxError) and error.filename and error.filename.startswith("<cell "):
        return f"line {error.lineno}: {(error.text or '').strip()[:300]}\n{type(error).__name__}: {error.msg}"
    return "\n".join([*lines, _name_and_message(error)])


#: What cloudpickle names the file of code that was sent to a worker; its lines are those of the cell that defined it.
_SENT = "<dynamic-code>"


def _line(name: str, number: int) -> str:
    text = _sources[name][2] if name in _sources else []
    return text[number - 1].strip() if 0 < number <= len(text) else ""


def _name_and_message(error: BaseException) -> str:
    kind = type(error)
    name = kind.__name__ if kind.__module__ in ("builtins", "__main__", "rlm_ray.errors") else f"{kind.__module__}.{kind.__name__}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{name}: {error}. {_what_can_be_imported()}"
    if is_import(error):
        return f"{name}: {error}. At this isolation level only modules that were loaded at the start can be imported"
    if isinstance(error, PermissionError) and error.errno in (1, 13):
        return f"{name}: {error}. {_NOT_HERE}"
    if isinstance(error, MemoryError):
        return f"{name}: {str(error) or 'out of memory'}. {_MEMORY}"
    if isinstance(error, SystemExit):
        return "SystemExit: the cell ended itself here; variables are kept"
    try:
        message = str(error)
    except Exception as problem:  # noqa: BLE001 - root code's own __str__ may raise anything
        message = f"(its message could not be made: {type(problem).__name__})"
    if isinstance(error, KeyError) and kind is KeyError:
        message = f"{message} is not a key"
    return f"{name}: {message}" if message else name


def is_import(error: BaseException) -> bool:
    """Tell whether an import failed because no file can be opened at this isolation level."""
    if not isinstance(error, PermissionError):
        return False
    return isinstance(error.filename, str) and error.filename.startswith(tuple(sys.path) or "\0")


def _what_can_be_imported() -> str:
    found: set[str] = set()
    for folder in sys.path:
        if not folder.endswith(("site-packages", "dist-packages")):
            continue
        try:
            entries = os.listdir(folder)
        except OSError:
            continue
        for entry in entries:
            stem = entry.partition(".")[0]
            if stem.isidentifier() and not stem.startswith("_") and "-" not in entry:
                found.add(stem)
    usual = [name for name in ("numpy", "pandas", "pyarrow", "polars", "scipy", "sklearn", "regex", "dateutil") if name in found]
    others = sorted(found - set(usual))
    loaded = "" if found else " Only modules that are already loaded can be imported here."
    listed = ", ".join([*usual, *others][:40])
    return "The standard library is there" + (f"; of others: {listed}." if listed else f".{loaded}")
