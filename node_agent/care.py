"""Care of the board: settings, duty, safety watch and watchdog, wired together. Needs no controller and no broker."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from hil_config.errors import HardwareError, HilError
from hil_config.wire.messages import NodeEvent
from hil_config.wire.orders import SetDuty, SetPower
from node_agent.config import AgentConfig, SensorSpec
from node_agent.crew import Crew
from node_agent.log import LOG
from node_agent.power_modes.duty import DutyLimit
from node_agent.power_modes.settings import Settings, find_actuators
from node_agent.safety import SafetyWatch, Verdict
from node_agent.sensors import thermal_zone, vcgencmd
from node_agent.sensors.reading import Absent, Instrument
from node_agent.starts import state_folder
from node_agent.watchdog import Heart, Watchdog

SILENT_THREAD_S = 20.0
"""A thread that has not moved for so long hangs. Loading a large shard happens in none of them."""


class Care:
    """Args:

    tell: takes events.
    serve: told whether new work may be taken, and why not; the ground's own order is remembered here.
    """

    def __init__(
        self, config: AgentConfig, tell: Callable[[NodeEvent], None], serve: Callable[[SetDuty], None]
    ) -> None:
        self._config, self._tell, self._serve = config, tell, serve
        self.duty = DutyLimit()
        self._wanted_duty = 1.0
        self._ordered = SetDuty(True, "")
        root = Path(config.sysfs_root)
        self.settings = Settings(state_folder(config), find_actuators(root))
        self._heard_s = time.monotonic()
        limits = config.safety
        self.watch = SafetyWatch(
            limits,
            _own(thermal_zone.find, config) if limits.die_stop_c else None,
            _own(vcgencmd.find_throttled, config) if limits.die_stop_c else None,
            lambda: time.monotonic() - self._heard_s,
            self._act,
        )

    def start(self, crew: Crew, hearts: list[Heart]) -> None:
        """Put back what an earlier process left changed, then watch."""
        left = self.settings.changed
        problems = self.settings.restore()
        if left:
            self._event("SettingsRestored", by="the next start", problems="; ".join(problems))
        crew.start("safety", lambda: self.watch.work(crew.stopping.wait))
        hearts = [*hearts, Heart("safety", lambda: self.watch.beat_s, SILENT_THREAD_S)]
        crew.start("watchdog", lambda: Watchdog(hearts, self.settings.restore).work(crew.stopping.wait))

    def heard(self) -> None:
        """A word from the ground."""
        self._heard_s = time.monotonic()

    def order(self, duty: SetDuty) -> None:
        """The twin's order; a cut-off of the board's own stands above it."""
        self._ordered = duty
        self.renew()

    def renew(self) -> None:
        """Tell a run that has just begun what holds now."""
        if self.watch.verdict.state == "cut":
            self._serve(SetDuty(False, self.watch.verdict.reason))
        else:
            self._serve(self._ordered)

    def _act(self, verdict: Verdict) -> None:
        LOG.warning("safety: %s %s", verdict.state, verdict.reason)
        self._event("SafetyActed", state=verdict.state, reason=verdict.reason)
        self._set_duty()
        self.renew()

    def _set_duty(self) -> None:
        eased = self._config.safety.eased_duty if self.watch.verdict.state == "ease" else 1.0
        self.duty.set(min(self._wanted_duty, eased))

    def begin_run(self) -> None:
        """A run begins from the board as it was: what an earlier controller had set and not put back is put back."""
        if self.settings.changed or self._wanted_duty < 1.0:
            self._restore("the next run")

    def set_power(self, order: SetPower) -> None:
        """Apply, read back, and tell; the first refusal ends it, and what was applied before stays to be put back."""
        problems = self._restore("order") if order.restore else []
        if order.duty is not None:
            self.duty.set(order.duty)
            self._wanted_duty = order.duty
        self._set_duty()
        now: dict[str, str | int | float | bool] = {"duty": self.duty.share}
        if order.mode:
            now["mode"] = order.mode
        try:
            if problems:
                raise HardwareError("; ".join(problems), "see the board's settings; its restore file keeps the rest")
            for name in ("nvp_mode", "cpu_khz", "fan"):
                value = getattr(order, name)
                if value is not None:
                    now[name] = self.settings.apply(name, str(value))
        except HilError as error:
            now["refused"] = error.message
            raise
        finally:
            self._tell(NodeEvent("PowerSet", time.monotonic_ns(), now))

    def _restore(self, by: str) -> list[str]:
        problems = self.settings.restore()
        self._wanted_duty = 1.0
        self._set_duty()
        self._event("SettingsRestored", by=by, problems="; ".join(problems))
        return problems

    def _event(self, name: str, **details: str | int | float | bool) -> None:
        self._tell(NodeEvent(name, time.monotonic_ns(), details))

    def stop(self) -> None:
        """Put everything back; what cannot be stays in the restore file."""
        self.duty.release()
        for problem in self.settings.restore():
            LOG.error("%s", problem)


def _own(find: Callable[[SensorSpec, float], Instrument], config: AgentConfig) -> Instrument | None:
    """An instrument for the watch alone; None where the board has none."""
    try:
        return find(SensorSpec("safety", config.sysfs_root), 2.0)
    except Absent as absent:
        if find is thermal_zone.find:
            LOG.warning("safety: nothing stops work at %g C: %s", config.safety.die_stop_c, absent.message)
        return None
