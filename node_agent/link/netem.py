"""The kernel's link shaper (netem) for boards that have it: per peer, on the data interface alone.

One htb root classifies by peer address and data port into a class each; everything else on the interface, management
included, keeps to the default class and is not touched. In each class sits a netem with delay, loss and rate. Two traps
shape this file (iproute2 6.1, Linux 6.1): a netem `change` without a loss resets the loss to 0, so every change carries
the full set; and what was asked is not always what is set, so every change is read back. Commands go to `tc -batch`.
"""

from __future__ import annotations

import subprocess
from typing import Any, NamedTuple

import msgspec

from hil_config.errors import EnvironmentFault
from hil_config.wire.link_state import LinkState

ROOT = "5a1:"
"""Handle of our root: how leftovers of a crash are known as ours."""

_PLAIN = {"noqueue", "pfifo_fast", "fq_codel", "fq", "mq", "pfifo", "cake", "noop"}
_UNLIMITED = "100gbit"
_LIMIT_PACKETS = 100_000
_RATE_MOST = 10e9
_HINT = "leave out data_interface: the user-space shaper does the same"


class Target(NamedTuple):
    """A peer's data plane."""

    host: str
    port: int


class Setting(NamedTuple):
    """What a netem is set to: whole bytes a second, in which it counts. A link that is down loses everything."""

    delay_s: float
    rate_bit_s: float
    loss: float

    @classmethod
    def of(cls, state: LinkState) -> Setting:
        if not state.up or state.rate_bit_s <= 0.0:
            return cls(0.0, _RATE_MOST, 1.0)
        rate_bit_s = 8.0 * max(1.0, round(min(state.rate_bit_s, _RATE_MOST) / 8.0))
        return cls(state.delay_s, rate_bit_s, state.loss)

    def near(self, other: Setting) -> bool:
        """Equal but for rounding: 2 us of delay (0.1 %), 0.1 % of rate, 1e-4 of loss."""
        return (
            abs(self.delay_s - other.delay_s) <= 2e-6 + 1e-3 * self.delay_s
            and abs(self.rate_bit_s - other.rate_bit_s) <= 1e-3 * self.rate_bit_s
            and abs(self.loss - other.loss) <= 1e-4
        )


