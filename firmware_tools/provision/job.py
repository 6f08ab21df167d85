"""Provision one board: reach it, look, set its clock, enrol it, see it come to the broker. Safe to repeat."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import msgspec

from firmware_tools.broker_watch import LOG, BrokerWatch
from firmware_tools.firstboot.payload import HOME
from firmware_tools.identity import WARN_DAYS, read_certificate
from firmware_tools.identity_store import IdentityStore
from firmware_tools.provision.agent_service import BoardService, last_words, mend_service, read_service
from firmware_tools.provision.agent_slots import restart
from firmware_tools.provision.board_clock import BoardClock, read_clock, set_clock
from firmware_tools.provision.board_shell import BoardShell
from firmware_tools.provision.revocation import BoardRevocations, bring_revocations, read_revocations
from firmware_tools.provision.time_keeper import BoardTime, read_time, set_up_time
from firmware_tools.state import State, utc_now
from hil_config.errors import ConfigError, HardwareError, LinkError

_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----[A-Za-z0-9+/=\s]+-----END \1-----")


class Found(msgspec.Struct, frozen=True):
    """What the board has. `days_left` of its certificate, None without one that fits.

    `differs`: what `provision` would do something about; empty if the board is as it should be.
    """

    name: str
    first_boot: str
    slot: str
    clock: BoardClock
    days_left: float | None
    has_request: bool
    revocations: BoardRevocations
    service: BoardService
    time: BoardTime
    differs: tuple[str, ...] = ()


class Wanted(msgspec.Struct, frozen=True):
    """What the bench wants of a board. `ntp`: its time server as the board sees it; empty leaves the time alone."""

    jetson: bool = False
    ntp: str = ""


AS_IT_IS = Wanted()


class Provisioned(msgspec.Struct, frozen=True):
    """Receipt; `changed` is empty if everything was in order."""

    kind: str
    board: str
    found: Found
    changed: tuple[str, ...]
    boot_id: str
    certificate_serial: str
    ended: str


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds for each step; emulated boards are tens of times slower than real ones."""

    shell_s: float = 180.0
    command_s: float = 60.0
    online_s: float = 120.0
    self_test_s: float = 240.0
    steady_s: float = 5.0


def look(shell: BoardShell, name: str, store: IdentityStore, limits: Timeouts, wanted: Wanted = AS_IT_IS) -> Found:
    """Read only."""
    read = "cat /etc/hil/firstboot.done 2>/dev/null; echo =; readlink /opt/hil/current; echo =; "
    _, out = shell.run(
        f"{read}cat {HOME}/certificate.pem 2>/dev/null; echo =; ls {HOME}/request.pem 2>/dev/null; echo =",
        limits.command_s,
    )
    parts = [part.strip() for part in re.split(r"^=\s*$", out, flags=re.MULTILINE)]
    if len(parts) < 4:
        raise HardwareError(f"board {name}: its answer cannot be read: {out[-200:]!r}", f"hil console {name}")
    found = Found(
        name, _last(parts[0]), _last(parts[1]).rpartition("/")[2], read_clock(shell, limits.command_s),
        _days_left(parts[2], name, store), "request.pem" in parts[3],
        read_revocations(shell, store, limits.command_s), read_service(shell, wanted.jetson, limits.command_s),
        read_time(shell, wanted.ntp, limits.command_s),
    )  # fmt: skip
    differs = {
        "first boot": not found.first_boot, "clock": found.clock.wrong,
        "certificate": found.days_left is None or found.days_left < WARN_DAYS,
        "revocation list": not found.revocations.in_order, "time": found.time.set_up == "no",
        "service": found.service.to_start,
    }  # fmt: skip
    return msgspec.structs.replace(found, differs=tuple(word for word, other in differs.items() if other))


def _last(text: str) -> str:
    return text.splitlines()[-1].strip() if text else ""


def _days_left(text: str, name: str, store: IdentityStore) -> float | None:
    match = _PEM.search(text)
    if match is None:
        return None
    try:
        read = read_certificate(match[0].encode())
    except ConfigError:
        return None
    mine = store.valid(name)
    if read.name != name or mine is None or f"{read.serial:x}" != mine.serial:
        return None
    return read.days_left()


