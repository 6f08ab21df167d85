"""The report page as a person sees it, in a real browser without network."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH: apt-get install chromium")
def test_plots_are_drawn_without_network(module_starter: Any, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    done = module_starter.start("page").wait()
    page = done.folder / "report.html"
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000"]
    shown = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    dom = shown.stdout
    assert dom.count('class="main-svg"') >= 8, "plotly draws at least one main SVG a plot"
    for title in ("Temperature in orbit (modelled by the twin)", "State of charge", "Expert use (measured)"):
        assert title in dom
    # Lines are drawn with real points: each of the four nodes has a path in the temperature plot.
    assert len(re.findall(r'<path class="js-line"[^>]* d="M[\d.,-]+', dom)) >= 16
    # At a laptop's width nothing but tables in their own boxes needs to be scrolled sideways.
    asks = (
        "<script>onload=()=>setTimeout(()=>{document.title='width '+document.documentElement.scrollWidth},500)</script>"
    )
    copy = tmp_path / "asks.html"
    copy.write_text(page.read_text(encoding="utf-8").replace("</body>", f"{asks}</body>"), encoding="utf-8")
    wide = subprocess.run(
        [*command, "--window-size=1280,800", "--dump-dom", copy.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r"<title>width (\d+)</title>", wide.stdout)
    assert found is not None and int(found[1]) <= 1280
