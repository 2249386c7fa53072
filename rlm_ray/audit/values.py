"""Values that a specification hands to its program: from files that a person edits, to a cell that sets variables."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from rlm_ray.errors import InputError
from rlm_ray.specfile import plain
from rlm_ray.types.json import Record

ENDINGS = (".yaml", ".yml", ".json", ".csv")
#: A list that people keep is smaller; what is larger is a corpus.
MAX_CHARS = 500_000


def read(name: str, folder: Path) -> Any:
    """Read a file of values: YAML or JSON as it is, CSV as a list of mappings.

    Parameters
    ----------
    name : str
        A path: from `folder`, else from the current folder.
    folder : Path
        That of the specification.

    Raises
    ------
    InputError
        It is not there, cannot be read, or is too large.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    path = next((place for place in (folder / name, Path(name)) if place.is_file()), None)
    if path is None:
        raise InputError(
            f"there is no file {folder / name}, and no {name} in the current folder. Give a file, or the value itself."
        )
    try:
        text = path.read_text("utf-8-sig")
        if len(text) > MAX_CHARS:
            raise InputError(f"{path} has {len(text):,} characters; a value has at most {MAX_CHARS:,}. Make it a corpus.")
        if path.suffix == ".csv":
            return [{key: cell for key, cell in row.items() if key and cell} for row in csv.DictReader(io.StringIO(text))]
        return json.loads(text) if path.suffix == ".json" else YAML(typ="safe").load(text)
    except (OSError, UnicodeDecodeError, ValueError, YAMLError, csv.Error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())[:300]}. Correct it.") from None


def cell(values: Record) -> str:
    """Return the cell that sets a program's variables.

    Examples
    --------
    >>> print(cell({"hosts": ["a", "b"], "limit": None}))
    # The values of the specification.
    hosts = ['a', 'b']
    limit = None
    """
    # what a specification says is JSON, and the repr of JSON's values is Python
    return "\n".join(["# The values of the specification.", *(f"{name} = {plain(value)!r}" for name, value in values.items())])
