"""What the pages say of names and messages is what the code has. Their examples are run as doctests."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from rlm_ray.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
#: All code as one line, with texts that are written over several lines put together.
SOURCE = " ".join(re.sub(r'"\s*\n\s*f?"', "", file.read_text()) for file in sorted((ROOT / "rlm_ray").rglob("*.py")))
MESSAGES = [
    cell for line in (ROOT / "docs" / "troubleshooting.md").read_text().splitlines() if (cell := re.match(r"\| `([^`]+)`", line))
]


def test_every_setting_is_on_its_page() -> None:
    named = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "settings.md").read_text()))
    assert set(Settings.model_fields) <= named


@pytest.mark.parametrize("message", [cell[1] for cell in MESSAGES])
def test_every_message_of_the_page_is_one_that_the_code_gives(message: str) -> None:
    parts = [part.strip(" .") for part in message.split("…")]
    assert all(part in SOURCE for part in parts), [part for part in parts if part not in SOURCE]


PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_modules_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    files = re.findall(r"`((?:[\w-]+/)+[\w-]+\.(?:py|md|toml|html))`", text)
    assert [file for file in files if not (ROOT / file).exists() and not (ROOT / "rlm_ray" / file).exists()] == []
    modules = re.findall(r"\b(?:from|import) (rlm_ray(?:\.[a-z_0-9]+)+)", text)
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
