"""The board takes care of itself: cut-offs with hysteresis, settings that are put back, a watchdog, a duty limit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil_config.errors import HardwareError, UsageError
from hil_config.schema.profiles import load_profile, profile_names
from hil_config.wire.messages import NodeEvent
from hil_config.wire.orders import SetDuty, SetPower
from node_agent.care import Care
from node_agent.config import SafetyLimits, read_config
from node_agent.log import LOG
from node_agent.power_modes import cpufreq
from node_agent.power_modes.duty import DutyLimit
from node_agent.safety import BLIND_S, HOLD_S, Guard, Seen, Verdict
from node_agent.watchdog import Heart, Watchdog, silent
from tests.sensing import boards
from tests.sensing.boards import pi_4_with_fan as board

LIMITS = SafetyLimits(die_stop_c=84.0, die_resume_c=76.0, silence_s=60.0)


# --- the guard --------------------------------------------------------------------------------------------------


def seen(at_s: float, die_c: float | None = 50.0, flags: int | None = 0, silent_s: float = 0.0) -> Seen:
    return Seen(at_s, die_c, flags, silent_s)


def test_a_hot_die_cuts_and_only_a_cool_one_resumes() -> None:
    guard = Guard(LIMITS, True)
    states = [guard.judge(seen(t, c)).state for t, c in enumerate((50, 83.9, 84.0, 83.0, 76.0, 75.9, 83.9))]
    assert states == ["ok", "ok", "cut", "cut", "cut", "ok", "ok"]


def test_under_voltage_cuts_and_is_held() -> None:
    guard = Guard(LIMITS, True)
    assert guard.judge(seen(0.0, flags=0x1)).reason == "under-voltage at the board's input"
    assert guard.judge(seen(HOLD_S - 0.1)).state == "cut"
    assert guard.judge(seen(HOLD_S)).state == "ok"
    assert guard.judge(seen(9.0, flags=0x50000)).state == "ok", "what was since boot is no reason now"


def test_throttling_and_a_silent_ground_ease() -> None:
    guard = Guard(LIMITS, True)
    assert guard.judge(seen(0.0, flags=0x4)) == Verdict("ease", "the firmware throttles")
    assert guard.judge(seen(1.0, silent_s=59.9)).state == "ok"
    assert guard.judge(seen(2.0, silent_s=60.0)).state == "ease"
    assert Guard(SafetyLimits(), False).judge(seen(2.0, silent_s=1e9)).state == "ok", "0 switches it off"


def test_a_guard_that_cannot_see_does_not_guess() -> None:
    guard = Guard(LIMITS, True)
    assert guard.judge(seen(0.0)).state == "ok"
    assert guard.judge(seen(BLIND_S - 1, None)).state == "ok"
    assert guard.judge(seen(BLIND_S + 1, None)).reason.startswith("no die temperature")
    assert guard.judge(seen(BLIND_S + 2)).state == "ok"
    assert Guard(LIMITS, False).judge(seen(1e6, None)).state == "ok", "a board without a thermometer is not blind"


@given(st.lists(st.floats(20, 110), min_size=1, max_size=100))
def test_above_the_limit_work_is_always_cut(temperatures: list[float]) -> None:
    guard = Guard(LIMITS, True)
    for t, die_c in enumerate(temperatures):
        state = guard.judge(seen(float(t), die_c)).state
        if die_c >= LIMITS.die_stop_c:
            assert state == "cut"
        elif die_c < LIMITS.die_resume_c:
            assert state == "ok"


@pytest.mark.parametrize("name", profile_names())
def test_every_real_board_profile_has_a_cut_off(tmp_path: Path, name: str) -> None:
    fields = {
        "node": "alpha", "bench": "bench", "broker_host": "127.0.0.1", "broker_port": 1883, "data_host": "127.0.0.1",
        "data_port": 0, "shards": "shards", "spool": "spool", **load_profile(name).agent_fields(),
    }  # fmt: skip
    path = tmp_path / "agent.json"
    path.write_text(json.dumps(fields))
    safety = read_config(path).safety
    assert (safety.die_stop_c > safety.die_resume_c > 0) == (name != "local-process")


# --- care as a whole --------------------------------------------------------------------------------------------


class Cared:
    """A `Care` on a Pi's tree, with what it told and whether it lets the node serve."""

    def __init__(self, root: Path) -> None:
        self.events: list[NodeEvent] = []
        self.served: list[SetDuty] = []
        self.root = board(root)
        config = boards.config(self.root)
        config = msgspec.structs.replace(config, safety=LIMITS)
        self.care = Care(config, self.events.append, self.served.append)

    def heat(self, millidegrees: int) -> None:
        (self.root / "sys/class/thermal/thermal_zone0/temp").write_text(f"{millidegrees}\n")
        self.care.watch.look()


