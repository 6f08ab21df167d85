"""A board's Wi-Fi: what NetworkManager and netplan are told, with the derived key and never the passphrase.

The key (PSK) is PBKDF2-HMAC-SHA1 over passphrase and network name, 4096 rounds, 32 bytes: IEEE 802.11-2020, J.4.1.
Both programs take it as 64 hexadecimal digits. It opens this one network, the passphrase may open more; WPA3 alone
(SAE) needs the passphrase itself and is not set up.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid

import msgspec

from hil_config.errors import UsageError

ROUNDS, KEY_BYTES = 4096, 32
FILES = ("wifi.nmconnection", "wifi.yaml")
"""Secret; taken over by `hil-start.sh` and overwritten on the boot partition."""
_PLAIN = re.compile(r"[A-Za-z0-9_-]*[A-Za-z][A-Za-z0-9_-]*")


class Wifi(msgspec.Struct, frozen=True):
    """One network. `psk` in 64 hexadecimal digits."""

    ssid: str
    country: str
    psk: str

    def __repr__(self) -> str:
        return f"Wifi({self.ssid!r}, {self.country!r}, psk hidden)"

    def network_manager(self) -> str:
        """A keyfile. A name that is not plain is given as bytes, so that nothing in it is taken for syntax."""
        name = self.ssid if _PLAIN.fullmatch(self.ssid) else "".join(f"{byte};" for byte in self.ssid.encode())
        identity = uuid.uuid5(uuid.NAMESPACE_DNS, f"{self.ssid.encode().hex()}.wifi.hil")
        return "\n".join((
            "[connection]", "id=hil-wifi", f"uuid={identity}", "type=wifi", "",
            "[wifi]", "mode=infrastructure", f"ssid={name}", "",
            "[wifi-security]", "key-mgmt=wpa-psk", f"psk={self.psk}", "",
            "[ipv4]", "method=auto", "", "[ipv6]", "method=auto", "",
        ))  # fmt: skip

    def netplan(self) -> str:
        """For systemd-networkd and wpa_supplicant, which want the port by name. JSON is YAML, without its traps."""
        port = {"dhcp4": True, "optional": True, "access-points": {self.ssid: {"password": self.psk}}}
        return json.dumps({"network": {"version": 2, "wifis": {"wlan0": port}}}, indent=2) + "\n"


def wifi_of(ssid: str, country: str, passphrase: str) -> Wifi:
    """Derive the key; 64 hexadecimal digits are taken as the key itself.

    Raises:
        UsageError: the name, country or passphrase is none. The passphrase is in no message.
    """
    if not 1 <= len(ssid.encode()) <= 32 or not ssid.isprintable():
        raise UsageError(f"Wi-Fi name {ssid!r}: wanted 1 to 32 bytes that can be printed", "--wifi NAME")
    if not re.fullmatch(r"[A-Z]{2}", country):
        raise UsageError(
            f"Wi-Fi country {country!r}: wanted two capital letters (ISO 3166)", "such as --wifi-country DE"
        )
    if re.fullmatch(r"[0-9A-Fa-f]{64}", passphrase):
        return Wifi(ssid, country, passphrase.lower())
    if not 8 <= len(passphrase) <= 63 or not all(" " <= sign <= "~" for sign in passphrase):
        raise UsageError(
            f"Wi-Fi {ssid!r}: its passphrase has {len(passphrase)} characters, wanted 8 to 63 of printable ASCII",
            "write it into a file of its own, on the first line",
        )
    key = hashlib.pbkdf2_hmac("sha1", passphrase.encode(), ssid.encode(), ROUNDS, KEY_BYTES)
    return Wifi(ssid, country, key.hex())


def wifi_files(wifi: Wifi) -> dict[str, bytes]:
    """Name -> content; the board takes the one that its network program reads."""
    return dict(zip(FILES, (wifi.network_manager().encode(), wifi.netplan().encode()), strict=True))
