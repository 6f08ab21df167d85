"""`hil bench doctor`: the time server of the bench, and boards whose shell goes over the network that is measured."""

from __future__ import annotations

import pytest

from firmware_tools.doctor_network import check_network
from firmware_tools.provision.cli import _time_server
from hil_config.schema.bench import Bench


def bench(ssh_host: str, address: str = "10.0.0.7", broker: str = "127.0.0.1") -> Bench:
    ssh = {"host": ssh_host, "key_file": "key", "host_key_file": "known_hosts"}
    board = {"name": "alpha", "profile": "raspberry-pi-5", "kind": "raspberry-pi", "address": address, "ssh": ssh}
    return Bench.model_validate(
        {"bench": "lab", "identity": "identity", "broker": {"host": broker, "port": 8883}, "boards": (board,)}
    )


@pytest.mark.parametrize(
    ("ssh_host", "ok", "found"),
    [
        ("10.0.0.7", False, "SSH and data both use 10.0.0.7"),
        ("10.0.0.99", False, "SSH at 10.0.0.99 and data at 10.0.0.7 are in one network"),
        ("192.168.50.7", True, "SSH at 192.168.50.7, data at 10.0.0.7"),
        ("fd00::7", True, "SSH at fd00::7, data at 10.0.0.7"),
        ("no-such-name.invalid", False, "no-such-name.invalid has no address"),
    ],
)
def test_management_and_data_are_apart(ssh_host: str, ok: bool, found: str) -> None:
    (check,) = check_network(bench(ssh_host))
    assert (check.name, check.ok, check.found) == ("alpha.networks", ok, found)
    assert ok or check.do


def test_a_bench_whose_ground_serves_no_time() -> None:
    check = next(iter(check_network(bench("192.168.50.7", broker="127.0.0.3"))))
    assert check.name == "time server" and not check.ok and "/etc/chrony/conf.d/hil.conf" in check.do


def test_boards_are_not_told_to_ask_a_server_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    lab = bench("192.168.50.7", broker="127.0.0.3")
    assert _time_server(lab, lab.boards, None) == ""
    assert "time is left alone: time server 127.0.0.3: " in capsys.readouterr().err
    assert _time_server(lab, lab.boards, "10.0.0.1") == "10.0.0.1", "as somebody has said"
    assert _time_server(bench("192.168.50.7"), lab.boards, None) is None


def test_boards_of_this_machine_are_not_asked() -> None:
    assert not list(
        check_network(Bench.model_validate({"bench": "lab", "boards": ({"name": "a", "profile": "local-process"},)}))
    )


def test_nor_for_boards_that_are_calculated() -> None:
    model = {"name": "m", "profile": "raspberry-pi-5", "kind": "model"}
    broker = {"host": "127.0.0.3", "port": 8883}
    lab = Bench.model_validate({"bench": "lab", "identity": "identity", "broker": broker, "boards": (model,)})
    assert not list(check_network(lab))
