"""Routes: a Kuiper-630 forwarding step against satgenpy, contact plans and all-pairs routes against plain Python.

The baseline of the step is Hypatia's own code from PyPI (`pip install spacemoe-hil[hypatia]`, only ever used here); it
takes about 10 s a step. Without it that line says so. CPU seconds of this process, each side warmed up.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import numpy as np

from ground_controller.compiled import COMPILED
from ground_controller.formats.plan import Contact, ContactPlan, build_plan
from ground_controller.orbit.constellation import Constellation
from ground_controller.orbit.ground import GroundStation
from ground_controller.orbit.walker import WalkerShell
from ground_controller.routing import dijkstra
from ground_controller.routing.contact_graph import contact_table, earliest_arrivals, earliest_plain
from ground_controller.routing.forwarding import Forwarding, expected_path_delays, forwarding, path_delays
from ground_controller.routing.route import Message, Router
from ground_controller.routing.routers import make_router
from ground_controller.routing.shortest import Graph, undirected
from hil_config.units import SPEED_OF_LIGHT_M_S
from tests.routing.kuiper import MAX_GSL_KM, constellation, elements, graph, grid, lengths_km

STATIONS = 100
DAY_S = 86_400.0
_SATGENPY = """
import sys, time
import satgen
from satgen.dynamic_state.generate_dynamic_state import generate_dynamic_state_at
folder = sys.argv[1]
tles = satgen.read_tles(folder + "/tles.txt")
isls = satgen.read_isls(folder + "/isls.txt", len(tles["satellites"]))
satgen.extend_ground_stations(folder + "/basic.txt", folder + "/ground_stations.txt")
stations = satgen.read_ground_stations_extended(folder + "/ground_stations.txt")
interfaces = [{"number_of_interfaces": 1, "aggregate_max_bandwidth": 1.0}] * (len(tles["satellites"]) + len(stations))
begin = time.process_time()
generate_dynamic_state_at(folder, tles["epoch"], 0, tles["satellites"], stations, isls, interfaces,
    float(sys.argv[2]) * 1e3, 5442958.203, "algorithm_free_one_only_over_isls", None, False)
