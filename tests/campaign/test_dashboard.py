"""The dashboard over a real run, in a real browser: the map moves, text streams, a killed node turns red and says why,
a token explains itself, keys alone suffice."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from benchmarks.browser import Browser, find_browser
from ground_controller.journal import NAME
from tests.campaign.conftest import HIL, hil

if TYPE_CHECKING:
    from tests.campaign.conftest import Launched, Starter

PLACE = re.compile(r"(\w+) ([\d.]+) (north|south) ([\d.]+) (east|west), (\w[\w ]*), in")
ORBIT_S = 1200
"""Two minutes: longer than a busy machine needs to come to the end of the tests, which skip the rest."""


class Watched(NamedTuple):
    """A run, and a browser that looks at it."""

    run: Launched
    browser: Browser

    def places(self) -> dict[str, tuple[float, float]]:
        """Latitude and longitude of the satellites by node, as the map says them."""
        told = self.browser.run("document.getElementById('map').getAttribute('aria-label')")
        return {
            name: (float(lat) * (1 if ns == "north" else -1), float(lon) * (1 if ew == "east" else -1))
            for name, lat, ns, lon, ew, _ in PLACE.findall(told)
        }

    def row(self, node: str) -> str:
        return str(self.browser.run(f"{_row(node)}.innerText"))


def _row(node: str) -> str:
    return f"[...document.querySelectorAll('#nodes tr')].find(r => r.innerText.startsWith('{node}'))"


def _lightness(css: str) -> int:
    return sum(map(int, re.findall(r"\d+", css)[:3]))


@pytest.fixture(scope="module")
def watched(module_starter: Starter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """The dashboard is started as soon as there is a journal, and runs beside the run."""
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium here: apt install chromium")
    run = module_starter.start("watched", orbit__duration_s=ORBIT_S)
    run.wait_tokens(1)
    process = subprocess.Popen(
        [*HIL, "dashboard", str(run.folder), "--port", "0"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        process.stdout.readline()
        address = process.stdout.readline().strip()
        with Browser(program, tmp_path_factory.mktemp("profile") / "profile") as browser:
            browser.open(address)
            browser.until("document.querySelectorAll('#nodes tr').length === 4")
            yield Watched(run, browser)
            assert browser.problems == []
    finally:
        process.terminate()
        process.communicate(timeout=20.0)


def test_it_shows_a_run_go_on_and_a_node_die(watched: Watched) -> None:
    browser, run = watched.browser, watched.run
    browser.until("document.getElementById('standing').textContent === 'goes on'")
    assert (run.folder / NAME).exists()

    places = watched.places()
    assert sorted(places) == ["alpha", "bravo", "charlie", "delta"]
    before = int(browser.until("Number(document.getElementById('count').textContent)"))
    browser.until(f"Number(document.getElementById('count').textContent) > {before + 20}")
    browser.until("document.querySelectorAll('.token').length > 20")
    browser.wait(lambda: watched.places() != places, "the map to move")
    moved = watched.places()
    assert any(abs(moved[name][1] - lon) > 0.1 for name, (_, lon) in places.items())

    assert "modelled" in watched.row("bravo") and "serving" in watched.row("bravo")
    run.kill("bravo")
    browser.until(f"{_row('bravo')}.className === 'dead'")
    assert "lost without a word: the broker sent its last will" in watched.row("bravo")
    assert re.search(r"since \d+ s", watched.row("bravo")), "no watts, and since when"
    shown = browser.run(f"getComputedStyle({_row('bravo')}.querySelector('.state')).color")
    red, green, blue = map(int, re.findall(r"\d+", shown)[:3])
    assert red > 2 * max(green, blue), shown
    assert browser.run("document.getElementById('notice').textContent").startswith("bravo is dead: lost")
    bad = browser.run("[...document.querySelectorAll('#events li.bad')].map(e => e.innerText)")
    assert any("bravo dead: lost without a word" in one for one in bad), bad
    assert "bravo" in browser.run("document.getElementById('map').getAttribute('aria-label')")


def test_a_token_says_why_and_keys_suffice(watched: Watched) -> None:
    browser = watched.browser
    browser.until("document.querySelectorAll('.tokens').length > 2")
    for _ in range(30):
        browser.press("Tab")
        if browser.run("document.activeElement.classList.contains('token')"):
            break
    number = int(browser.run("document.activeElement.dataset.number"))
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid", "focus is seen"
    browser.press("ArrowRight")
    after = int(browser.run("document.activeElement.dataset.number"))
    assert after != number
    browser.press("ArrowLeft")
    assert int(browser.run("document.activeElement.dataset.number")) == number
    browser.press("ArrowDown")
    request = browser.run("document.activeElement.closest('.request').querySelector('h3').innerText")
    assert request.startswith("request ")
    browser.press("End")
    asked = int(browser.run("document.activeElement.dataset.number"))
    browser.press("Enter")
    browser.until("!document.getElementById('why').hidden")
    browser.until(f"document.getElementById('why-title').textContent.startsWith('token {asked}')")
    browser.press("Escape")
    assert browser.run("document.getElementById('why').hidden")
    assert int(browser.run("document.activeElement.dataset.number")) == asked, "focus comes back"

    browser.click(".request:last-child .token")
    browser.until("document.querySelectorAll('#why-body table').length > 3")
    text = browser.run("document.getElementById('why').innerText")
    assert "layer 0 at" in text and "why there" in text and "host" in text
    assert "times: measured(" in text
    browser.click("#why-close")

    browser.run("document.querySelector('#nodes tr').focus()")
    browser.press("ArrowDown")
    browser.press("Enter")
    assert browser.run("document.querySelector('#nodes tr[aria-selected=true]').innerText").startswith("bravo")
    assert "what its board said last" in browser.run("document.getElementById('detail').innerText")
    browser.until("document.querySelectorAll('#readings li').length > 1")
    title = browser.run("document.getElementById('detail-title').textContent")
    assert re.fullmatch(r"bravo, what its board said last, at \d+ s", title), "it is dead: that was then"
    browser.press("Enter")
    browser.run("document.getElementById('heat').focus()")
    browser.press("ArrowRight")
    browser.press("ArrowDown")
    assert re.match(r"layer 1 expert 0: \d+ rows", browser.run("document.getElementById('heat-note').textContent"))


def test_the_time_line_goes_back_and_returns(watched: Watched) -> None:
    browser = watched.browser
    browser.run("document.getElementById('time').focus()")
    browser.press("Home")
    browser.until("document.getElementById('standing').textContent === 'in the past'")
    browser.until(f"{_row('bravo')}.innerText.includes('serving')")
    assert browser.run("document.querySelector('#events li.bad')") is None
    for _ in range(4):  # two seconds on: past two ticks at least, however late they were
        browser.press("ArrowRight")
    browser.until("parseFloat(document.getElementById('when').textContent) > 0.5")
    assert browser.run("document.getElementById('time').value") == "2"
    browser.click("#live")
    browser.until(f"{_row('bravo')}.className === 'dead'")
    skipped = hil("control", "seek", str(watched.run.folder), str(ORBIT_S - 5))
    assert skipped.returncode == 0, skipped.stderr
    browser.until("[...document.querySelectorAll('#events li')].some(e => e.innerText.includes('seek to 1195 s'))")
    assert watched.run.wait().code == 0
    browser.until("document.getElementById('standing').textContent === 'ended'")


def test_dark_and_light_follow_the_system_until_one_is_chosen(watched: Watched) -> None:
    browser = watched.browser
    background = "getComputedStyle(document.body).backgroundColor"
    browser.prefer("dark")
    browser.until("document.documentElement.dataset.theme === 'dark'")
    dark = browser.run(background)
    browser.prefer("light")
    browser.until("document.documentElement.dataset.theme === 'light'")
    light = browser.run(background)
    assert _lightness(dark) < 150 and _lightness(light) > 600
    browser.click("#theme")
    browser.until("document.documentElement.dataset.theme === 'dark'")
    browser.prefer("dark")
    browser.prefer("light")
    assert browser.run("document.documentElement.dataset.theme") == "dark", "a choice outlives the system's wish"


def test_nothing_is_cut_off_on_a_laptop(watched: Watched, tmp_path: Path) -> None:
    browser = watched.browser
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert browser.run("document.documentElement.scrollHeight <= innerHeight")
    small = browser.run(
        "[...document.querySelectorAll('main *')].filter(e => e.children.length === 0 && e.textContent.trim())"
        ".map(e => parseFloat(getComputedStyle(e).fontSize)).reduce((a, b) => Math.min(a, b))"
    )
    assert small >= 12
    browser.picture(tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes()[:4] == b"\x89PNG"