def test_the_boards_own_cut_stands_above_the_twins_order(tmp_path: Path) -> None:
    cared = Cared(tmp_path)
    (tmp_path / "sys/devices/platform/soc/soc:firmware/get_throttled").write_text("0\n")
    cared.heat(85_000)
    cared.care.order(SetDuty(True, "the twin says go"))
    assert [order.in_service for order in cared.served] == [False, False]
    assert "the die reached 84 C" in cared.served[-1].reason
    cared.care.order(SetDuty(False, "the battery is empty"))
    cared.heat(60_000)
    assert cared.served[-1] == SetDuty(False, "the battery is empty"), "the twin's order comes back with the cold"
    assert [e.details["state"] for e in cared.events if e.name == "SafetyActed"] == ["cut", "ok"]


def test_a_limit_without_a_thermometer_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def nobody(_: object) -> None:
        return None

    LOG.addHandler(caplog.handler)
    try:
        Care(msgspec.structs.replace(boards.config(tmp_path), safety=LIMITS), nobody, nobody)
        assert "nothing stops work at 84 C" in caplog.text and "no thermal zone of a processor" in caplog.text
        caplog.clear()
        Care(boards.config(tmp_path), nobody, nobody)
        assert not caplog.text, "no limit, no thermometer wanted"
    finally:
        LOG.removeHandler(caplog.handler)


def test_throttling_eases_whatever_was_ordered(tmp_path: Path) -> None:
    cared = Cared(tmp_path)
    flags = tmp_path / "sys/devices/platform/soc/soc:firmware/get_throttled"
    flags.write_text("0\n")
    cared.care.set_power(SetPower(duty=0.8, cpu_khz=900_000))
    assert cared.care.duty.share == 0.8
    flags.write_text("4\n")
    cared.care.watch.look()
    assert cared.care.duty.share == LIMITS.eased_duty
    flags.write_text("0\n")
    cared.care.watch.look()
    assert cared.care.duty.share == 0.8
    with pytest.raises(UsageError, match="nvp_mode"):
        cared.care.set_power(SetPower(nvp_mode=1, fan=100))
    assert cared.events[-1].name == "PowerSet" and "nvp_mode" in str(cared.events[-1].details["refused"])
    cared.care.set_power(SetPower(restore=True))
    assert cared.care.duty.share == 1.0 and cpufreq.find(tmp_path).read() == "1800000"  # type: ignore[union-attr]
    cared.care.stop()


def test_a_run_begins_from_the_board_as_it_was(tmp_path: Path) -> None:
    cared = Cared(tmp_path)
    cared.care.begin_run()
    assert cared.events == [], "nothing was changed"
    cared.care.set_power(SetPower(duty=0.5, cpu_khz=900_000, mode="slow"))
    assert cared.events[-1].details == {"duty": 0.5, "mode": "slow", "cpu_khz": "900000"}
    cared.care.begin_run()
    assert cared.events[-1].name == "SettingsRestored" and cared.events[-1].details["by"] == "the next run"
    assert cared.care.duty.share == 1.0 and cpufreq.find(tmp_path).read() == "1800000"  # type: ignore[union-attr]