print(time.process_time() - begin)
"""


def _cpu_s(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return float(np.median(times))


def _stations() -> tuple[GroundStation, ...]:
    """A hundred places spread over the latitudes that the shell serves, by a golden spiral."""
    at = np.arange(STATIONS) + 0.5
    latitude = np.degrees(np.arcsin((2.0 * at / STATIONS - 1.0) * np.sin(np.radians(50.0))))
    longitude = np.mod(at * 137.50776, 360.0) - 180.0
    return tuple(
        GroundStation(f"G{n}", float(a), float(b)) for n, (a, b) in enumerate(zip(latitude, longitude, strict=True))
    )


def _forwarding_step() -> None:
    stations, links, satellites = _stations(), graph(), constellation()

    def step() -> Forwarding:
        isl, ground = lengths_km(satellites, np.zeros(1), stations)
        return forwarding(links, isl[0], ground[0])

    step()
    ours = _cpu_s(step, 9)
    print(
        f"forwarding step, 1,156 satellites, {STATIONS} stations: {ours * 1e3:.1f} ms of CPU (SGP4, ranges, 100 trees)"
    )
    if importlib.util.find_spec("satgen") is None:
        print("  no baseline: satgenpy is not installed (pip install 'spacemoe-hil[hypatia]')")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sets = "".join(f"{one.name}\n{one.line1}\n{one.line2}\n" for one in elements())
        (folder / "tles.txt").write_text(f"34 34\n{sets}")
        a, b = grid()
        pairs = zip(np.minimum(a, b).tolist(), np.maximum(a, b).tolist(), strict=True)
        (folder / "isls.txt").write_text("".join(f"{one} {other}\n" for one, other in pairs))
        rows = (f"{n},{one.name},{one.latitude_deg!r},{one.longitude_deg!r},0\n" for n, one in enumerate(stations))
        (folder / "basic.txt").write_text("".join(rows))
        done = subprocess.run(
            [sys.executable, "-c", _SATGENPY, name, repr(MAX_GSL_KM)], capture_output=True, text=True, timeout=300,
            check=False,
        )  # fmt: skip
        if done.returncode:
            print(f"  no baseline: satgenpy failed: {done.stderr.strip().splitlines()[-1]}")
            return
        theirs = float(done.stdout.split()[-1])
        table = step()
        wrong = _differences(folder / "fstate_0.txt", table)
    print(f"  satgenpy {theirs:.2f} s of CPU, ratio {theirs / ours:.0f}; {wrong} of its rows have another next hop")


def _differences(path: Path, table: Forwarding) -> int:
    next_hop = table.next_hop
    first = next_hop.shape[1] - next_hop.shape[0]
    rows = np.loadtxt(path, delimiter=",", dtype=np.int64)
    return int((next_hop[rows[:, 1] - first, rows[:, 0]] != rows[:, 2]).sum())


def day_plan(nodes: int = 72, contacts: int = 33_750) -> ContactPlan:
    """A day of contacts of about eight minutes between random pairs, none overlapping another of its pair."""
    rng = np.random.default_rng(7)
    pairs = [(a, b) for a in range(nodes) for b in range(nodes) if a != b]
    each = contacts // len(pairs) + 1
    found = []
    for a, b in pairs:
        starts = np.sort(rng.choice(int(DAY_S // 1_000), each, replace=False)) * 1_000.0 + rng.uniform(0.0, 400.0, each)
        found += [Contact(s, s + rng.uniform(100.0, 600.0), str(a), str(b), 1e7, rng.uniform(0.002, 0.02))
                  for s in starts.tolist()]  # fmt: skip
    chosen = rng.permutation(len(found))[:contacts]
    return build_plan((found[index] for index in chosen), "benchmark").plan


def _contact_plans() -> None:
    table = contact_table(day_plan())
    earliest_arrivals(table, 0.0, 1e6)
    ours = _cpu_s(lambda: earliest_arrivals(table, 0.0, 1e6), 5)
    few = contact_table(day_plan(18, 2_000))
    out = np.empty((len(few.nodes),) * 2)
    columns = (few.first, few.target, few.start_s, few.end_s, few.rate_bit_s, few.delay_s)
    plain = _cpu_s(lambda: earliest_plain(*columns, 0.0, 1e6, out), 1)
    fast = _cpu_s(lambda: earliest_arrivals(few, 0.0, 1e6), 9)
    print(f"earliest arrival, all to all, {len(table.nodes)} nodes, {table.end_s.size:,} contacts: {ours * 1e3:.1f} ms")
    print(
        f"  18 nodes, 2,000 contacts: {fast * 1e3:.2f} ms, plain Python {plain * 1e3:.0f} ms, ratio {plain / fast:.0f}"
    )
    for name in ("snapshot_dijkstra", "time_expanded", "cgr"):
        router = make_router(name, table.plan)
        asked = [Message(str(n), str(71 - n), 3_600.0 * n / 10.0, 1e6) for n in range(20)]
        router.route(asked[0])
        each = _cpu_s(partial(_route_all, router, asked), 3) / len(asked)
        print(f"  one route by {name}: {each * 1e3:.2f} ms")


def _route_all(router: Router, asked: list[Message]) -> None:
    for one in asked:
        router.route(one)


def _walker(planes: int, per_plane: int) -> tuple[Graph, np.ndarray]:
    shell = WalkerShell(550.0, 53.0, planes, per_plane, phasing=planes / 2)
    a, b = shell.grid()
    states = Constellation(datetime(2024, 1, 1, tzinfo=timezone.utc), shells=(shell,)).states(
        np.arange(0.0, 300.0, 60.0)
    )
    length = np.linalg.norm(states.position_km[:, a] - states.position_km[:, b], axis=-1)
    return undirected(shell.count, a, b), length * 1e3 / SPEED_OF_LIGHT_M_S


def _all_pairs() -> None:
    for planes, per_plane in ((33, 32), (72, 22)):
        links, delay = _walker(planes, per_plane)
        path_delays(links, delay[0])
        ours = _cpu_s(partial(path_delays, links, delay[0]), 3)
        slow = _cpu_s(partial(_plain_trees, links, delay[0], 20), 1) * links.nodes / 20
        mean = _cpu_s(partial(expected_path_delays, links, delay), 1) / len(delay)
        print(f"all pairs, {links.nodes:,} satellites: {ours * 1e3:.0f} ms, plain Python {slow * 1e3:.0f} ms (from 20"
              f" sources), ratio {slow / ours:.0f}; expected delays {mean * 1e3:.0f} ms a snapshot")  # fmt: skip


def _plain_trees(links: Graph, delay_s: np.ndarray, sources: int) -> None:
    distance = np.full((sources, links.nodes), np.inf)
    distance[np.arange(sources), np.arange(sources)] = 0.0
    blank = np.full(distance.shape, -1, np.int32)
    dijkstra.seeded_plain(links.first, links.target, links.link, delay_s, distance, blank, blank.copy())


def run() -> None:
    """Each part prints its own lines."""
    print(f"numba: {'yes' if COMPILED else 'no, plain loops on both sides'}")
    _forwarding_step()
    _contact_plans()
    _all_pairs()
