"""`docs/api.md` is made from the docstrings. To renew it: ``RLM_RAY_RENEW_API=1 pytest tests/test_api_page.py``."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

import rlm_ray
from rlm_ray.handle.verbs import NAMES, Verbs

PAGE = Path(__file__).resolve().parents[1] / "docs" / "api.md"
HEAD = """# The public names

Made from the docstrings by `tests/test_api_page.py`. All of a docstring, with its parameters, errors and examples:
`python -m pydoc rlm_ray.ask`, or `help(rlm_ray.ask)`; of a verb, `python -m pydoc rlm_ray.Corpus.chunks`. Examples that are run are
in [verbs.md](verbs.md).
"""


def summary(value: Any) -> str:
    """The first paragraph of a docstring, in one line."""
    told = inspect.cleandoc(value.__doc__ or "").split("\n\n")[0]
    return " ".join(told.split()).replace("|", "or")


def table(title: str, names: dict[str, Any]) -> str:
    rows = "".join(f"| `{name}` | {summary(value)} |\n" for name, value in names.items())
    return f"\n## {title}\n\n| | |\n|---|---|\n{rows}"


def page() -> str:
    kinds = [kind for kind in rlm_ray.Corpus.__mro__ if kind is not object]
    members = {name: value for kind in kinds for name, value in vars(kind).items() if not name.startswith("_")}
    verbs = {name: value for name, value in members.items() if inspect.isfunction(value) or isinstance(value, property)}
    return (
        HEAD
        + table("rlm_ray", {name: getattr(rlm_ray, name) for name in rlm_ray.__all__})
        + table("Corpus", verbs)
        + table("Functions of a session, and of root code", {name: getattr(Verbs, name) for name in NAMES})
    )


def test_the_page_is_what_the_docstrings_say() -> None:
    if os.environ.get("RLM_RAY_RENEW_API") == "1":
        PAGE.write_text(page(), "utf-8")
    assert PAGE.read_text("utf-8") == page(), "renew it: RLM_RAY_RENEW_API=1 pytest tests/test_api_page.py"


def test_every_public_name_has_a_docstring() -> None:
    for name in rlm_ray.__all__:
        assert getattr(rlm_ray, name).__doc__, name
