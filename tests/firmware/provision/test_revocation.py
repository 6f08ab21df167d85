"""A board in service learns who was revoked: `hil provision` brings the list, and the running agent goes by it."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware_tools import identity as x509
from hil_config.errors import LinkError
from hil_config.tls import client_context, connect, identity_files
from tests.firmware.provision.ssh_board import SEARCH, missing
from tests.firmware.provision.ssh_desk import Desk, open_broker, open_desk, shards_tar

WHY_NOT = missing() or ("" if shutil.which("mosquitto", path=SEARCH) else "no mosquitto")
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=f"a board behind sshd: {WHY_NOT}")


class Peer:
    """A party of the bench beside the board."""

    def __init__(self, desk: Desk, name: str) -> None:
        key = x509.make_key()
        certificate = desk.store.sign(name, x509.make_request(key, name))
        x509.write_identity(desk.board.home / name, x509.Identity(certificate, key, desk.store.ca))
        self._context = client_context(identity_files(desk.board.home / name))
        config = json.loads((desk.board.root / "etc/hil/agent.json").read_text())
        self._address = ("127.0.0.1", int(config["data_port"]))

    def refusal(self) -> str:
        """Why the board's agent would not have us in a real handshake now, or ""."""
        try:
            connect(self._address, self._context, "alpha", 5.0).close()
        except LinkError as error:
            return error.message
        return ""

    def until_refused(self) -> str:
        deadline, pause = time.monotonic() + 30, threading.Event()
        while not (said := self.refusal()):
            assert time.monotonic() < deadline, "it is still let in"
            pause.wait(0.1)
        return said


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with open_desk(tmp_path, shards_tar(tmp_path)) as one, open_broker(one):
        assert one.hil("provision", "alpha") == 0
        yield one


def test_a_revoked_peer_is_refused_by_a_board_that_was_in_service(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = Peer(desk, "bravo"), Peer(desk, "charlie")
    assert (first.refusal(), second.refusal()) == ("", "")
    assert desk.hil("provision", "alpha", "--check") == 0
    assert "revocation list: current" in capsys.readouterr().out

    desk.store.revoke("bravo")
    assert desk.hil("provision", "alpha", "--check") == 9
    assert "revocation list: not the bench's" in capsys.readouterr().out
    assert first.refusal() == "", "only looked"
    assert desk.hil("provision", "alpha") == 0
    assert first.until_refused() == "it refused our certificate: revoked"
    assert second.refusal() == ""
    assert "RevocationsRead" in (desk.board.root / "var/log/hil-agent.log").read_text()
    before, after = desk.receipts()
    assert after["changed"] == ["revocation list brought"]
    assert after["boot_id"] == before["boot_id"], "the agent was not started again"
    assert desk.hil("provision", "alpha") == 0
    assert desk.receipts()[-1]["changed"] == []

    # As first boots wrote it once: no list in the agent's configuration.
    config = desk.board.root / "etc/hil/agent.json"
    fields = json.loads(config.read_text())
    del fields["tls"]["crl"]
    config.write_text(json.dumps(fields))
    desk.store.revoke("charlie")
    assert desk.hil("provision", "alpha", "--check") == 9
    assert "the agent does not read it" in capsys.readouterr().out
    assert desk.hil("provision", "alpha") == 0
    last = desk.receipts()[-1]
    assert last["changed"] == [
        "revocation list brought", "agent told to go by the revocation list", "agent started again"
    ]  # fmt: skip
    assert last["boot_id"] != after["boot_id"] and config.stat().st_mode & 0o777 == 0o600
    assert second.until_refused() == "it refused our certificate: revoked"

    # A certificate that ends soon is renewed, and the agent that runs shows the new one.
    request = (desk.board.root / "etc/hil/identity/request.pem").read_bytes()
    (desk.board.root / "etc/hil/identity/certificate.pem").write_bytes(desk.store.sign("alpha", request, days=10))
    assert desk.hil("provision", "alpha") == 0
    renewed = desk.receipts()[-1]
    assert renewed["changed"] == ["certificate renewed", "agent started again"]
    assert renewed["boot_id"] != last["boot_id"]
