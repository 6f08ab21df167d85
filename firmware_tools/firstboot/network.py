"""A board's address on the bench: DHCP, or its own out of the bench file."""

from __future__ import annotations

import ipaddress
import uuid
from typing import Any

import msgspec

from hil_config.errors import ConfigError, UsageError

LINK_OF_TWO = 31
"""Bits of a network that has hosts alone (RFC 3021); larger ones keep the first and last address."""


class Network(msgspec.Struct, frozen=True):
    """Wired network of one board; an empty `address` (a.b.c.d/n) stands for DHCP. `mac` picks the port."""

    address: str = ""
    gateway: str = ""
    dns: tuple[str, ...] = ()
    mac: str = ""

    def cloud_init(self) -> dict[str, Any]:
        """network-config, version 2 (netplan's form)."""
        port: dict[str, Any] = {"match": {"macaddress": self.mac} if self.mac else {"name": "e*"}, "optional": True}
        if not self.address:
            return {"version": 2, "ethernets": {"bench": {**port, "dhcp4": True}}}
        port |= {"dhcp4": False, "addresses": [self.address]}
        if self.gateway:
            port["routes"] = [{"to": "0.0.0.0/0", "via": self.gateway}]
        if self.dns:
            port["nameservers"] = {"addresses": list(self.dns)}
        return {"version": 2, "ethernets": {"bench": port}}

    def network_manager(self) -> str:
        """A keyfile of NetworkManager, which needs none for DHCP: then empty."""
        if not self.address:
            return ""
        name = uuid.uuid5(uuid.NAMESPACE_DNS, f"{self.address}.hil")
        lines = ["[connection]", "id=hil-bench", f"uuid={name}", "type=ethernet", "autoconnect-priority=10"]
        lines += ["", "[ethernet]", *([f"mac-address={self.mac}"] if self.mac else [])]
        gateway = f",{self.gateway}" if self.gateway else ""
        lines += ["", "[ipv4]", "method=manual", f"address1={self.address}{gateway}"]
        lines += [f"dns={';'.join(self.dns)};"] if self.dns else []
        return "\n".join([*lines, "", "[ipv6]", "method=link-local", ""])


def network_of(
    board: str, address: str, mac: str | None, net: str = "", gateway: str = "", dns: tuple[str, ...] = ()
) -> Network:
    """Static if `net` (a.b.c.d/n) is given.

    Raises:
        UsageError: not an address. ConfigError: no board, or no gateway of it, can have that address in `net`.
    """
    if not net:
        if gateway or dns:
            raise UsageError("--gateway and --dns belong to a static address", "add --network a.b.c.d/n")
        return Network(mac=mac or "")
    try:
        within = ipaddress.IPv4Network(net)
        for one in (*([gateway] if gateway else []), *dns):
            ipaddress.IPv4Address(one)
    except ValueError as error:
        raise UsageError(f"network: {error}", "such as --network 192.168.50.0/24 --gateway 192.168.50.1") from error
    try:
        inside = ipaddress.IPv4Address(address) in within
    except ValueError:
        inside = False
    if not inside or (gateway and ipaddress.IPv4Address(gateway) not in within):
        what = address if not inside else f"gateway {gateway}"
        raise ConfigError(f"board {board}: {what} is not in {net}", "mend `address` in the bench file, or --network")
    ends = (within.network_address, within.broadcast_address) if within.prefixlen < LINK_OF_TWO else ()
    for what, one in (("address", address), ("gateway", gateway)):
        if one and ipaddress.IPv4Address(one) in ends:
            raise ConfigError(f"board {board}: {what} {one} is no host of {net}, but its first or last address",
                              "mend `address` in the bench file, or --gateway")  # fmt: skip
    if gateway and ipaddress.IPv4Address(gateway) == ipaddress.IPv4Address(address):
        raise ConfigError(f"board {board}: --gateway {gateway} is the board itself", "give the router's address")
    return Network(f"{address}/{within.prefixlen}", gateway, dns, mac or "")
