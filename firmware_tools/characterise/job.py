"""Characterise one board: idle, then with its processor busy, between two looks at the room's thermometer."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from firmware_tools.cabling.load import busy
from firmware_tools.characterise.ambient import Ambient, Thermometer
from firmware_tools.characterise.record import Characterisation, Die, Power
from firmware_tools.meter.readings import Meters, Readings
from firmware_tools.power.job import watch_of
from firmware_tools.provision.board_shell import BoardShell
from firmware_tools.provision.reach import reach
from firmware_tools.reservation import check_free
from firmware_tools.state import State, utc_now
from hil_config.errors import ConfigError, HardwareError, SafetyRefusal
from hil_config.wire.provenance import measured

if TYPE_CHECKING:
    from hil_config.schema.bench import Bench, Board

SHELL_S, COMMAND_S = 180.0, 60.0
_ZONES = (
    'for one in /sys/class/thermal/thermal_zone*; do [ -r "$one/temp" ] && '
    'echo "zone ${one##*/} $(cat $one/type) $(cat $one/temp 2>/dev/null)"; done; true'
)
_CPU = re.compile(r"cpu|tj|soc|x86_pkg", re.IGNORECASE)
"""Names of zones that are the processor's, as the agent chooses them."""


class Windows(NamedTuple):
    """Host seconds: how long idle and loaded power are read, and how long the board settles before each."""

    idle_s: float = 60.0
    load_s: float = 300.0
    settle_s: float = 10.0


def characterise(
    board: Board, bench: Bench, state: State, thermometer: Thermometer, windows: Windows, accept: str,
    tell: Callable[[str], None],
) -> Characterisation:  # fmt: skip
    """Measure.

    Args:
        accept: "modelled" or "fake" if power of that kind may be recorded too, else empty.

    Raises:
        ConfigError: no meter, or no way in. SafetyRefusal: power that nobody measured. HardwareError: no answer.
    """
    if board.meter is None:
        raise ConfigError(
            f"board {board.name} has no `meter`: nothing measures it", "name its channel in the bench file"
        )
    check_free(board.name, state)
    with state.busy(board.name, "hil bench characterise"), ExitStack() as stack:
        meters = Meters(bench, watch_of(bench, stack))
        channel = _channel(board.name, meters, accept)
        shell = reach(board, "auto", state, stack, SHELL_S, tell)
        release = shell.must("uname -srm", "reading its kernel", COMMAND_S).strip().splitlines()[-1]
        began, before_c, pause = utc_now(), thermometer.read(), threading.Event()
        tell(f"idle for {windows.settle_s + windows.idle_s:.0f} s: leave it alone")
        pause.wait(windows.settle_s)
        idle = _read(board.name, meters, windows.idle_s)
        cool = _zones(shell)
        lasts_s = math.ceil(windows.settle_s + windows.load_s + COMMAND_S)
        tell(f"loading it for {windows.settle_s + windows.load_s:.0f} s")
        with busy(shell, lasts_s):
            begun_s = time.monotonic()
            pause.wait(windows.settle_s)
            load = _read(board.name, meters, windows.load_s)
            warm = _zones(shell)
        if idle.provenance != load.provenance:
            raise HardwareError(
                f"board {board.name}: its idle power is {idle.provenance}, that under load {load.provenance}",
                "run it again",
            )
        if time.monotonic() - begun_s > lasts_s:
            raise HardwareError(f"board {board.name}: its load had ended before it was read", "run it again")
        die, no_die = _die(cool, warm)
        return Characterisation(
            board.name, board.profile, board.kind, began, utc_now(),
            Ambient(before_c, thermometer.read(), thermometer.provenance), channel, load.provenance,
            _power(idle, windows.idle_s), _power(load, windows.load_s), "one endless loop of sh for each core",
            die, no_die, release, _release(),
        )  # fmt: skip


def _channel(name: str, meters: Meters, accept: str) -> str:
    """Name of the board's channel, once it is clear that it may be recorded."""
    if name not in meters.channels:
        raise ConfigError(f"board {name}: an agent reads its meter, and the broker is not there", "start the broker")
    claimed = meters.provenance(name)
    if claimed is None:
        raise HardwareError(f"board {name}: the agent that reads its meter is not there", f"hil provision {name}")
    if claimed.kind not in ("measured", accept):
        raise SafetyRefusal(
            f"board {name}: its power is {claimed}: a record of it would look as if it had been measured",
            f"name a real `meter`, or say that you know: --accept {claimed.kind}",
        )
    return meters.channels[name].name


def _read(name: str, meters: Meters, for_s: float) -> Readings:
    found = meters.read(for_s, (name,)).get(name)
    if found is None:
        raise HardwareError(f"board {name}: meter {meters.channels[name].name} said nothing", "hil bench doctor")
    return found


def _power(readings: Readings, for_s: float) -> Power:
    return Power(
        round(readings.mean_w, 4), min(readings.watts), max(readings.watts), len(readings.watts), for_s
    )  # fmt: skip


def _zones(shell: BoardShell) -> dict[str, float]:
    """Degrees Celsius by zone of the processor; zones that are switched off are left out. Of several with one name, as
    of two processors, each has its folder behind it."""
    out = shell.must(_ZONES, "reading its thermal zones", COMMAND_S)
    found = re.findall(r"^zone (\S+) (\S+) (-?\d+)\s*$", out, re.MULTILINE)
    names = [name for _, name, _ in found]
    return {
        name if names.count(name) == 1 else f"{name} ({folder})": int(text) / 1000.0
        for folder, name, text in found
        if _CPU.search(name) and int(text) > -200_000
    }


def _die(cool: dict[str, float], warm: dict[str, float]) -> tuple[Die | None, str]:
    both = [name for name in warm if name in cool]
    if not both:
        return None, "the kernel shows no thermal zone of a processor"
    hottest = max(both, key=lambda name: warm[name])
    idle_c, load_c = cool[hottest], warm[hottest]
    return Die(hottest, idle_c, load_c, round(load_c - idle_c, 3), measured(f"thermal zone {hottest}")), ""


def _release() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("spacemoe-hil")
    except PackageNotFoundError:
        return "unknown"