def test_a_setting_that_cannot_be_put_back_is_an_error_to_who_asked(tmp_path: Path) -> None:
    cared = Cared(tmp_path)
    cared.care.set_power(SetPower(cpu_khz=900_000))
    limit = tmp_path / "sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq"
    limit.write_text("1000000\n")  # what it had before is refused now
    with pytest.raises(HardwareError, match="1800000 kHz, wanted"):
        cared.care.set_power(SetPower(restore=True))
    assert "1800000" in str(cared.events[-1].details["refused"])


# --- duty and watchdog ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_duty_is_the_share_of_time_that_is_spent(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    limit = DutyLimit()
    limit.set(share)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(limit._stopped, "wait", lambda seconds: now.__setitem__(0, now[0] + seconds))
    busy = 0.0
    for n in range(200):
        with limit.turn():
            now[0] += 0.001 * (1 + n % 7)
            busy += 0.001 * (1 + n % 7)
        now[0] += 0.0001
    assert busy / now[0] == pytest.approx(share, rel=0.05)


def test_nobody_waits_on_for_a_share_that_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    limit, now, computed = DutyLimit(), [0.0], threading.Event()
    limit.set(0.01)
    monkeypatch.setattr("node_agent.power_modes.duty.time", SimpleNamespace(monotonic=lambda: now[0]))
    with limit.turn():
        now[0] = 10.0  # a long prompt: nobody gets a turn for 990 s

    def compute() -> None:
        with limit.turn():
            computed.set()

    waiting = threading.Thread(target=compute, daemon=True)
    waiting.start()
    while not limit._lock.locked():
        threading.Event().wait(0.01)
    limit.set(1.0)
    assert computed.wait(10.0), "the board has its full power again"
    waiting.join(10.0)


def test_a_full_duty_lets_threads_compute_at_once() -> None:
    limit = DutyLimit()
    meeting = threading.Barrier(2, timeout=10.0)

    def compute() -> None:
        with limit.turn():
            meeting.wait()  # only passes if both are inside

    thread = threading.Thread(target=compute)
    thread.start()
    compute()
    thread.join()
    with pytest.raises(UsageError, match="duty 0"):
        limit.set(0.0)


def test_watchdog_names_the_thread_that_is_silent() -> None:
    hearts = [Heart("sampler-0", lambda: 99.0, 20.0), Heart("evidence", lambda: 75.0, 20.0)]
    assert silent(hearts, 95.0) == ""
    assert silent(hearts, 100.0) == "evidence has not moved for 25.0 s; at most 20 s are allowed"


def test_a_process_that_was_stopped_as_a_whole_gets_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    now, beat = [0.0], [0.0]
    ended: list[int] = []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(os, "_exit", ended.append)
    steps = iter([1.0, 100.0, 1.0, 1.0])

    def wait(seconds: float) -> bool:
        step = next(steps, None)
        if step is None:
            return True
        now[0] += step
        if step == 1.0:
            beat[0] = now[0]  # the others beat as soon as they run again
        return False

    Watchdog([Heart("sampler-0", lambda: beat[0], 20.0)], lambda: None).work(wait)
    assert ended == []


def test_a_hanging_thread_ends_the_process_and_puts_the_board_back(tmp_path: Path) -> None:
    root = board(tmp_path)
    code = (
        "import sys, pathlib, time\n"
        "from node_agent.power_modes.settings import Settings, find_actuators\n"
        "from node_agent.watchdog import Heart, Watchdog\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "settings = Settings(root / 'state', find_actuators(root)); settings.apply('cpu_khz', '900000')\n"
        "Watchdog([Heart('sampler-0', lambda: 0.0, 1e-9)], settings.restore).work(lambda s: False)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 70 and "watchdog: sampler-0 has not moved" in done.stderr
    assert cpufreq.find(root).read() == "1800000"  # type: ignore[union-attr]
