"""Figures of the code's order that should be low: circles of imports, full folders, untyped edges, plans interpreted again.

All figures come from the source, by `ast`: nothing of the package is imported. ``python -m tests.house.figures -v`` prints each
figure with its places.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "rlm_ray"

#: Names that say nothing of what a function does or a field holds.
VAGUE = frozenset({"told", "_told", "said", "_said", "words", "_words", "had", "_had", "again", "_again", "alone", "_alone"})
#: Attributes that every exception has, or that the classes of the standard library declare.
_BUILTIN = {name for kind in (OSError, ImportError, UnicodeError, SystemExit, StopIteration) for name in dir(kind)}


@dataclass(frozen=True)
class Module:
    """One file of the package.

    Attributes
    ----------
    name : str
        As it is imported, such as ``rlm_ray.corpus.reading.scan``.
    """

    name: str
    path: Path
    tree: ast.Module

    def at(self, node: ast.AST) -> str:
        """Return the place of `node`, such as ``rlm_ray/api.py:12``."""
        return f"{self.name.replace('.', '/')}.py:{getattr(node, 'lineno', 1)}"

    def calls(self, function: str) -> Iterator[ast.Call]:
        """All calls of a plain name."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function:
                yield node

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """All functions and methods, also the inner ones."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node


@dataclass(frozen=True)
class House:
    """The source of the package, read once."""

    root: Path = ROOT
    modules: dict[str, Module] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in sorted((self.root / PACKAGE).rglob("*.py")):
            name = ".".join(path.relative_to(self.root).with_suffix("").parts).removesuffix(".__init__")
            self.modules[name] = Module(name, path, ast.parse(path.read_text("utf-8")))

    def room(self, *parts: str) -> str:
        """The name of the first of the given modules or packages that exists: it differs between layouts."""
        return next((part for part in parts if part in self.modules), parts[0])

    # -- figures: each gives the places that count --------------------------------------------------------

    def import_circles(self) -> list[str]:
        """Groups of modules that import each other, in a chain that ends where it began.

        Imports inside functions count, those for type checkers alone do not.
        """
        graph = {name: self._imports(module) for name, module in self.modules.items()}
        return [" <-> ".join(sorted(circle)) for circle in _components(graph) if len(circle) > 1]

    def fullest_room(self) -> list[str]:
        """The files of the folder that has the most files directly in it; `__init__` does not count."""
        rooms: dict[str, list[str]] = {}
        for module in self.modules.values():
            if module.path.name != "__init__.py":
                rooms.setdefault(module.path.parent.relative_to(self.root).as_posix(), []).append(module.name)
        del rooms[PACKAGE]  # the package's own floor has a figure of its own
        return max(rooms.values(), key=len)

    def tests_of_plan_nodes(self) -> list[str]:
        """Calls of `isinstance` with a class of the plan's nodes."""
        nodes = self._subclasses("Step")
        return [
            module.at(call)
            for module in self.modules.values()
            for call in module.calls("isinstance")
            if len(call.args) == 2 and nodes & {n.id for n in ast.walk(call.args[1]) if isinstance(n, ast.Name)}
        ]

    def tests_of_format(self) -> list[str]:
        """Comparisons of an attribute `format` outside the folder that reads formats."""
        reading = (self.room(f"{PACKAGE}.corpus.reading", f"{PACKAGE}.corpus.formats") + ".", f"{PACKAGE}.audit.")  # a job's output
        found = []
        for module in self.modules.values():
            if module.name.startswith(reading):
                continue
            for node in ast.walk(module.tree):
                if isinstance(node, ast.Compare):
                    sides = [node.left, *node.comparators]
                    found += [module.at(node)] if any(isinstance(s, ast.Attribute) and s.attr == "format" for s in sides) else []
                elif isinstance(node, ast.Match) and isinstance(node.subject, ast.Attribute) and node.subject.attr == "format":
                    found.append(module.at(node))
        return found

    def schema_checks(self) -> list[str]:
        """Calls of `check(steps, schema)`, which interpret a plan's steps once more."""
        return [module.at(call) for module in self.modules.values() for call in module.calls("check") if len(call.args) == 2]

    def untyped_signatures(self) -> list[str]:
        """Each `dict[str, Any]` in the parameters or the result of a function."""
        found = []
        for module in self.modules.values():
            for function in module.functions():
                given = function.args
                arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
                hints = [a.annotation for a in arguments if a is not None] + [function.returns]
                found += [module.at(n) for hint in hints if hint is not None for n in ast.walk(hint) if _is_open_dict(n)]
        return found

    def vague_names(self) -> list[str]:
        """Functions and fields with one of the names of `VAGUE`."""
        found = []
        for module in self.modules.values():
            for node in ast.walk(module.tree):
                names: set[str] = set()
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    names = {node.name}
                elif isinstance(node, ast.ClassDef):
                    names = {n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
                    names |= {_self_attribute(n) for n in ast.walk(node) if isinstance(n, ast.Attribute)} - {""}
                found += [f"{module.at(node)} {name}" for name in sorted(names & VAGUE)]
        return found

    def undeclared_on_errors(self) -> list[str]:
        """Attributes written to an error, that no class of `errors.py` declares."""
        declared = _BUILTIN | self._declared_by_errors()
        return [
            f"{module.at(node)} {node.attr}"
            for module in self.modules.values()
            for scope, errors in _error_names(module)
            for node in ast.walk(scope)
            if isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id in errors
            and node.attr not in declared
        ]

    def reflection_on_errors(self) -> list[str]:
        """Calls of `getattr`, `setattr` and `hasattr` on a caught error: it should declare its fields."""
        found = {
            f"{module.at(node)} {node.func.id}"
            for module in self.modules.values()
            for scope, errors in _error_names(module)
            for node in ast.walk(scope)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("getattr", "setattr", "hasattr")
            and node.args
            and isinstance(node.args[0], ast.Name)
            and node.args[0].id in errors
        }
        return sorted(found)

    # -- what they need -----------------------------------------------------------------------------------

    def _imports(self, module: Module) -> set[str]:
        found: set[str] = set()

        def visit(node: ast.AST) -> None:
            if isinstance(node, ast.If) and any(isinstance(n, ast.Name) and n.id == "TYPE_CHECKING" for n in ast.walk(node.test)):
                for child in node.orelse:
                    visit(child)
                return
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names if alias.name in self.modules)
            elif isinstance(node, ast.ImportFrom):
                base = self._base(module, node)
                inner = {f"{base}.{alias.name}" for alias in node.names}
                found.update(inner & self.modules.keys() or {base} & self.modules.keys())
            for child in ast.iter_child_nodes(node):
                visit(child)

        visit(module.tree)
        return found - {module.name}

    @staticmethod
    def _base(module: Module, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = module.name.split(".")
        above = parts[: len(parts) - node.level + (module.path.name == "__init__.py")]
        return ".".join([*above, *([node.module] if node.module else [])])

    def _subclasses(self, base: str) -> set[str]:
        kinds = {
            node.name: {b.id for b in node.bases if isinstance(b, ast.Name)}
            for module in self.modules.values()
            for node in ast.walk(module.tree)
            if isinstance(node, ast.ClassDef)
        }
        found = {base}
        while more := {name for name, bases in kinds.items() if bases & found} - found:
            found |= more
        return found

    def _declared_by_errors(self) -> set[str]:
        tree = self.modules[f"{PACKAGE}.errors"].tree
        fields = {n.target.id for n in ast.walk(tree) if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                fields |= {t.id for n in node.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
        return fields | {_self_attribute(n) for n in ast.walk(tree) if isinstance(n, ast.Attribute)} - {""}


def _components(graph: dict[str, set[str]]) -> list[set[str]]:
    """The strongly connected components, after Tarjan."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def enter(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                enter(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            place = stack.index(name)
            found.append(set(stack[place:]))
            del stack[place:]

    for name in graph:
        if name not in index:
            enter(name)
    return found


def _is_open_dict(node: ast.AST) -> bool:
    return isinstance(node, ast.Subscript) and ast.unparse(node) in ("dict[str, Any]", "Dict[str, Any]", "Mapping[str, Any]")


def _self_attribute(node: ast.Attribute) -> str:
    ours = isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name) and node.value.id == "self"
    return node.attr if ours else ""


def _error_names(module: Module) -> Iterator[tuple[ast.AST, set[str]]]:
    """Scopes with the names that stand for an error in them: parameters, handlers, and what was made of a class of errors."""
    for scope in module.functions():
        names = {arg.arg for arg in [*scope.args.args, *scope.args.kwonlyargs] if arg.annotation and _is_error(arg.annotation)}
        for node in ast.walk(scope):
            if isinstance(node, ast.ExceptHandler) and node.name:
                names.add(node.name)
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _is_error(node.value.func):
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        names |= {"error"} if any(isinstance(n, ast.Name) and n.id == "error" for n in ast.walk(scope)) else set()
        yield scope, names


def _is_error(node: ast.AST) -> bool:
    text = ast.unparse(node)
    return text.split("[")[0].rpartition(".")[2].endswith(("Error", "Exception", "Refused", "Failed", "Exceeded", "Invalid"))


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes
    ----------
    aim : int
        Where the figure should be.
    ceiling : int
        What it may be today. Lower it when the figure falls; a figure that rises above it fails the test.
    """

    what: str
    places: Callable[[House], list[str]]
    aim: int
    ceiling: int


FIGURES = (
    Figure("import circles", House.import_circles, aim=0, ceiling=0),
    Figure("files directly in the fullest room", House.fullest_room, aim=12, ceiling=12),
    Figure("isinstance tests of plan nodes", House.tests_of_plan_nodes, aim=15, ceiling=10),
    Figure("tests of .format outside reading", House.tests_of_format, aim=5, ceiling=0),
    Figure("calls of check(steps, schema)", House.schema_checks, aim=1, ceiling=0),
    Figure("dict[str, Any] in signatures", House.untyped_signatures, aim=120, ceiling=76),
    Figure("vague names of functions and fields", House.vague_names, aim=0, ceiling=0),
    Figure("undeclared attributes on errors", House.undeclared_on_errors, aim=0, ceiling=0),
    Figure("getattr and the like on errors", House.reflection_on_errors, aim=0, ceiling=0),
)


def main() -> None:
    """Print the table; with ``-v`` the places too."""
    house = House()
    for figure in FIGURES:
        places = figure.places(house)
        print(f"{figure.what:40} {len(places):4}   ceiling {figure.ceiling:4}   aim {figure.aim:4}")
        if "-v" in sys.argv:
            print(*(f"    {place}" for place in places), sep="\n")


if __name__ == "__main__":
    main()
