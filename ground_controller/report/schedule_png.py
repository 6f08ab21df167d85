"""A schedule as one PNG. Drawn by matplotlib (extra `plots`)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from ground_controller.orbit.picture import Picture, contacts_of, picture_of, wrapped
from ground_controller.report.colours import COLOURS
from hil_config.errors import EnvironmentFault
from hil_config.wire.link_schedule import LinkSchedule, ScheduleHeader

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CURVES = 12


def schedule_png(schedule: LinkSchedule, name: str) -> bytes:
    """The picture's bytes: tracks, contacts, delay and rate, eclipse bands.

    Raises:
        EnvironmentFault: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EnvironmentFault(
            "matplotlib, which draws PNG, is not installed", "pip install 'spacemoe-hil[plots]', or use --html"
        ) from error
    picture, head = picture_of(schedule), schedule.header
    labels = [f"{a} - {b}" for a, b in picture.links]
    tall = [
        3.6 if picture.latitude_deg.size else 0.01,
        0.8 + 0.22 * len(labels),
        2.6,
        2.0,
        0.8 + 0.22 * len(head.satellites),
    ]
    figure = Figure(figsize=(11.0, sum(tall) + 2.2), layout="constrained")
    tracks, gantt, delay, rate, bands = figure.subplots(5, 1, height_ratios=tall)
    figure.suptitle(f"{name}: {head.kind}, from {head.epoch_utc}, {head.duration_s:g} s (modelled from {head.source})")
    if picture.latitude_deg.size:
        _draw_tracks(tracks, picture)
    else:
        tracks.set_axis_off()
    _draw_contacts(gantt, schedule, picture, labels)
    _draw_curves(delay, rate, picture)
    _draw_bands(bands, picture, head)
    for axes in (gantt, delay, rate, bands):
        axes.set_xlim(0.0, schedule.duration_s)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
    return out.getvalue()


def _draw_contacts(gantt: Axes, schedule: LinkSchedule, picture: Picture, labels: list[str]) -> None:
    rows = {pair: len(labels) - 1 - at for at, pair in enumerate(picture.links)}
    for contact in contacts_of(schedule):
        gantt.barh(
            rows[contact.pair], contact.end_s - contact.start_s, left=contact.start_s, height=0.6, color=COLOURS[0]
        )
    gantt.set_ylim(-0.6, len(labels) - 0.4)
    gantt.set_yticks(range(len(labels)), labels[::-1], fontsize=7)


def _draw_curves(delay: Axes, rate: Axes, picture: Picture) -> None:
    for at, (pair, column) in enumerate(zip(picture.links[:MOST_CURVES], picture.columns, strict=False)):
        up, colour = picture.samples.up[:, column], COLOURS[at % len(COLOURS)]
        label = " - ".join(pair)
        delay.plot(
            picture.time_s, np.where(up, picture.samples.delay_s[:, column] * 1e3, np.nan), color=colour, label=label
        )
        rate.plot(picture.time_s, np.where(up, picture.samples.rate_bit_s[:, column] / 1e6, 0.0), color=colour)
    if picture.links:
        low, high = delay.get_ylim()
        delay.set_ylim(low, high + 0.3 * (high - low))  # room for the names
        delay.legend(fontsize=6, ncols=4, loc="upper center")
    delay.set_ylabel("delay, ms")
    rate.set_ylabel("rate, Mbit/s")
    rate.set_ylim(bottom=0.0)


def _draw_bands(bands: Axes, picture: Picture, head: ScheduleHeader) -> None:
    edges = np.append(picture.time_s, picture.time_s[-1])
    bands.pcolormesh(
        edges, np.arange(len(head.satellites) + 1), picture.sunlight.T[::-1], cmap="cividis", vmin=0.0, vmax=1.0
    )
    bands.hlines(np.arange(1, len(head.satellites)), 0.0, head.duration_s, colors="white", linewidth=2)
    bands.set_yticks(np.arange(len(head.satellites)) + 0.5, head.satellites[::-1], fontsize=7)
    bands.set_xlabel("scenario, s (lowest band: share of the Sun's disc, dark is umbra)")


def _draw_tracks(axes: Axes, picture: Picture) -> None:
    for at, name in enumerate(picture.names[:MOST_CURVES]):
        colour = COLOURS[at % len(COLOURS)]
        x, y = wrapped(picture.latitude_deg[:, at], picture.longitude_deg[:, at])
        axes.plot(
            [np.nan if v is None else v for v in x], [np.nan if v is None else v for v in y], color=colour, label=name
        )
        dark = picture.sunlight[:, at] <= 0.0
        axes.plot(
            picture.longitude_deg[dark, at], picture.latitude_deg[dark, at], "o", color="#333", markersize=6, zorder=1
        )
        axes.plot(picture.longitude_deg[0, at], picture.latitude_deg[0, at], "o", color=colour)
    axes.set_xlim(-180.0, 180.0)
    axes.set_ylim(-90.0, 90.0)
    axes.set_xticks(range(-180, 181, 30))
    axes.set_yticks(range(-90, 91, 30))
    axes.grid(alpha=0.3)
    axes.set_ylabel("latitude, degrees")
    axes.set_title("ground tracks by longitude; a dot is the start, a dark rim is eclipse", fontsize=8)
    axes.legend(fontsize=6, loc="lower right", ncols=2)
