"""The pages of docs/decisions: numbered without gaps, each with the same headings, all in the index."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "decisions"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path.name != "README.md")
PAGE = re.compile(
    r"# (?P<number>\d{4})\. (?P<title>[^\n]+)\n\nDate: (?P<date>[\d-]{10})\n(?:\nReplaced by \[\d{4}\]\([^)]+\)\.\n)?"
    r"\n## Decision\n\n(?P<decision>.+)\n## Alternatives\n\n(?P<alternatives>.+)\n## Why\n\n(?P<why>.+)\n",
    re.DOTALL,
)


def parts(page: Path) -> dict[str, str]:
    match = PAGE.fullmatch(page.read_text("utf-8"))
    assert match, f"{page.name}: number, title, date, Decision, Alternatives, Why, in this order"
    return match.groupdict()


def test_numbers_follow_each_other() -> None:
    assert [page.name[:5] for page in PAGES] == [f"{number:04}-" for number in range(1, len(PAGES) + 1)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_page_has_its_parts(page: Path) -> None:
    found = parts(page)
    assert found["number"] == page.name[:4]
    datetime.date.fromisoformat(found["date"])
    assert found["alternatives"].startswith("- ")
    assert all(found[name].strip() and "## " not in found[name] for name in ("decision", "alternatives", "why"))


def test_the_index_names_each_page_with_its_title_and_date() -> None:
    rows = re.findall(r"^\| \[(\d{4})\]\(([^)]+)\) \| (.+) \| (.+) \|$", (FOLDER / "README.md").read_text("utf-8"), re.MULTILINE)
    expected = [(found["number"], page.name, found["title"], found["date"]) for page in PAGES for found in [parts(page)]]
    assert rows == expected
