"""Off is proved, not believed: hubs and plugs report "off" while the board still lives.

Evidence: the console says nothing although it is asked, the agent's last will arrives at the broker, the board's data
and shell ports do not answer. After on: something is heard again, and the agent comes back with another boot id.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable
from typing import Literal

import msgspec

from hil_config.errors import HardwareError

SILENT_S = 2.0
ASK_S = 0.3
_AWAY = (errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ETIMEDOUT)
"""What a network says of a host that is not there."""
Verdict = Literal["silent", "alive", "no way to tell"]


class Evidence(msgspec.Struct, frozen=True):
    """What one witness saw."""

    witness: str
    verdict: Verdict
    detail: str = ""


class Proof(msgspec.Struct, frozen=True):
    """`proved` only if somebody could tell and nobody saw life."""

    board: str
    switched: str
    evidence: tuple[Evidence, ...]
    proved: bool
    boot_id: str = ""


def console_witness(
    console: socket.socket, trouble: Callable[[], str] = lambda: "", lived: bool = True, at_once: bool = False
) -> Evidence:
    """Ask with carriage returns, one each `ASK_S`: one for every piece of an answer would have every answer come in
    more pieces, and leave more on the line than anybody reads. A living board echoes or prints.

    What was in the line before is read away first. An owner that has gone proves no silence, nor does a line that is
    not open.

    Args:
        trouble: why the line is not open now, empty if it is.
        lived: it was heard before; without that a cable that is nobody's would prove every board off.
        at_once: the first answer is enough.
    """
    lost = trouble()
    console.settimeout(ASK_S)
    _drain(console)
    window_s = SILENT_S
    heard, asked, deadline = 0, 0.0, time.monotonic() + window_s
    while time.monotonic() < deadline:
        try:
            if time.monotonic() - asked >= ASK_S:
                console.sendall(b"\r")
                asked = time.monotonic()
            data = console.recv(4096)
            if not data:
                return Evidence("console", "no way to tell", "the console's owner has gone")
            heard += len(data)
            if at_once:
                break
        except TimeoutError:
            continue
        except OSError as error:
            return Evidence("console", "no way to tell", str(error))
    lost = lost or trouble()
    if lost and not heard:
        return Evidence("console", "no way to tell", f"its line is not open: {lost}")
    detail = f"{heard} bytes within {window_s:g} s" if heard else f"nothing within {window_s:g} s though asked"
    if not heard and not lived:
        return Evidence("console", "no way to tell", f"{detail}, as before it was switched off")
    return Evidence("console", "alive" if heard else "silent", detail)


def _drain(console: socket.socket) -> None:
    deadline = time.monotonic() + 1.0
    try:
        while console.recv(65_536) and time.monotonic() < deadline:
            continue
    except OSError:  # a timeout: it is empty; else the next read says what
        return


def port_witness(name: str, host: str, port: int, lived: bool = True) -> Evidence:
    """Whether something on the board still takes connections. A name that is not known, or a network that is not
    there, says nothing of the board, and who refuses is there: the board, or something before it.

    Args:
        lived: it took connections before; without that an address that is nobody's would prove every board off.
    """
    try:
        socket.create_connection((host, port), 1.0).close()
    except (OSError, UnicodeError) as error:
        said = f"{host}:{port}: {getattr(error, 'strerror', None) or error}"
        away = isinstance(error, TimeoutError) or getattr(error, "errno", None) in _AWAY
        if away and not lived:
            return Evidence(name, "no way to tell", f"{said}, as before it was switched off")
        return Evidence(name, "silent" if away else "no way to tell", said)
    return Evidence(name, "alive", f"{host}:{port} takes connections")


def conclude(board: str, witnesses: tuple[Callable[[], Evidence], ...]) -> Proof:
    """Ask every witness.

    Raises:
        HardwareError: one of them saw the board alive.
    """
    evidence = tuple(ask() for ask in witnesses)
    alive = [one for one in evidence if one.verdict == "alive"]
    if alive:
        seen = "; ".join(f"{one.witness}: {one.detail}" for one in alive)
        raise HardwareError(
            f"board {board}: its switch says off, but it lives ({seen})",
            "is it the right outlet? USB hubs often keep VBUS up, and a serial adapter can feed a board",
        )
    return Proof(board, "off", evidence, any(one.verdict == "silent" for one in evidence))
