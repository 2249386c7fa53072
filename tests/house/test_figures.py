"""No figure of the code's order rises above its ceiling; each is measured on code that is known to break it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.house.figures import FIGURES, Figure, House

BAD = {
    "errors.py": "class RlmRayError(Exception):\n    ends_run = False\n",
    "plan.py": "class Step:\n    pass\nclass Where(Step):\n    pass\n",
    "room/a.py": "import rlm_ray.room.b\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import rlm_ray.room.c\n",
    "room/b.py": "def f():\n    from rlm_ray.room import a\n",
    "room/c.py": "import rlm_ray.room.a\n",
    "d.py": """
def told(step: object, info: dict[str, Any]) -> list[dict[str, Any]]:
    if isinstance(step, str | Where) or step.format == "csv" or step.format.upper():
        return check(step, info)
    try:
        return []
    except OSError as error:
        error.passing = error.ends_run = error.filename = True
        return getattr(error, "passing", isinstance(step, str))
""",
}
EXPECTED = {
    "import circles": 1,
    "files directly in the fullest room": 3,
    "isinstance tests of plan nodes": 1,
    "tests of .format outside reading": 1,
    "calls of check(steps, schema)": 1,
    "dict[str, Any] in signatures": 2,
    "vague names of functions and fields": 1,
    "undeclared attributes on errors": 1,
    "getattr and the like on errors": 1,
}


@pytest.fixture(scope="module")
def house() -> House:
    return House()


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.what)
def test_no_figure_rises(house: House, figure: Figure) -> None:
    places = figure.places(house)
    assert len(places) <= figure.ceiling, "\n".join([f"{figure.what}: {len(places)}, at most {figure.ceiling}", *places])


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.what)
def test_each_figure_sees_what_it_counts(tmp_path: Path, figure: Figure) -> None:
    for name, text in BAD.items():
        path = tmp_path / "rlm_ray" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    places = figure.places(House(tmp_path))
    assert len(places) == EXPECTED[figure.what], places
