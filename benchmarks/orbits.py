"""Orbits: a day of 1,584 satellites against SGP4 at every step; a large constellation into a schedule; the lookup."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ground_controller.compiled import COMPILED
from ground_controller.orbit.compile import ScheduleConfig, compile_schedule
from ground_controller.orbit.constellation import Constellation
from ground_controller.orbit.earth import place_km, sidereal_angle_rad, turned, vertical
from ground_controller.orbit.elements import DEMO_ELEMENTS, Elements, checksum, read_elements
from ground_controller.orbit.instant import julian_date
from ground_controller.orbit.kernels import contacts, illumination, link_geometry, neighbours
from ground_controller.orbit.propagate import left_out
from ground_controller.orbit.sunlight import sun_position_km
from ground_controller.orbit.walker import WalkerShell
from ground_controller.routing.shortest import shortest_trees, undirected

EPOCH = datetime(2024, 10, 21, tzinfo=timezone.utc)
SHELL = WalkerShell(550.0, 53.0, 72, 22, phasing=39)
DAY_S, STEP_S, CHUNK = 86_400.0, 10.0, 360


def shell_elements(shell: WalkerShell) -> tuple[Elements, ...]:
    """The shell as two-line elements, so that SGP4 has its work."""
    motion, found = shell.motion_rad_s * DAY_S / (2.0 * np.pi), []
    for number, name in enumerate(shell.names):  # numbers repeat between shells, names do not
        plane, slot = divmod(number, shell.per_plane)
        node = plane * 360.0 / shell.planes
        anomaly = (slot + plane * shell.phasing / shell.planes) / shell.per_plane * 360.0 % 360.0
        line1 = f"1 {number:05d}U 24001A   24295.00000000  .00000000  00000-0  00000-0 0  999"
        angles = f"{shell.inclination_deg:8.4f} {node:8.4f} 0001000   0.0000 {anomaly:8.4f}"
        line2 = f"2 {number:05d} {angles} {motion:11.8f}    1"
        found.append(Elements(name, line1 + str(checksum(line1 + "0")), line2 + str(checksum(line2 + "0"))))
    return tuple(found)


def _chunks() -> Iterator[NDArray[np.float64]]:
    offsets = np.arange(0.0, DAY_S, STEP_S)
    for first in range(0, offsets.size, CHUNK):
        yield offsets[first : first + CHUNK]


def _cpu_s(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def _day(constellation: Constellation, plain: bool = False) -> tuple[dict[str, float], int]:
    """CPU seconds by part and the number of contacts: +Grid links, eclipse, 100 stations, chunk by chunk."""
    a, b = SHELL.grid()
    rng = np.random.default_rng(1)
    latitude, longitude = np.degrees(np.arcsin(rng.uniform(-0.9, 0.9, 100))), rng.uniform(-180.0, 180.0, 100)
    stations, up = place_km(latitude, longitude), vertical(latitude, longitude)
    day, fraction = julian_date(EPOCH)
    spent = dict.fromkeys(("propagation", "links", "eclipse", "ground"), 0.0)
    count = 0
    for offset in _chunks():
        begin = time.process_time()
        states = constellation.states(offset)
        marks = [time.process_time()]
        link_geometry(*states, a, b, plain)
        marks.append(time.process_time())
        julian = day + fraction + offset / DAY_S
        illumination(states.position_km, sun_position_km(julian), plain)
        marks.append(time.process_time())
        fixed = turned(states.position_km, sidereal_angle_rad(julian)[:, None])
        count += contacts(fixed, stations, up, np.full(100, np.sin(np.radians(25.0))), plain).station.size
        marks.append(time.process_time())
        for part, at, before in zip(spent, marks, [begin, *marks], strict=False):
            spent[part] += at - before
    return spent, count


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _whole_day() -> None:
    constellation = Constellation(EPOCH, shell_elements(SHELL))
    first = next(_chunks())
    compile_s = _cpu_s(lambda: _warm(constellation, first[:4]))
    spent, count = _day(constellation)
    first_hours = list(_chunks())[:4]

    def each_step() -> None:
        for part in first_hours:
            constellation.exact(part)

    every = _cpu_s(each_step) * 24 / 4
    total = sum(spent.values())
    parts = ", ".join(f"{name} {value:.1f}" for name, value in spent.items())
    how = "numba" if COMPILED else "numpy"
    print(
        f"1,584 satellites, 24 h at 10 s, 100 stations: {total:.1f} CPU s ({parts}; target 15 s), peak"
        f" {_peak_gb():.2f} GB (target 1.5 GB), {count} contacts (cut at pieces of an hour), {how};"
        f" first call {compile_s:.1f} s (compiles, or reads its cache)"
    )
    print(
        f"propagation by SGP4 at 60 s and Hermite: {spent['propagation']:.1f} CPU s, SGP4 at every step"
        f" {every:.1f} s, ratio {every / spent['propagation']:.1f}"
    )


def _warm(constellation: Constellation, offset: NDArray[np.float64]) -> None:
    states = constellation.states(np.arange(0.0, 130.0, 10.0))
    a, b = SHELL.grid()
    link_geometry(*states, a, b)
    illumination(states.position_km, np.full((13, 3), 1e8))
    contacts(states.position_km, np.ones((1, 3)), np.ones((1, 3)), np.ones(1))


def _compile() -> None:
    names = ("w-P00S00", "w-P20S05", "w-P40S11", "w-P60S16")
    shell = WalkerShell(550.0, 53.0, 72, 22, phasing=39, name="w")
    config = ScheduleConfig(
        "2024-10-21T00:00:00Z", 3_600.0, 10.0, names, relay="constellation", isl="grid", max_range_km=5_000.0,
        shells=(shell,),
    )  # fmt: skip
    seconds = _cpu_s(lambda: compile_schedule(config, (), "bench"))
    print(f"4 of 1,584 satellites through the +Grid, 1 h at 10 s: compiled in {seconds:.1f} CPU s")


def _large() -> None:
    """The set of 21 October 2024 (6,469 satellites) from the file that HIL_ELEMENTS names, or shells like it."""
    named = os.environ.get("HIL_ELEMENTS")
    if named:
        elements, source = read_elements(Path(named)), Path(named).name
    else:
        sizes = ((550.0, 53.0, 72, 22), (540.0, 53.2, 72, 22), (570.0, 70.0, 36, 20), (525.0, 43.0, 43, 60))
        shells = [WalkerShell(*size, name=f"L{n}") for n, size in enumerate(sizes)]
        elements, source = tuple(one for shell in shells for one in shell_elements(shell)), "four shells"
    epoch = elements[0].epoch
    lost = left_out(elements, epoch, (0.0, 21_600.0))
    kept = tuple(one for one in elements if one.name not in lost)
    constellation, (day, fraction) = Constellation(epoch, kept), julian_date(epoch)

    def geometry() -> None:
        for first in np.arange(0.0, 21_600.0, 1_200.0).tolist():
            offset = np.arange(first, first + 1_200.0, STEP_S)
            position = constellation.states(offset).position_km
            illumination(position, sun_position_km(day + fraction + offset / DAY_S))

    seconds = _cpu_s(geometry)
    position = constellation.exact(np.array([0.0])).position_km[0]
    step_s = min(_cpu_s(lambda: neighbours(position, 1_000.0, 80.0)) for _ in range(3))
    names = tuple(one.name for one in kept[:: len(kept) // 3][:4])
    config = ScheduleConfig(f"{epoch:%Y-%m-%dT%H:%M:%S}Z", 600.0, 10.0, names, relay="constellation", isl="nearest",
                            max_range_km=1_000.0)  # fmt: skip
    compiled_s = _cpu_s(lambda: compile_schedule(config, kept, source))
    print(
        f"{len(kept)} satellites ({source}), 6 h at 10 s: positions and eclipses {seconds:.1f} CPU s; a step of links"
        f" within 1,000 km {step_s * 1e3:.0f} ms; 4 of them through 4 links each, 10 min at 10 s: {compiled_s:.1f}"
        f" CPU s compiled; peak {_peak_gb():.2f} GB"
    )


def _routes() -> None:
    """All-pairs of one snapshot, against scipy, as placement asks for them."""
    position, velocity = SHELL.states(np.array([0.0]))
    a, b = SHELL.grid()
    length = link_geometry(position, velocity, a, b).distance_km[0]
    graph, everyone = undirected(SHELL.count, a, b), np.arange(SHELL.count)
    shortest_trees(graph, length, everyone[:2])
    ours = min(_cpu_s(lambda: shortest_trees(graph, length, everyone)) for _ in range(3))
    try:
        from scipy.sparse import csr_matrix
        from scipy.sparse.csgraph import dijkstra
    except ImportError:
        print(f"all pairs of 1,584 satellites: {ours:.2f} CPU s (scipy, the baseline, is not installed)")
        return
    matrix = csr_matrix((np.r_[length, length], (np.r_[a, b], np.r_[b, a])))
    theirs = min(_cpu_s(lambda: dijkstra(matrix, return_predecessors=True)) for _ in range(3))
    print(f"all pairs of 1,584 satellites: {ours:.2f} CPU s, scipy {theirs:.2f} s, ratio {theirs / ours:.1f}")


def _lookup() -> None:
    """What the live path does: it reads. Against an SGP4 call for the same pair."""
    names = ("STARLINK-2617", "STARLINK-1364")
    elements = read_elements(DEMO_ELEMENTS, names)
    schedule = compile_schedule(ScheduleConfig("2024-10-21T08:20:00Z", 600.0, 1.0, names), elements, "bench")
    pair = Constellation(datetime(2024, 10, 21, 8, 20, tzinfo=timezone.utc), elements)
    times = np.random.default_rng(0).uniform(0.0, 600.0, 5_000).tolist()

    def read() -> None:
        for t in times:
            schedule.link(*names, t)

    def propagate() -> None:
        for t in times[:500]:
            pair.exact(np.array([t]))

    read_us, propagate_us = _cpu_s(read) / 5_000 * 1e6, _cpu_s(propagate) / 500 * 1e6
    ratio = propagate_us / read_us
    print(f"a link's state from the schedule: {read_us:.1f} us, from SGP4 {propagate_us:.0f} us, ratio {ratio:.0f}")


def run() -> None:
    _whole_day()
    _large()
    _routes()
    _compile()
    _lookup()
