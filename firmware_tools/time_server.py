"""The bench's time server: chrony on the ground's computer, what it is told, and whether it answers.

One question in the form of RFC 5905 (48 bytes, mode 3); offset and delay as in its section 8.
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
import struct
import time

import msgspec

from hil_config.errors import LinkError, UsageError

FILE = "chrony.conf"
PORT = 123
_UNIX_S = 2_208_988_800
"""NTP counts from 1900."""
_BY_HAND = (
    "sudo apt install chrony; printf 'allow\\nlocal stratum 10\\n' | sudo tee /etc/chrony/conf.d/hil.conf; "
    "sudo systemctl restart chrony"
)
_INSTALL = "sudo cp {path} /etc/chrony/conf.d/hil.conf && sudo systemctl restart chrony"


class Answer(msgspec.Struct, frozen=True):
    """Measured by one exchange: server less this machine, `within_s` either way. `stratum` 0 is none of use."""

    stratum: int
    synchronised: bool
    offset_s: float
    within_s: float

    def __str__(self) -> str:
        kept = f"stratum {self.stratum}" if self.synchronised else "not synchronised"
        return f"{kept}, {self.offset_s:+.3f} s from this clock (within {self.within_s:.3f} s)"


def server_config(listen: str) -> str:
    """Lines for chrony on the ground's computer, which listens for boards on that address alone.

    Raises:
        UsageError: `listen` is not an address.
    """
    try:
        address = ipaddress.ip_address(listen)
    except ValueError as error:
        raise UsageError(
            f"--listen {listen!r}: {error}", "an address of this computer, such as 192.168.50.1"
        ) from error
    bound = "" if address.is_unspecified else f"bindaddress {address}\n"
    return (
        "# Written by hil bench init: this computer keeps the time of its boards, also without a network of its own.\n"
        f"{bound}allow\nlocal stratum 10\n"
    )


def how_to_install(path: str) -> str:
    """The command for a person."""
    return _INSTALL.format(path=path)


def ask(host: str, port: int = PORT, timeout_s: float = 2.0) -> Answer:
    """One exchange.

    Raises:
        LinkError: no answer, or none that is NTP's.
    """
    cookie = secrets.token_bytes(8)  # comes back as the origin; our own time is nobody's business
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(timeout_s)
            sock.connect((host, port))
            sent_s = time.time()
            sock.send(struct.pack("!B39x8s", 0x23, cookie))
            data = sock.recv(512)
            back_s = time.time()
    except TimeoutError as error:
        raise LinkError(f"time server {host}: no answer within {timeout_s:g} s", _BY_HAND) from error
    except OSError as error:
        raise LinkError(f"time server {host}: {error.strerror or error}", _BY_HAND) from error
    if len(data) < 48 or data[0] & 7 != 4 or data[24:32] != cookie:
        raise LinkError(f"time server {host}: answers with something else than NTP", _BY_HAND)
    came_s, went_s = (_unix(data[at : at + 8]) for at in (32, 40))
    delay_s = max(0.0, (back_s - sent_s) - (went_s - came_s))
    offset_s = ((came_s - sent_s) + (went_s - back_s)) / 2
    stratum, leap = data[1], data[0] >> 6
    return Answer(stratum, leap != 3 and 0 < stratum < 16, round(offset_s, 6), round(delay_s / 2, 6))


def _unix(data: bytes) -> float:
    whole, fraction = struct.unpack("!II", data)
    return float(whole - _UNIX_S + fraction / 2**32)
