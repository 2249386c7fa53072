"""The report as a browser shows it. Skips where there is no Chromium."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rlm_ray.report.page import page
from tests.report.browser import Browser, binary

pytestmark = pytest.mark.skipif(binary() is None, reason="no chromium: apt-get install chromium")

#: Contrast of every text with what is behind it, by the formula of WCAG 2.
CONTRAST = """(() => {
  const light = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number).map((value) => {
    const share = value / 255; return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  }).reduce((sum, value, place) => sum + value * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = (element) => {
    for (let place = element; place; place = place.parentElement) {
      const colour = getComputedStyle(place).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  let least = [99, ""];
  for (const element of document.querySelectorAll("body *:not(script):not(svg):not(svg *)")) {
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()) || !element.offsetParent) continue;
    const [one, other] = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
    const contrast = (one + 0.05) / (other + 0.05);
    if (contrast < least[0]) least = [contrast, element.outerHTML.slice(0, 100)];
  }
  return least;
})()"""


def looked(tmp_path: Path, told: dict[str, Any], look: Callable[[Browser, Path], Awaitable[None]]) -> list[str]:
    file = tmp_path / "report.html"
    file.write_text(page(told), "utf-8")

    async def run() -> list[str]:
        async with Browser(tmp_path / "profile") as browser:
            await look(browser, file)
            return browser.errors

    return asyncio.run(run())


@pytest.mark.parametrize("calls", [10, 1_000, 10_000])
def test_it_fits_every_width_and_says_what_happened(tmp_path: Path, run_of: Any, calls: int) -> None:
    async def look(browser: Browser, file: Path) -> None:
        for width in (1280, 400):
            await browser.open(file, width)
            assert await browser.ask("document.documentElement.scrollWidth <= innerWidth"), f"scrolls sideways at {width}"
            assert await browser.ask("document.title") != "broken"
        assert await browser.ask("document.querySelectorAll('#below > details:not([hidden])').length") == min(100, calls // 10)

    assert looked(tmp_path, run_of(calls), look) == []


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_stands_out(tmp_path: Path, run_of: Any, dark: bool) -> None:
    async def look(browser: Browser, file: Path) -> None:
        await browser.open(file, 1280, dark=dark)
        await browser.ask("document.querySelectorAll('details').forEach((item) => { item.open = true })")
        contrast, where = await browser.ask(CONTRAST)
        assert contrast >= 4.5, where

    assert looked(tmp_path, run_of(20), look) == []


def test_rows_and_turns_are_drawn_when_they_are_opened(tmp_path: Path, run_of: Any) -> None:
    async def look(browser: Browser, file: Path) -> None:
        await browser.open(file, 1280)
        rows = "document.querySelectorAll('#results .tabulator-row').length"
        assert await browser.ask(rows) == 0
        await browser.ask("document.querySelector('#results details').open = true")
        await browser.ask("new Promise((done) => setTimeout(done, 300))")
        assert 10 < await browser.ask(rows) < 100, "rows that are not seen are not drawn"
        assert await browser.ask("document.querySelector('#results [role=status]').textContent") == "300 rows"
        await browser.ask(
            "box = document.querySelector('#results input'); box.value = '299'; box.dispatchEvent(new Event('input'))"
        )
        await browser.ask("new Promise((done) => setTimeout(done, 300))")
        assert await browser.ask("document.querySelector('#results [role=status]').textContent") == "1 of 300 rows"
        await browser.ask("document.querySelector('#results .tabulator-row').click()")
        assert "s3://lake/a@1#row=0" in await browser.ask("document.querySelector('#results .whole').textContent")
        assert (await browser.ask("csv(['n', 't'], [[-1, '=1+1'], [2, 'a,\"b']])")).split("\r\n") == [
            "n,t",
            "-1,'=1+1",
            '2,"a,""b"',
        ]
        await browser.ask("document.querySelector('#evidence details').open = true")
        await browser.ask("document.querySelector('#turns .prompt').open = true")
        await browser.ask("new Promise((done) => setTimeout(done, 100))")
        assert "</script>" in await browser.ask("document.querySelector('#evidence mark').textContent")
        assert await browser.ask("document.querySelectorAll('#turns .prompt pre').length") == 2
        await browser.ask("document.querySelector('#below details').open = true")
        await browser.ask("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        assert await browser.ask("document.querySelector('#below details').querySelectorAll('pre').length") >= 3
        assert await browser.ask("document.title") != "broken"
        await browser.ask(
            "filter.value = '0-17'; filter.dispatchEvent(new Event('input'))",
        )
        assert await browser.ask("document.querySelectorAll('#below > details:not([hidden])').length") == 1

    assert looked(tmp_path, run_of(300), look) == []


def test_every_control_is_reached_by_the_keyboard(tmp_path: Path, run_of: Any) -> None:
    async def look(browser: Browser, file: Path) -> None:
        await browser.open(file, 1280)
        controls = await browser.ask(
            "[...document.querySelectorAll('a[href], summary, button, input, [tabindex]')]"
            ".filter((item) => item.checkVisibility()).length"
        )
        reached = "window.seen ??= new Set(); window.seen.add(document.activeElement); window.seen.delete(document.body); seen.size"
        for _ in range(controls + 5):
            await browser.press("Tab")
            found = await browser.ask(reached)
        assert found == controls
        await browser.ask("document.querySelector('.turn > summary').focus()")
        before = await browser.ask("document.querySelector('.turn').open")
        await browser.press("Enter")
        assert await browser.ask("document.querySelector('.turn').open") is not before

    assert looked(tmp_path, run_of(10), look) == []
