"""The page's colours: text is readable in both themes (WCAG 2.2, 4.5 to 1), marks and lines stand out (3 to 1)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ground_controller.live import server

CSS = (Path(server.__file__).parent / "page" / "page.css").read_text()


def _theme(name: str) -> dict[str, str]:
    light = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", CSS[: CSS.index("data-theme")]))
    dark = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", CSS[CSS.index("data-theme") : CSS.index("box-sizing")]))
    assert len(light) > 20 and light.keys() >= dark.keys()
    return light if name == "light" else {**light, **dark}


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255.0 for i in (1, 3, 5)]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_lines_stand_out(theme: str) -> None:
    of = _theme(theme)
    text = [(name, ground) for name in ("text", "dim") for ground in ("panel", "bg", "chosen", "bad-bg")]
    text += [("bad", "panel"), ("bad", "bad-bg"), ("notice", "panel"), ("good", "panel")]
    weak = {pair: round(_contrast(of[pair[0]], of[pair[1]]), 2) for pair in text}
    assert {pair: value for pair, value in weak.items() if value < 4.5} == {}
    lines = [(f"s{n}", "panel") for n in range(8)] + [("focus", "panel"), ("bad", "sea"), ("bad", "land")]
    weak = {pair: round(_contrast(of[pair[0]], of[pair[1]]), 2) for pair in lines}
    assert {pair: value for pair, value in weak.items() if value < 3.0} == {}