def provision(
    name: str, shell: BoardShell, store: IdentityStore, watch: BrokerWatch | None, state: State, limits: Timeouts,
    tell: Callable[[str], None], wanted: Wanted = AS_IT_IS,
) -> tuple[Provisioned, Path]:  # fmt: skip
    """Bring a board that has had its first boot into service.

    Args:
        watch: the bench's broker; without it the agent is not waited for.

    Raises:
        HardwareError: the board does not do its part; says at which step. SafetyRefusal: its token is not ours.
    """
    found = look(shell, name, store, limits, wanted)
    if not found.first_boot:
        raise HardwareError(
            f"board {name}: has had no first boot of ours", f"write it onto its card: hil firstboot {name}"
        )
    changed: list[str] = []
    if found.clock.wrong:
        after = set_clock(shell, found.clock, limits.command_s)
        changed.append(f"clock set, it was {found.clock}, is {after}")
    # Before the certificate, whose arrival starts the agent.
    changed += bring_revocations(shell, store, found.revocations, limits.command_s)
    changed += _bring_services(shell, found, wanted, limits)
    not_boot = ""
    if found.days_left is None or found.days_left < WARN_DAYS:
        _enrol(name, shell, store, limits, found.days_left is None)
        changed.append("enrolled" if found.days_left is None else "certificate renewed")
    # One that runs goes by the old files until it starts; a first certificate starts it by itself.
    if found.days_left is not None and (
        found.days_left < WARN_DAYS or found.service.to_start or not found.revocations.named
    ):
        changed.append("agent started again")
        last = watch.known(name) if watch is not None else None
        not_boot = last.boot_id if last is not None else ""
        try:
            restart(shell, limits.command_s)
        except HardwareError as error:  # systemd's, of an agent that ended before it was there
            hint = f"{error.hint}; on the board: {LOG}"
            raise HardwareError(error.message + last_words(shell, limits.command_s), hint) from error
    boot_id = ""
    for one in changed:
        tell(one)
    if watch is not None:
        tell("waiting for the agent at the broker")
        try:
            boot_id = watch.wait_online(name, limits.online_s, not_boot).boot_id
        except LinkError as error:
            raise LinkError(error.message + last_words(shell, limits.command_s), error.hint) from error
    now = store.valid(name)
    receipt = Provisioned("provision", name, found, tuple(changed), boot_id, now.serial if now else "", utc_now())
    return receipt, state.receipt(name, "provision", receipt)


def _bring_services(shell: BoardShell, found: Found, wanted: Wanted, limits: Timeouts) -> list[str]:
    """The agent's units and the keeper of the board's time; what was changed."""
    changed = []
    if found.time.set_up == "no":
        changed.append(set_up_time(shell, found.time.keeper, wanted.ntp, limits.command_s))
    if found.service.to_mend:
        mend_service(shell, wanted.jetson, limits.command_s)
        changed.append(f"service written: {found.service.short}")
    return changed


def _enrol(name: str, shell: BoardShell, store: IdentityStore, limits: Timeouts, first: bool) -> None:
    """The request comes from the board, the certificate goes back; the key stays where it was made."""
    out = shell.must(f"cat {HOME}/request.pem", "reading its certificate request", limits.command_s)
    match = _PEM.search(out)
    if match is None:
        raise HardwareError(f"board {name}: its certificate request cannot be read", "run the command again")
    request = match[0].encode() + b"\n"
    if first:
        token = "/etc/hil/token"
        out = shell.must(f"cat {token} {HOME}/request.pem {token} | sha256sum", "proving its token", limits.command_s)
        proof = re.search(r"\b[0-9a-f]{64}\b", out)
        certificate = store.enrol(name, proof[0] if proof else "", request)
    else:
        certificate = store.sign(name, request)
    shell.put(f"{HOME}/certificate.pem", certificate)
    shell.must("rm -f /etc/hil/token", "removing its spent token", limits.command_s)
    digest = hashlib.sha256(certificate).hexdigest()
    shell.must(f"sha256sum {HOME}/certificate.pem | grep -q {digest}", "checking its certificate", limits.command_s)
