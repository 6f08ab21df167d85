"""Two versions of the agent on a board, and the way from one to the other and back.

    /opt/hil/slots/HASH     one version each, unpacked; HASH is the beginning of its archive's SHA-256
    /opt/hil/current        -> slots/HASH, what the board starts
    /opt/hil/previous       -> slots/HASH, what worked before
    /opt/hil/trial          there from the switch until the new version was seen at the broker

`current` is renamed over, never removed, so the board has an agent at any moment at which it loses power. A trial
that was interrupted is taken up by the next command: confirmed if the agent is there, else taken back.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib

import msgspec

from firmware_tools.provision.board_shell import BoardShell, Stuck

HOME = "/opt/hil"
CONFIG = "/etc/hil/agent.json"
SITE = "/opt/hil/site:/usr/lib/hil/site"
"""Libraries: unpacked by the first boot, or part of the image."""
PYTHON = "$(command -v python3.11 || command -v python3)"
UNPACK = "import sys, zlib; sys.stdout.buffer.write(zlib.decompress(sys.stdin.buffer.read()))"
PID = "/run/hil-agent.pid"
STARTS = "/var/lib/hil/spool/*.state/starts"
"""Where the agent counts its crashes; those of one version say nothing about another, which would be in safe mode."""
UNIT = "hil-agent.service"


class Slots(msgspec.Struct, frozen=True):
    """Hashes; empty where there is none. `trial`: the current one has not been seen at the broker yet."""

    current: str
    previous: str
    trial: bool


class SelfTestFailed(Stuck):
    """The new version says that it cannot work on this board."""


def slot_name(archive: bytes) -> str:
    """As the first boot names it."""
    return hashlib.sha256(archive).hexdigest()[:12]


def read_slots(shell: BoardShell, timeout_s: float) -> Slots:
    """Read only. A link to a slot that is not there counts as none."""
    listed = "".join(
        f"[ ! -d {HOME}/{one}/ ] || echo {one}:$(readlink {HOME}/{one}); " for one in ("current", "previous")
    )
    out = shell.must(f"{listed}[ ! -e {HOME}/trial ] || echo trial:yes", "reading its slots", timeout_s)
    found = dict(re.findall(r"^(current|previous|trial):(?:slots/)?(\w+)\s*$", out, re.MULTILINE))
    return Slots(found.get("current", ""), found.get("previous", ""), "trial" in found)


def install(shell: BoardShell, archive: bytes, timeout_s: float) -> str:
    """Unpack into a slot of its own, beside the one that runs; returns its name. One that is there stays."""
    name = slot_name(archive)
    if shell.run(f"[ -d {HOME}/slots/{name} ]", timeout_s)[0] == 0:
        return name
    shell.must(f"mkdir -p {HOME}/slots", "making its slots", timeout_s)
    shell.put(f"{HOME}/new.tar.z", zlib.compress(archive, 9))  # a serial line carries 11 kB a second
    shell.must(
        f"cd {HOME}/slots && rm -rf .new && mkdir .new && {PYTHON} -c '{UNPACK}' <../new.tar.z >../new.tar && "
        "(umask 022 && tar -xf ../new.tar -C .new) && "
        f"chmod 755 .new && rm ../new.tar ../new.tar.z && sync && mv .new {name}",
        "unpacking the agent", timeout_s,
    )  # fmt: skip
    return name


def self_test(shell: BoardShell, slot: str, timeout_s: float) -> None:
    """Let the version in a slot test itself, with the board's configuration; the one that runs is not touched.

    Raises:
        SelfTestFailed: with every check that failed.
    """
    code, out = shell.run(
        f"cd / && PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={HOME}/slots/{slot}:{SITE} "
        f"{PYTHON} -m node_agent.cli self-test --config {CONFIG} --json",
        timeout_s,
    )
    if code == 0:
        return
    said = out.strip().splitlines()[-1:] or ["nothing"]
    for line in reversed(out.splitlines()):
        if line.startswith("{"):
            try:
                checks = json.loads(line)["checks"]
                said = ["; ".join(f"{one['name']}: {one['detail']}" for one in checks if not one["ok"])]
            except (ValueError, KeyError, TypeError):
                continue  # a message of the kernel in between
            break
    raise SelfTestFailed(
        f"board {shell.board}: agent {slot}: its self-test ends with {code}: {said[0][:400]}",
        "the agent that ran still runs; mend what the check names",
    )


def switch(shell: BoardShell, slot: str, previous: str, timeout_s: float, trial: bool) -> None:
    """Make a slot the current one and start the agent in it; `previous` is the one to return to, empty for none."""
    keep = f"ln -sfn slots/{previous} previous.new && mv -T previous.new previous" if previous else "rm -f previous"
    mark = f": > {HOME}/trial" if trial else f"rm -f {HOME}/trial"
    shell.must(
        f"cd {HOME} && [ -d slots/{slot} ] && {keep} && {mark} && sync && "
        f"ln -sfn slots/{slot} current.new && mv -T current.new current && "
        f"rm -f {STARTS} && sync",
        f"switching to agent {slot}", timeout_s,
    )  # fmt: skip
    restart(shell, timeout_s)


def confirm(shell: BoardShell, timeout_s: float) -> None:
    """The current version works: the trial ends, and slots that are neither current nor previous go."""
    shell.must(
        f"cd {HOME} && rm -f trial && for one in slots/*; do "
        f"[ $one = \"$(readlink current)\" ] || [ $one = \"$(readlink previous)\" ] || rm -rf $one; done; sync",
        "clearing its slots", timeout_s,
    )  # fmt: skip


def restart(shell: BoardShell, timeout_s: float) -> None:
    """End the agent; systemd, or the board's supervisor, starts what `current` points to."""
    shell.must(
        f"if [ -d /run/systemd/system ]; then systemctl restart {UNIT}; "
        f"elif grep -q node_agent /proc/$(cat {PID} 2>/dev/null || echo none)/cmdline 2>/dev/null; "
        f"then kill $(cat {PID}); fi",
        "starting its agent again", timeout_s,
    )  # fmt: skip
