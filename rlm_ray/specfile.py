"""A specification's file: YAML, with the line in every mistake that is told."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rlm_ray import settings
from rlm_ray.errors import InputError, SpecError

#: Mistakes that one error lists.
MAX_MISTAKES = 20


class SpecFile:
    """What a file says, and where it says it.

    Parameters
    ----------
    path : Path
        A YAML file.
    changes : sequence of str
        `key=value` or `key.key=value`, which replace what the file says; values are YAML.
    keys : str
        What to write into a file that holds no mapping.

    Attributes
    ----------
    path : Path
    content : Any
        A mapping that knows its lines.

    Raises
    ------
    SpecError
        The file cannot be read, or holds no mapping.
    """

    def __init__(self, path: Path, changes: Sequence[str], keys: str) -> None:
        self.path = path
        self.content = _read(path, keys)
        for change in changes:
            settings.change(self.content, change)

    def at(self, *keys: Any) -> str:
        """Return where a key stands, as `job.yaml:12`; the file alone where it does not have it."""
        content, line = self.content, ""
        for key in keys:
            places = getattr(getattr(content, "lc", None), "data", None) or {}
            if key in places:
                line = f":{places[key][0] + 1}"
            elif not isinstance(content, Mapping | list):
                break
            try:
                content = content[key]
            except (KeyError, IndexError, TypeError):
                break
        return f"{self.path}{line}"

    def check(self, key: str, check: Callable[[], Any]) -> None:
        """Tell what a check of one key has against it, with the line of what it names."""
        try:
            check()
        except InputError as error:
            section = self.content.get(key)
            named = [name for name in section if str(name) in str(error)] if isinstance(section, Mapping) else []
            raise SpecError(f"{self.at(key, *named[:1])}: {key}: {error}") from None

    def wrong(self, error: ValidationError, known: Callable[[Sequence[Any]], Sequence[str]]) -> SpecError:
        """Return what is wrong, a line a mistake; `known` gives the keys that there may be under some keys."""
        items = error.errors()
        # a list is not also too short because what is in it is wrong
        inner = {item["loc"][:end] for item in items for end in range(len(item["loc"]))}
        mistakes = [item for item in items if item["type"] != "too_short" or item["loc"] not in inner]
        return SpecError("\n".join(self._mistake(item, known) for item in mistakes[:MAX_MISTAKES]))

    def _mistake(self, item: Any, known: Callable[[Sequence[Any]], Sequence[str]]) -> str:
        keys = tuple(key for key in item["loc"] if key != "[key]")
        name, where = ".".join(map(str, keys)), self.at(*keys)
        if item["type"] == "missing":
            return f"{where}: {name} is missing. Add it."
        if item["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(keys[-1]), known(keys[:-1]), 1)
            return f"{where}: {name}: there is no such key{f'; did you mean {near[0]}?' if near else '. Leave it out.'}"
        reason = re.sub(r"^(Value error, |\w+ (?=should ))", "", str(item["msg"]))
        return f"{where}: {name} = {item['input']!r:.100}: it {reason}."


def plain(value: Any) -> Any:
    """Return a value in JSON's types: a date of YAML as its text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    return next((kind(value) for kind in (int, float, str) if isinstance(value, kind)), str(value))


def _read(path: Path, keys: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        content = YAML(typ="rt").load(path.read_text("utf-8"))
    except MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f":{error.problem_mark.line + 1}"
        reason = " ".join(part for part in (error.context, error.problem) if part)
        raise SpecError(
            f"{path}{line}: it cannot be read as YAML: {' '.join(reason.split())}. Correct it there, or just above."
        ) from None
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise SpecError(f"{path} cannot be read: {' '.join(str(error).split())}. Give a YAML file.") from None
    if not isinstance(content, dict):
        raise SpecError(f"{path} holds no mapping. Write {keys}.")
    return content
