"""Synthetic satellite telemetry: the text of ground station passes, from a small seeded state machine.

Nothing here is real telemetry. Each document is one pass: a header, housekeeping lines whose numbers follow
a slowly moving state (sun or shade, charge, temperatures, attitude, radio), events, and operator sentences
that refer to that state. A seed fixes every character.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

SATELLITES = tuple(
    f"{name}-{number}" for name in ("KESTREL", "PETREL", "TERN", "HERON", "OSPREY", "AVOCET") for number in range(1, 9)
)
STATIONS = (
    "Kiruna",
    "Svalbard",
    "Redu",
    "Inuvik",
    "Troll",
    "Weilheim",
    "Kourou",
    "Maspalomas",
    "Awarua",
    "Santiago",
)
OPERATORS = ("Adeyemi", "Brandt", "Castellanos", "Dubois", "Eriksen", "Farrell", "Goto", "Hakimi")


@dataclass
class Craft:
    """State of one satellite. Units: percent, volt, watt, degree Celsius, degree, dBm, seconds of day."""

    name: str
    clock: int
    charge: float
    board: float
    battery: float
    radiator: float
    error: float
    rssi: float
    sunlit: bool
    load: float
    mode: str = "nominal"
    pointing: str = "nadir"
    frames: int = 0
    lost: int = 0
    wheels: list[int] = field(default_factory=list)

    def stamp(self) -> str:
        return f"{self.clock // 3600 % 24:02d}:{self.clock // 60 % 60:02d}:{self.clock % 60:02d}"

    def step(self, rng: random.Random) -> None:
        """Let a few seconds pass; charge and temperatures drift the way the sun and the load push them."""
        self.clock += rng.choice((5, 5, 5, 10, 10, 15))
        self.charge += (0.18 if self.sunlit else -0.22) * rng.uniform(0.4, 1.6)
        self.charge = min(100.0, max(18.0, self.charge))
        self.load = min(14.0, max(2.0, self.load + rng.gauss(0, 0.15)))
        self.board += 0.06 * (18 + 3.4 * self.load + (6 if self.sunlit else 0) - self.board) + rng.gauss(0, 0.1)
        self.battery += 0.02 * ((19 if self.sunlit else 7) - self.battery) + rng.gauss(0, 0.05)
        self.radiator += 0.05 * ((-12 if self.sunlit else -38) - self.radiator) + rng.gauss(0, 0.2)
        self.error = abs(self.error + rng.gauss(0, 0.03))
        self.rssi = min(-78.0, max(-124.0, self.rssi + rng.gauss(0, 1.2)))
        self.frames += rng.randint(18, 60)
        self.lost += rng.choice((0, 0, 0, 0, 1, 2)) if self.rssi > -110 else rng.randint(1, 9)
        self.wheels = [speed + rng.randint(-25, 25) for speed in self.wheels]


def _craft(rng: random.Random) -> Craft:
    sunlit = rng.random() < 0.62
    return Craft(
        name=rng.choice(SATELLITES),
        clock=rng.randrange(86400),
        charge=rng.uniform(34, 99),
        board=rng.uniform(24, 58),
        battery=rng.uniform(6, 20),
        radiator=rng.uniform(-40, -8),
        error=rng.uniform(0.02, 0.6),
        rssi=rng.uniform(-112, -88),
        sunlit=sunlit,
        load=rng.uniform(3, 11),
        wheels=[rng.randint(-2400, 2400) for _ in range(3)],
    )


def _power(craft: Craft, rng: random.Random) -> str:
    array = rng.uniform(9.5, 15.5) if craft.sunlit else 0.0
    bus = 6.6 + craft.charge * 0.0165 + rng.gauss(0, 0.02)
    sun = "sunlit" if craft.sunlit else "eclipse"
    return f"EPS bus {bus:.2f} V load {craft.load:.2f} W array {array:.1f} W charge {craft.charge:.0f} % {sun}"


def _thermal(craft: Craft, _: random.Random) -> str:
    heater = "on" if craft.battery < 9 else "off"
    return (
        f"THM board {craft.board:.1f} C battery {craft.battery:.1f} C radiator {craft.radiator:.1f} C heater {heater}"
    )


def _attitude(craft: Craft, _: random.Random) -> str:
    wheels = " ".join(str(speed) for speed in craft.wheels)
    return f"ADC mode {craft.pointing} error {craft.error:.2f} deg wheels {wheels} rpm"


def _radio(craft: Craft, rng: random.Random) -> str:
    snr = (craft.rssi + 118) * 0.45 + rng.gauss(0, 0.4)
    return f"COM rssi {craft.rssi:.0f} dBm snr {snr:.1f} dB frames {craft.frames} lost {craft.lost}"


def _payload(craft: Craft, rng: random.Random) -> str:
    layer, rows = rng.randrange(4), rng.randint(4, 900)
    return (
        f"PAY layer {layer} expert {rng.randrange(16)} served {rows} rows "
        f"{rng.uniform(0.2, 4.5):.1f} ms each, mode {craft.mode}"
    )


def _link(craft: Craft, rng: random.Random) -> str:
    peer = rng.choice([name for name in SATELLITES if name != craft.name])
    state = rng.choice(("up", "up", "up", "up", "down"))
    if state == "down":
        return f"ISL {peer} down, next contact in {rng.randint(40, 2400)} s"
    return f"ISL {peer} up delay {rng.uniform(1.2, 14.8):.1f} ms rate {rng.choice((2, 4, 8, 16, 32))} Mbit/s"


def _event(craft: Craft, rng: random.Random) -> str:
    """An event, with its effect on the state so that later lines agree with it."""
    kind = rng.randrange(6)
    if kind == 0:
        craft.sunlit = not craft.sunlit
        return "EVT eclipse exit, arrays charging" if craft.sunlit else "EVT eclipse entry, running on battery"
    if kind == 1:
        craft.mode = "low power" if craft.charge < 55 or craft.board > 55 else "nominal"
        craft.load *= 0.7 if craft.mode == "low power" else 1.1
        return f"EVT power mode set to {craft.mode}"
    if kind == 2:
        craft.pointing = rng.choice(("nadir", "sun", "target", "detumble"))
        return f"EVT attitude mode changed to {craft.pointing}"
    if kind == 3:
        return f"EVT watchdog kicked, uptime {rng.randint(2, 900)} h, resets {rng.randint(0, 12)}"
    if kind == 4:
        return f"EVT memory scrub finished, {rng.randint(0, 6)} single bit errors corrected"
    expert, layer = rng.randrange(16), rng.randrange(4)
    return f"EVT expert {expert} of layer {layer} loaded from storage in {rng.randint(3, 90)} ms"


def _sentence(craft: Craft, rng: random.Random) -> str:
    """What an operator says about the present state."""
    charge = f"{craft.charge:.0f} percent"
    choices = []
    if craft.charge < 50:
        choices += [
            f"Battery is at {charge}; lower the expert load until sunrise.",
            f"Charge is down to {charge}, please move the busy experts to another satellite.",
            f"We hold new requests for {craft.name} while the charge is under {rng.randint(50, 60)} percent.",
        ]
    else:
        choices += [
            f"Battery is at {charge} and the trend is good.",
            f"Charge is {charge}; {craft.name} may take more rows on the next plan.",
        ]
    if craft.board > 48:
        choices += [
            f"The board is warm at {craft.board:.0f} degrees, watch it on the next pass.",
            "Board temperature is close to the soft limit, reduce the duty now.",
        ]
    if craft.rssi < -108:
        choices += ["The signal is weak, expect lost frames until the elevation improves."]
    if craft.error > 0.5:
        choices += [f"Pointing error is {craft.error:.1f} degrees, ask the attitude team to look at the wheels."]
    choices += [
        f"{craft.name} looks healthy, no action needed.",
        "Plan uploaded and acknowledged.",
        f"Please repeat the last {rng.randint(2, 40)} frames.",
        "All units report nominal values." if craft.mode == "nominal" else "Stay in low power mode for this orbit.",
        "The arrays are in full sun." if craft.sunlit else "The satellite is in the shadow of the Earth.",
    ]
    return f"OPS {rng.choice(OPERATORS)}: {rng.choice(choices)}"


_LINES: tuple[tuple[Callable[[Craft, random.Random], str], int], ...] = (
    (_power, 6), (_thermal, 5), (_attitude, 4), (_radio, 4),
    (_payload, 5), (_link, 3), (_event, 2), (_sentence, 4),
)  # fmt: skip


def pass_text(rng: random.Random) -> str:
    """One pass as text, roughly 0.6 to 2.2 kB."""
    craft = _craft(rng)
    number, station = rng.randint(100, 9999), rng.choice(STATIONS)
    start = craft.stamp()
    lines = [f"PASS {number} {craft.name} over {station}, AOS {start}, maximum elevation {rng.randint(6, 89)} deg"]
    writers = [writer for writer, _ in _LINES]
    weights = [weight for _, weight in _LINES]
    for _ in range(rng.randint(9, 30)):
        craft.step(rng)
        writer = rng.choices(writers, weights)[0]
        lines.append(f"{craft.stamp()} {craft.name} {writer(craft, rng)}")
    craft.step(rng)
    lines.append(
        f"END {number} {craft.name} LOS {craft.stamp()}, frames {craft.frames}, lost {craft.lost}, "
        f"next pass over {rng.choice(STATIONS)} in {rng.randint(8, 190)} min"
    )
    return "\n".join(lines) + "\n"


def passes(seed: int) -> Iterator[str]:
    """An endless stream of passes; the same seed gives the same text."""
    rng = random.Random(seed)
    while True:
        yield pass_text(rng)
