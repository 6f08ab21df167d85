"""A board's address on the bench, as its first boot sets it up."""

from __future__ import annotations

import pytest

from firmware_tools.firstboot.network import network_of
from hil_config.errors import ConfigError, UsageError


def test_networks() -> None:
    assert network_of("alpha", "10.0.0.7", None).cloud_init()["ethernets"]["bench"]["dhcp4"] is True
    fixed = network_of("alpha", "10.0.0.7", "02:00:00:00:00:01", "10.0.0.0/24", "10.0.0.1", ("10.0.0.2",))
    port = fixed.cloud_init()["ethernets"]["bench"]
    assert port["addresses"] == ["10.0.0.7/24"] and port["match"] == {"macaddress": "02:00:00:00:00:01"}
    assert "address1=10.0.0.7/24,10.0.0.1\ndns=10.0.0.2;" in fixed.network_manager()
    with pytest.raises(ConfigError, match=r"board alpha: 10\.0\.1\.7 is not in"):
        network_of("alpha", "10.0.1.7", None, "10.0.0.0/24")
    for address, gateway, words in (
        ("10.0.0.1", "10.0.0.1", "is the board itself"), ("10.0.0.0", "10.0.0.1", "address 10.0.0.0 is no host"),
        ("10.0.0.255", "10.0.0.1", "address 10.0.0.255 is no host"), ("10.0.0.7", "10.0.0.255", "gateway 10.0.0.255"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            network_of("alpha", address, None, "10.0.0.0/24", gateway)
    assert network_of("alpha", "10.0.0.0", None, "10.0.0.0/31", "10.0.0.1").address == "10.0.0.0/31"
    with pytest.raises(ConfigError, match="gateway"):
        network_of("alpha", "10.0.0.7", None, "10.0.0.0/24", "10.1.0.1")
    for wrong in (("10.0.0.0/33", ""), ("10.0.0.0/24", "gate"), ("", "10.0.0.1")):
        with pytest.raises(UsageError):
            network_of("alpha", "10.0.0.7", None, *wrong)
