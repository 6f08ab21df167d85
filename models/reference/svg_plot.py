"""Line plots and heat maps as SVG text: small files that a page shows without any program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 820, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 290, 44, 54
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#999999")


@dataclass(frozen=True)
class Line:
    """A named series; `dashed` for what is not the subject."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False


def ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round numbers in [low, high]."""
    span = (high - low) or 1.0
    step = 10.0 ** int(f"{span / most:e}".split("e")[1])
    step = next(step * m for m in (1, 2, 5, 10) if span / (step * m) <= most)
    first = int(low / step) - 1
    found = [round((first + i) * step, 12) for i in range(int(span / step) + 4)]
    return [value for value in found if low - step * 1e-9 <= value <= high + step * 1e-9]


def line_plot(title: str, x_name: str, y_name: str, lines: Sequence[Line]) -> str:
    """The SVG document."""
    xs, ys = [v for line in lines for v in line.x], [v for line in lines for v in line.y]
    x0, x1, y0, y1 = min(xs), max(xs), min(ys), max(ys)
    pad_x, pad_y = (x1 - x0 or 1) * 0.03, (y1 - y0 or 1) * 0.06
    x0, x1, y0, y1 = x0 - pad_x, x1 + pad_x, y0 - pad_y, y1 + pad_y

    def px(x: float) -> float:
        return LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)

    def py(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)

    out = _head(title, WIDTH, HEIGHT)
    for value in ticks(x0, x1):
        out.append(f'<path d="M{px(value):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#ddd"/>')
        out.append(f'<text x="{px(value):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:g}</text>')
    for value in ticks(y0, y1):
        out.append(f'<path d="M{LEFT} {py(value):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 8}" y="{py(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    out.append(f'<text x="{middle}" y="{HEIGHT - 14}" text-anchor="middle">{escape(x_name)}</text>')
    out.append(
        f'<text transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_name)}</text>"
    )
    for index, line in enumerate(lines):
        colour, dash = COLOURS[index % len(COLOURS)], ' stroke-dasharray="5 4"' if line.dashed else ""
        points = [(px(x), py(y)) for x, y in zip(line.x, line.y, strict=True)]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        out.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in points]
        y = TOP + 10 + 20 * index
        left = WIDTH - RIGHT + 14
        out.append(f'<path d="M{left} {y}h22" stroke="{colour}" stroke-width="2"{dash}/>')
        out.append(f'<text x="{left + 28}" y="{y + 4}">{escape(line.name)}</text>')
    return "\n".join([*out, "</svg>\n"])


def heat_map(title: str, x_name: str, rows: Sequence[tuple[str, Sequence[float]]], centre: float, note: str) -> str:
    """One row of squares each; white at `centre`, blue above, red below."""
    cell, left, top = 30, 130, 62
    count = len(rows[0][1])
    width = max(left + cell * count + 20, left + 7 * len(note))
    height = top + 19 * len(rows) + 50
    most = max(max(abs(v - centre) for v in values) for _, values in rows)
    out = _head(title, width, height)
    out.append(f'<text x="{left}" y="{top - 10}" fill="#555">{escape(note)}</text>')
    for index, (name, values) in enumerate(rows):
        y = top + 19 * index
        out.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>')
        for place, value in enumerate(values):
            share = min(1.0, abs(value - centre) / most) ** 0.7
            fade = round(255 * (1 - share))
            colour = f"rgb({fade},{fade},255)" if value > centre else f"rgb(255,{fade},{fade})"
            out.append(
                f'<rect x="{left + cell * place}" y="{y}" width="{cell - 1}" height="18" fill="{colour}">'
                f"<title>{escape(name)}, {place}: {value:.2f}</title></rect>"
            )
    for place in range(count):
        x = left + cell * place + cell / 2
        out.append(f'<text x="{x}" y="{top + 19 * len(rows) + 14}" text-anchor="middle">{place}</text>')
    middle = left + cell * count / 2
    out.append(f'<text x="{middle}" y="{height - 14}" text-anchor="middle">{escape(x_name)}</text>')
    return "\n".join([*out, "</svg>\n"])


def _head(title: str, width: float, height: float) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{width / 2}" y="24" text-anchor="middle" font-size="15">{escape(title)}</text>',
    ]
