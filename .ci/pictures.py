"""Make the pictures of docs/first-hour.md anew: the demo on a terminal as SVG, the report of its run as PNG.

Needs chromium. ``python .ci/pictures.py``: runs the demo, which takes a minute or three.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"
WIDTH = 84
#: As rich's own form, without the font that it would load from elsewhere.
FORM = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: {char_height}px;
line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>
{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def terminal(command: str, output: str, name: str) -> None:
    """Draw a command and what it printed."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {command}", style="bold green"))
    console.print(Text.from_ansi(output.rstrip()))
    svg = console.export_svg(title=command, code_format=FORM, unique_id=name)
    (PICTURES / f"{name}.svg").write_text(re.sub(r"[ \t]+\n", "\n", svg), "utf-8")


def browser(page: Path, name: str, height: int) -> None:
    """Photograph the top of a page."""
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size=1100,{height}"]
    with tempfile.TemporaryDirectory() as profile:
        picture = [f"--user-data-dir={profile}", f"--screenshot={PICTURES / name}.png"]
        subprocess.run([*command, *picture, page.as_uri()], check=True, capture_output=True, timeout=180)


def main() -> None:
    """Run the demo in a folder that goes, and draw."""
    PICTURES.mkdir(exist_ok=True)
    rlm_ray = [sys.executable, "-m", "rlm_ray"]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "COLUMNS": str(WIDTH), "FORCE_COLOR": "1"}
        command = [*rlm_ray, "demo", "--run-dir", folder, "--run-id", "demo"]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        terminal("rlm-ray demo", done.stdout.replace(f"{folder}/", ""), "demo")
        report = Path(folder) / "report.html"
        subprocess.run([*rlm_ray, "show", "demo", "--run-dir", folder, "--html", str(report)], check=True)
        report.write_text(report.read_text("utf-8").replace(str(Path.home()), "~"), "utf-8")  # no picture shows a person's folder
        browser(report, "report", 1300)


if __name__ == "__main__":
    main()