def _tc(lines: list[str]) -> None:
    try:
        done = subprocess.run(
            ["tc", "-batch", "-"], input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=10.0,
            check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise EnvironmentFault("tc is not installed", "apt-get install iproute2") from error
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFault("tc does not answer", _HINT) from error
    if done.returncode != 0:
        cause = " ".join(line.strip() for line in done.stderr.splitlines()[:2])
        if "qdisc kind is unknown" in cause:
            cause = "this kernel has no netem or htb (sch_netem, sch_htb, cls_u32)"
        raise EnvironmentFault(f"tc: {cause}", _HINT)


def _show(interface: str) -> list[dict[str, Any]]:
    try:
        done = subprocess.run(
            ["tc", "-j", "qdisc", "show", "dev", interface], capture_output=True, text=True, timeout=10.0, check=False
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise EnvironmentFault("tc is not installed, or does not answer", "apt-get install iproute2") from error
    if done.returncode != 0:
        raise EnvironmentFault(f"data interface {interface!r}: {done.stderr.strip()}", "see: ip -brief link")
    found: list[dict[str, Any]] = msgspec.json.decode(done.stdout or "[]")
    return found


def ours(interface: str) -> bool:
    """Is our shaping on it, at work or left by a crash?

    Raises:
        EnvironmentFault: no tc, no such interface, or somebody else's shaping is on it.
    """
    for qdisc in _show(interface):
        if qdisc.get("root") and qdisc.get("handle") == ROOT:
            return True
        if qdisc.get("root") and qdisc["kind"] not in _PLAIN:
            raise EnvironmentFault(f"data interface {interface!r} has somebody else's {qdisc['kind']} on it", _HINT)
    return False


class Netem:
    """Args: `targets` are the peers to shape, by name; nothing happens before `start`."""

    def __init__(self, interface: str, targets: dict[str, Target]) -> None:
        self._interface = interface
        self._targets = targets
        self._minor = {peer: 0x10 + n for n, peer in enumerate(sorted(targets))}
        self._set: dict[str, Setting] = {}
        self._started = False

    def start(self) -> None:
        """Take the interface's root; every peer begins unshaped.

        Raises:
            EnvironmentFault: no tc, no netem, no such interface, or somebody else's shaping is on it.
        """
        if ours(self._interface):
            _tc([f"qdisc del dev {self._interface} root"])  # left by a crash
        dev = f"dev {self._interface}"
        free = Setting(0.0, _RATE_MOST, 0.0)
        lines = [
            f"qdisc add {dev} root handle {ROOT} htb default 1",
            f"class add {dev} parent {ROOT} classid {ROOT}1 htb rate {_UNLIMITED} quantum 60000",
        ]
        for peer, target in sorted(self._targets.items()):
            minor = f"{self._minor[peer]:x}"
            lines += [
                f"class add {dev} parent {ROOT} classid {ROOT}{minor} htb rate {_UNLIMITED} quantum 60000",
                f"qdisc add {dev} parent {ROOT}{minor} handle {minor}: {_words(free)}",
                f"filter add {dev} parent {ROOT} protocol ip prio 1 u32 match ip dst {target.host}/32 "
                f"match ip protocol 6 0xff match ip dport {target.port} 0xffff flowid {ROOT}{minor}",
            ]
        self._started = True
        try:
            _tc(lines)
            self._set = dict.fromkeys(self._targets, free)
            self.verify()
        except EnvironmentFault:
            self.stop()
            raise

    def apply(self, states: dict[str, LinkState]) -> int:
        """Set the links that have changed by more than rounding, read them back; how many that were."""
        wanted = {peer: Setting.of(state) for peer, state in states.items() if peer in self._targets}
        changed = {peer: setting for peer, setting in wanted.items() if not setting.near(self._set[peer])}
        if changed:
            dev = f"dev {self._interface}"
            _tc(
                [
                    f"qdisc change {dev} parent {ROOT}{self._minor[peer]:x} handle {self._minor[peer]:x}: {_words(one)}"
                    for peer, one in changed.items()
                ]
            )
            self._set.update(changed)
            self.verify()
        return len(changed)

    def read(self) -> dict[str, Setting]:
        """What the kernel says is set, by peer."""
        by_handle = {f"{minor:x}:": peer for peer, minor in self._minor.items()}
        found = {}
        for qdisc in _show(self._interface):
            if qdisc["kind"] == "netem" and qdisc.get("handle") in by_handle:
                options = qdisc["options"]
                delay_s = float(options.get("delay", {}).get("delay", 0.0))
                loss = float(options.get("loss-random", {}).get("loss", 0.0))
                rate = 8.0 * float(options.get("rate", {}).get("rate", 0.0))
                found[by_handle[qdisc["handle"]]] = Setting(delay_s, rate, loss)
        return found

    def verify(self) -> None:
        """EnvironmentFault if the kernel has anything but what was asked."""
        found = self.read()
        for peer, setting in self._set.items():
            if peer not in found or not setting.near(found[peer]):
                raise EnvironmentFault(
                    f"netem for {peer} on {self._interface!r}: found {found.get(peer)}, wanted {setting}",
                    "somebody else changes this interface; " + _HINT,
                )

    def stop(self) -> None:
        """Give the interface back as it was."""
        if self._started:
            self._started = False
            try:
                if ours(self._interface):
                    _tc([f"qdisc del dev {self._interface} root"])
            except EnvironmentFault:
                return  # the interface itself is gone


def _words(setting: Setting) -> str:
    """The full set, always: what is left out is reset."""
    return (
        f"netem limit {_LIMIT_PACKETS} delay {setting.delay_s * 1e6:.1f}us loss {setting.loss * 100:.4f}% "
        f"rate {setting.rate_bit_s:.0f}bit"
    )
