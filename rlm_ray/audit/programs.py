"""Programs: the cells of a run as files that a person can read, edit and review, with the assumptions that they make.

::

    DIR/program.yaml     the question, the run it was made from, and what it expects of corpora and answer
    DIR/cells/01.py …    the cells, in order; they run where a root model's cells run

A program does what it did, or nothing: where the data or the answer have another shape it ends and says what changed.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema

from rlm_ray.errors import AssumptionBroken, InputError, MissingExtra
from rlm_ray.ledger.calllog import turns
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.types.json import JsonObject, JsonSchema

#: Values of a list that its shape is taken from.
_LOOKED_AT = 1_000
#: Modules that an extra of the package brings.
EXTRAS = {"drain3": "audit"}


@dataclass(frozen=True, slots=True)
class Program:
    """Cells, and what they expect.

    Attributes
    ----------
    cells : tuple of str
    corpora : dict
        `{name: {"unit": …, "schema": {column: type}}}`.
    answer : dict
        JSON Schema of the answer.
    """

    question: str
    cells: tuple[str, ...]
    corpora: dict[str, JsonObject] = field(default_factory=dict)
    answer: JsonSchema = field(default_factory=dict)
    made_from: str = ""

    def check_corpora(self, infos: Mapping[str, JsonObject]) -> None:
        """Compare what is known of corpora with what the program expects. Reads nothing; further columns are fine.

        Raises
        ------
        AssumptionBroken
            Says what changed.
        """
        changes = [f"there is no corpus {name}" for name in self.corpora if name not in infos]
        for name, expected in self.corpora.items():
            info = infos.get(name)
            if info is None:
                continue
            if info["unit"] != expected["unit"]:
                changes.append(f"a record of {name} is a {info['unit']}, and was a {expected['unit']}")
            for column, kind in expected["schema"].items():
                now = info["schema"].get(column)
                if now != kind:
                    changes.append(f"column {column} of {name} is {'gone' if now is None else now}, and was {kind}")
        if changes:
            raise AssumptionBroken(
                f"The program does not fit the data: {'; '.join(changes)}. Look at what changed, then pin a new one."
            )

    def check_imports(self) -> None:
        """Look whether the modules that the cells import are installed; what is imported in a `try` may be missing.

        Raises
        ------
        MissingExtra, InputError
            The first that is not.
        """
        for number, cell in enumerate(self.cells, 1):
            for module in _imported(cell):
                if importlib.util.find_spec(module) is not None:
                    continue
                what = f"Cell {number} of the program, which imports {module},"
                if module in EXTRAS:
                    raise MissingExtra(what, EXTRAS[module])
                raise InputError(f"{what} cannot run: {module} is not installed. Install it where the job runs.")

    def check_answer(self, value: Any) -> None:
        """Compare an answer's shape with what the program gave when it was made.

        Raises
        ------
        AssumptionBroken
            Says what changed.
        """
        error = next(jsonschema.Draft202012Validator(self.answer).iter_errors(value), None)
        if error is not None:
            raise AssumptionBroken(
                f"The program's answer has another shape than when it was made: {error.json_path}: {error.message:.300}. "
                "Look at what changed, then pin a new one."
            )


def _imported(cell: str) -> Iterator[str]:
    """Yield the top-level modules that a cell imports and cannot do without."""
    try:
        waiting: list[ast.AST] = [ast.parse(cell)]
    except (SyntaxError, ValueError, RecursionError):
        return  # the cell's own run says what is wrong
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]
        elif not isinstance(node, ast.Try | ast.TryStar):
            waiting += ast.iter_child_nodes(node)


def of_run(run: RunDirectory) -> Program:
    """Return the program of a run: those of its root's cells that ended well.

    Raises
    ------
    InputError
        The run has no whole answer, or kept no cells.
    """
    about, answer = run.about(), run.answer()
    if answer is None or not answer["complete"] or answer["value"] is None:
        raise InputError(f"The run {run.id} has no whole answer, so its cells are no program. Pin one that answered.")
    question = about.get("question")
    if question is None:
        raise InputError(f"The run {run.id} was made with store_prompts = False and kept no cells. Ask again.")
    cells = [
        cell["code"]
        for turn in turns(run.log("0").events())
        for cell in turn["cells"]
        if cell["code"] is not None and cell["error"] is None and cell["problem"] is None
    ]
    corpora = {name: {"unit": item["info"]["unit"], "schema": item["info"]["schema"]} for name, item in about["contexts"].items()}
    return Program(question, tuple(cells), corpora, shape_of(answer["value"]), run.id)


def shape_of(value: Any) -> JsonSchema:
    """Return a JSON Schema that a value fulfils, and others of the same shape.

    Examples
    --------
    >>> shape_of([{"n": 1, "host": "a"}, {"n": 2.5, "host": None}])["items"]["properties"]
    {'n': {'type': ['integer', 'number']}, 'host': {'type': ['string', 'null']}}
    """
    if isinstance(value, Mapping):
        return {"type": "object", "properties": {key: shape_of(item) for key, item in value.items()}, "required": list(value)}
    if isinstance(value, list):
        shapes = [shape_of(item) for item in value[:_LOOKED_AT]]
        return {"type": "array"} | ({"items": _joined(shapes)} if shapes else {})
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
    return {"type": kinds[type(value)]}


def _joined(shapes: list[JsonSchema]) -> JsonSchema:
    """One shape for several."""
    kinds = list(
        dict.fromkeys(kind for shape in shapes for kind in ([shape["type"]] if isinstance(shape["type"], str) else shape["type"]))
    )
    joined: dict[str, Any] = {"type": kinds[0] if len(kinds) == 1 else kinds}
    objects = [shape for shape in shapes if "properties" in shape]
    if objects:
        names = list(dict.fromkeys(name for shape in objects for name in shape["properties"]))
        joined["properties"] = {
            name: _joined([shape["properties"][name] for shape in objects if name in shape["properties"]]) for name in names
        }
        joined["required"] = [name for name in names if all(name in shape["required"] for shape in objects)]
    items = [shape["items"] for shape in shapes if "items" in shape]
    if items:
        joined["items"] = _joined(items)
    return joined


def save(program: Program, folder: Path) -> None:
    """Write a program into a new folder.

    Raises
    ------
    InputError
        The folder is there already, or cannot be written.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.scalarstring import LiteralScalarString

    told = {
        "question": LiteralScalarString(program.question) if "\n" in program.question else program.question,
        "made_from": program.made_from,
        "expects": {"corpora": program.corpora, "answer": program.answer},
    }
    try:
        (folder / "cells").mkdir(parents=True)
        for number, cell in enumerate(program.cells, 1):
            (folder / "cells" / f"{number:02d}.py").write_text(cell.rstrip("\n") + "\n", "utf-8")
        with (folder / "program.yaml").open("w", encoding="utf-8") as file:
            YAML().dump(told, file)
    except OSError as error:
        raise InputError(f"The program cannot be written to {folder}: {error}. Give a folder that is not there yet.") from None


def load(folder: Path) -> Program:
    """Read a program.

    Raises
    ------
    InputError
        The folder holds none.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        told = YAML(typ="safe").load((folder / "program.yaml").read_text("utf-8"))
        cells = tuple(file.read_text("utf-8").rstrip("\n") for file in sorted((folder / "cells").glob("*.py")))
        expects = told.get("expects") or {}
        program = Program(
            str(told["question"]), cells, expects.get("corpora") or {}, expects.get("answer") or {}, str(told.get("made_from", ""))
        )
        jsonschema.Draft202012Validator.check_schema(program.answer)
    except (OSError, YAMLError, KeyError, TypeError, AttributeError, jsonschema.SchemaError) as error:
        raise InputError(
            f"{folder} holds no program ({' '.join(str(error).split())[:300]}). `rlm-ray pin RUN -o {folder}` makes one."
        ) from None
    if not cells:
        raise InputError(f"The program in {folder} has no cells. They are {folder}/cells/01.py and so on.")
    return program
