"""Hooks of `mkdocs build`: pages that lie outside docs/ join the site, and relative links lead where they do in the repository."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
#: Pages from outside docs/, by their place in the repository: their place in the site.
JOINED = {
    "README.md": "overview.md",
    "ARCHITECTURE.md": "architecture.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "deploy/README.md": "deployment.md",
}
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?![a-z]+:|#)([^)#\s]*)(#[^)]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add each decision to the navigation."""
    pages = [f"decisions/{page.name}" for page in sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))]
    for part in config.nav or []:
        for entry in next(iter(part.values())) if isinstance(next(iter(part.values())), list) else []:
            if "Decisions" in entry:
                entry["Decisions"] += [page for page in pages if page not in entry["Decisions"]]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the joined pages."""
    for source, place in JOINED.items():
        files.append(File.generated(config, place, content=(ROOT / source).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Settle the links of a page."""
    sources = {place: source for source, place in JOINED.items()}
    return settle(markdown, sources.get(page.file.src_uri, f"docs/{page.file.src_uri}"), page.file.src_uri)


def settle(markdown: str, source: str, place: str) -> str:
    """Return a page with links that hold in the site; a file that the site does not have becomes its name.

    Parameters
    ----------
    markdown : str
        The page.
    source, place : str
        Where it lies in the repository and in the site's sources.
    """
    return _LINK.sub(lambda match: _settled(match, source, place), markdown)


def _settled(match: re.Match[str], source: str, place: str) -> str:
    text, target, anchor = match[1], match[2], match[3] or ""
    there = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if there in JOINED:
        there = JOINED[there]
    elif there.startswith("docs/"):
        there = there.removeprefix("docs/")
    else:
        return text if "`" in text or text == there else f"{text} (`{there}`)"
    return f"[{text}]({posixpath.relpath(there, posixpath.dirname(place) or '.')}{anchor})"
