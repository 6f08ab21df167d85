"""The dashboard in windows of many widths, in a real browser: every column, button and word is within the window."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.browser import Browser, find_browser
from ground_controller.report.page import report_run
from ground_controller.report.schedule_page import schedule_page
from hil_config.wire.schedule_file import read_schedule
from tests.live.test_access import dashboard

WIDTHS = (1400, 1280, 1240, 1120, 1100, 800, 720, 480, 360)
HEADINGS = ["node, satellite", "state and cause", "power", "temp. twin", "charge twin", "sun", "calls/s"]

CUT = """(() => {
  const cut = [], room = document.documentElement.clientWidth;
  for (const e of document.querySelectorAll("body *")) {
    const box = e.getBoundingClientRect(), style = getComputedStyle(e);
    if (!box.width || style.display === "inline" || e.matches(".hidden, .skip")) continue;
    if (e.title && e.title === e.textContent) continue;  // shortened, and whole when pointed at
    const what = `${e.tagName} ${e.id} ${e.className} ${e.textContent.trim().slice(0, 40)}`;
    if (e.scrollWidth > e.clientWidth + 1) cut.push(`${what}: ${e.scrollWidth} in ${e.clientWidth}`);
    if (box.left < -1 || box.right > room + 1) cut.push(`${what}: ${box.left} to ${box.right} of ${room}`);
  }
  return cut;
})()"""


@pytest.fixture(scope="module")
def browser(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium here: apt install chromium")
    with (
        dashboard(simulated) as (_, address),
        Browser(program, tmp_path_factory.mktemp("profile") / "profile") as one,
    ):
        one.open(address)
        one.until("document.querySelectorAll('#nodes tr').length === 4")
        one.until("document.getElementById('standing').textContent === 'ended'")
        one.until("document.querySelectorAll('.token').length > 20")
        yield one
        assert one.problems == []


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut_off(browser: Browser, width: int) -> None:
    browser.size(width, 900)
    browser.until(f"innerWidth === {width}")
    # Plots get their new size from an observer, which has run when the frame after it is drawn.
    browser.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))")
    assert browser.run(CUT) == []
    headings = browser.run(
        "[...document.querySelectorAll('#nodes-panel th')].map(e => e.innerText.replace(/\\s+/g, ' '))"
    )
    assert headings == HEADINGS
    if width <= 1100:
        assert browser.run("(e => e.scrollHeight > e.clientHeight)(document.documentElement)"), "it is scrolled down"

    browser.click("#nodes tr:nth-child(2)")
    browser.until("document.querySelectorAll('#readings li').length >= 1")
    assert browser.run(CUT) == []
    browser.click("#nodes tr:nth-child(2)")
    browser.until("document.getElementById('detail').hidden")


@pytest.mark.parametrize("width", [1400, 800, 480])
def test_a_token_that_is_asked_for_is_read_whole(browser: Browser, width: int) -> None:
    """Keys and clicks reach it though the time line lies over the page's lower edge."""
    browser.size(width, 900)
    browser.until(f"innerWidth === {width}")
    browser.click(".request:last-child .token")
    browser.until("document.querySelectorAll('#why-body table').length > 3")
    assert browser.run(CUT) == []
    browser.press("Escape")
    assert browser.run("document.getElementById('why').hidden")
    browser.run("document.getElementById('why-body').textContent = ''")


def test_why_a_token_came_out_is_whole_in_a_narrow_window(browser: Browser) -> None:
    browser.size(360, 900)
    browser.until("innerWidth === 360")
    browser.click(".token")
    browser.until("document.querySelectorAll('#why-body .picks td').length > 7")
    assert browser.run(CUT) == []
    assert browser.run(
        "[...document.querySelectorAll('#why-body .picks td:last-child')].every(e => e.offsetWidth > 200)"
    ), "the reason is no column of single words"
    assert "after its request began" in browser.run("document.querySelector('#why-body').textContent")
    browser.press("Escape")


REPORT = """(() => {
  const room = document.documentElement.clientWidth;
  const titles = [...document.querySelectorAll(".gtitle")];
  const cut = titles.filter(e => e.getBoundingClientRect().right > room).map(e => e.textContent);
  const thin = [...document.querySelectorAll("td")].filter(e => e.textContent.length > 40 && e.offsetWidth < 200);
  return [titles.length, cut, thin.map(e => e.textContent), document.documentElement.scrollWidth];
})()"""


def test_a_report_is_whole_in_a_narrow_window(simulated: Path, tmp_path: Path) -> None:
    """Titles say what was measured; a sentence in a table that scrolls is no column of single words."""
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium here: apt install chromium")
    shutil.copytree(simulated, tmp_path / "run")
    page = report_run(tmp_path / "run").page
    with Browser(program, tmp_path / "profile", 360, 900) as one:
        one.open(page.as_uri())
        one.until("document.readyState === 'complete' && document.querySelectorAll('.gtitle').length > 3")
        titles, cut, thin, width = one.run(REPORT)
        assert titles > 3 and (cut, thin, width) == ([], [], 360)
        assert one.problems == []


def test_a_schedule_is_whole_in_a_narrow_window(simulated: Path, tmp_path: Path) -> None:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium here: apt install chromium")
    page = tmp_path / "schedule.html"
    page.write_text(schedule_page(read_schedule(simulated / "schedule.hsched")[0], "demo", "0123456789abcdef" * 4))
    with Browser(program, tmp_path / "profile", 360, 900) as one:
        one.open(page.as_uri())
        one.until("document.readyState === 'complete' && document.querySelectorAll('.gtitle').length > 3")
        assert one.run("document.documentElement.scrollWidth") == 360
        assert one.run("document.querySelectorAll('.modebar-btn').length") == 0, "tools lie over the titles"
