"""The site of the pages builds without a warning, has a search, loads nothing from elsewhere, and its links lead somewhere."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import rlm_ray
from rlm_ray.handle.verbs import NAMES

ROOT = Path(__file__).resolve().parents[1]
pytest.importorskip("mkdocstrings", reason="the site needs the extra docs: pip install -e '.[docs]'")


class Page(HTMLParser):
    """The ids, the links and the loaded files of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids.update(filter(None, [values.get("id"), values.get("name")]))
        if tag == "a" and values.get("href"):
            self.links.append(str(values["href"]))
        if tag in ("img", "script") and values.get("src"):
            self.loads.append(str(values["src"]))
        if tag == "link" and values.get("rel") in ("stylesheet", "icon"):
            self.loads.append(str(values["href"]))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text("utf-8")) for path in site.rglob("*.html") if path.name != "404.html"}


def target_of(link: str, page: Path) -> tuple[Path, str]:
    """The file of the site that a relative link names, and the anchor in it."""
    parts = urlsplit(link)
    file = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    return (file / "index.html" if file.is_dir() else file), unquote(parts.fragment)


def test_links_and_anchors_lead_somewhere(pages: dict[Path, Page], site: Path) -> None:
    broken = []
    for path, page in pages.items():
        for link in page.links:
            if urlsplit(link).scheme or link in ("#__skip", "."):
                continue
            file, anchor = target_of(link, path)
            if not file.is_file() or (anchor and file in pages and anchor not in pages[file].ids and anchor != "__tabbed"):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert broken == []


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert page.loads
        assert [load for load in page.loads if urlsplit(load).netloc] == []
        assert [load for load in page.loads if not target_of(load, path)[0].is_file()] == []


def test_every_public_name_has_its_place_in_the_reference(pages: dict[Path, Page], site: Path) -> None:
    ids = set().union(*(page.ids for path, page in pages.items() if path.is_relative_to(site / "reference")))
    pages_of_names = {"Corpus": "corpus", "Settings": "settings", "errors": "errors"}
    for name in rlm_ray.__all__:
        if name in pages_of_names:
            assert (site / "reference" / pages_of_names[name] / "index.html").is_file()
        else:
            assert any(place.endswith(f".{name}") for place in ids), name
    members = [
        name
        for name, value in vars(rlm_ray.Corpus).items()
        if name[0] != "_" and (inspect.isfunction(value) or isinstance(value, property))
    ]
    assert {f"rlm_ray.handle.corpus.Corpus.{name}" for name in members} <= ids
    assert {f"rlm_ray.handle.verbs.Verbs.{name}" for name in NAMES} <= ids
    errors = [
        name for name, value in vars(rlm_ray.errors).items() if isinstance(value, type) and value.__module__ == "rlm_ray.errors"
    ]
    assert {f"rlm_ray.errors.{name}" for name in errors if not name.startswith("_")} <= ids


def test_the_search_knows_every_page(site: Path, pages: dict[Path, Page]) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text("utf-8"))
    found = {entry["location"].partition("#")[0] for entry in index["docs"]}
    assert {f"{path.parent.relative_to(site)}/".removeprefix("./") for path in pages} <= found | {""}
    assert any("reservation" in entry["text"] or "reserves" in entry["text"] for entry in index["docs"])


@pytest.mark.parametrize(
    ("source", "place", "before", "after"),
    [
        ("README.md", "overview.md", "[x](docs/data.md#csv)", "[x](data.md#csv)"),
        ("docs/cluster.md", "cluster.md", "[x](../SECURITY.md)", "[x](security.md)"),
        ("docs/decisions/0001-a.md", "decisions/0001-a.md", "[x](../../SECURITY.md)", "[x](../security.md)"),
        ("README.md", "overview.md", "[notebooks](notebooks): five", "notebooks: five"),
        ("CONTRIBUTING.md", "contributing.md", "[news](changes/README.md)", "news (`changes/README.md`)"),
        (
            "docs/data.md",
            "data.md",
            "[x](https://example.org/a) ![p](pictures/a.png)",
            "[x](https://example.org/a) ![p](pictures/a.png)",
        ),
    ],
)
def test_links_are_settled(source: str, place: str, before: str, after: str) -> None:
    spec = importlib.util.spec_from_file_location("docs_site", ROOT / ".ci" / "docs_site.py")
    assert spec is not None
    assert spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    assert hooks.settle(before, source, place) == after
