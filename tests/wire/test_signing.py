"""Signed orders: nothing forged, replayed, late, misdirected or of a past epoch is ever carried out."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from firmware_tools.identity import make_command_key, make_key
from hil_config.epoch_file import EpochFile
from hil_config.errors import ConfigError, EnvironmentFault, RemoteProtocolError
from hil_config.signing import OrderGate, SignedOrder, Signer
from hil_config.wire import messages as m
from hil_config.wire import topics
from hil_config.wire.orders import Ping, SetDuty, Shutdown

NOW = 1_000_000_000_000
SOON = NOW + 30_000_000_000


class Keys:
    def __init__(self, home: Path) -> None:
        private, public = make_command_key()
        self.private, self.public = home / "command.key.pem", home / "command.pub.pem"
        self.private.write_bytes(private)
        self.public.write_bytes(public)
        self.state = home / "epoch"

    def signer(self, epoch: int = 5) -> Signer:
        return Signer(self.private, epoch)

    def gate(self, node: str = "a", boot: str = "boot-1") -> OrderGate:
        return OrderGate(self.public, node, boot, EpochFile(self.state))


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


def _shutdown() -> m.Command:
    return m.Command(id="1", epoch=5, body=Shutdown())


def _order(signer: Signer, node: str = "a", boot: str = "boot-1", expires_ns: int = SOON) -> bytes:
    return signer.sign(topics.COMMAND, node, boot, _shutdown(), expires_ns)


def test_an_order_is_carried_out_once(keys: Keys) -> None:
    gate, order = keys.gate(), _order(keys.signer())
    assert gate.admit(topics.COMMAND, order, NOW) == _shutdown()
    with pytest.raises(RemoteProtocolError, match="came before"):
        gate.admit(topics.COMMAND, order, NOW)


def test_orders_may_overtake_one_another(keys: Keys) -> None:
    signer, gate = keys.signer(), keys.gate()
    orders = [_order(signer) for _ in range(50)]
    random.Random(2).shuffle(orders)
    for order in orders:
        gate.admit(topics.COMMAND, order, NOW)


def test_an_order_holds_for_its_node_boot_topic_and_time(keys: Keys) -> None:
    signer, gate = keys.signer(), keys.gate()
    for order, row, now, cause in (
        (_order(signer, node="b"), topics.COMMAND, NOW, "not signed by this bench's controller"),
        (_order(signer, boot="boot-0"), topics.COMMAND, NOW, "order for boot 'boot-0'"),
        (_order(signer), topics.PLAN, NOW, "not signed by this bench's controller"),
        (_order(signer), topics.COMMAND, SOON + 1_500_000_000, r"order ended 1\.500 s ago"),
        (_order(signer, expires_ns=0), topics.COMMAND, NOW, "order ended"),
        (msgspec.json.encode(_shutdown()), topics.COMMAND, NOW, "SignedOrder: "),
    ):
        with pytest.raises(RemoteProtocolError, match=cause):
            gate.admit(row, order, now)
    ping = signer.sign(topics.COMMAND, "a", "boot-1", m.Command(id="2", epoch=5, body=Ping()), 0)
    assert isinstance(gate.admit(topics.COMMAND, ping, NOW), m.Command), "only a Ping may come at any time"


def test_a_past_epoch_stays_past_over_a_restart(keys: Keys) -> None:
    old, new = keys.signer(5), keys.signer(6)
    gate = keys.gate()
    gate.admit(topics.COMMAND, _order(old), NOW)
    gate.admit(topics.COMMAND, _order(new), NOW)
    with pytest.raises(RemoteProtocolError, match="epoch 5 is over, 6 is in command"):
        gate.admit(topics.COMMAND, _order(old), NOW)
    again = keys.gate(boot="boot-2")
    assert again.epoch == 6
    with pytest.raises(RemoteProtocolError, match="epoch 5 is over"):
        again.admit(topics.COMMAND, _order(old, boot="boot-2"), NOW)
    with pytest.raises(RemoteProtocolError, match="order for boot 'boot-1'"):
        again.admit(topics.COMMAND, _order(new), NOW)
    assert again.admit(topics.COMMAND, _order(new, boot="boot-2"), NOW) == _shutdown()


def test_a_forged_epoch_does_not_fence_the_true_controller_out(keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "rogue").mkdir()
    gate = keys.gate()
    with pytest.raises(RemoteProtocolError, match="not signed"):
        gate.admit(topics.COMMAND, _order(Keys(tmp_path / "rogue").signer(99)), NOW)
    gate.admit(topics.COMMAND, _order(keys.signer(5)), NOW)


def test_an_epoch_that_cannot_be_kept_gives_no_orders(keys: Keys) -> None:
    gate = keys.gate()
    keys.state.mkdir()  # even root cannot put a file there
    with pytest.raises(RemoteProtocolError, match="the epoch cannot be kept"):
        gate.admit(topics.COMMAND, _order(keys.signer()), NOW)
    assert gate.epoch == 0


_KILLED = """
import os, sys
from pathlib import Path
from hil_config import durable_file
from hil_config.epoch_file import EpochFile
durable_file.os.replace = lambda *paths: os._exit(9)
EpochFile(Path(sys.argv[1])).admit(7)
"""


def test_a_crash_while_the_epoch_is_written_leaves_the_old_one(keys: Keys) -> None:
    keys.gate().admit(topics.COMMAND, _order(keys.signer(5)), NOW)
    done = subprocess.run([sys.executable, "-c", _KILLED, str(keys.state)], check=False, env={**os.environ})
    assert done.returncode == 9 and keys.gate(boot="boot-2").epoch == 5


def test_broken_files_are_clear_errors(keys: Keys, tmp_path: Path) -> None:
    keys.state.write_text("many")
    with pytest.raises(EnvironmentFault, match="the highest epoch cannot be read"):
        keys.gate()
    keys.state.unlink()
    other = tmp_path / "other.pem"
    with pytest.raises(ConfigError, match="cannot be read"):
        Signer(other, 1)
    other.write_bytes(make_key())
    with pytest.raises(ConfigError, match="wanted Ed25519"):
        Signer(other, 1)
    with pytest.raises(ConfigError, match="not a public key in PEM"):
        OrderGate(other, "a", "boot", EpochFile(keys.state))


def _forge(gate: OrderGate, orders: list[bytes], rogue: Signer, count: int, seed: int) -> int:
    """Hand `count` forged orders to `gate`; how many it would have carried out."""
    chance = random.Random(seed)
    parsed = [msgspec.json.decode(order, type=SignedOrder) for order in orders]
    executed = 0
    for n in range(count):
        order = parsed[chance.randrange(len(parsed))]
        kind = n % 6
        if kind == 0:
            data = msgspec.json.encode(msgspec.structs.replace(order, counter=order.counter + chance.randint(1, 10**6)))
        elif kind == 1:
            data = msgspec.json.encode(msgspec.structs.replace(order, epoch=order.epoch + chance.randint(1, 99)))
        elif kind == 2:
            data = msgspec.json.encode(msgspec.structs.replace(order, expires_ns=SOON + chance.randint(1, 10**12)))
        elif kind == 3:
            body = msgspec.json.encode(m.Command(id=str(n), epoch=5, body=SetDuty(False, "forged")))
            data = msgspec.json.encode(msgspec.structs.replace(order, payload=msgspec.Raw(body)))
        elif kind == 4:
            data = _order(rogue)
        else:
            changed = bytearray(chance.choice(orders))
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            data = bytes(changed)
        try:
            gate.admit(topics.COMMAND, data, NOW)
            executed += 1
        except RemoteProtocolError:
            pass
    return executed


def test_no_forged_order_is_carried_out(keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "rogue").mkdir()
    gate, signer = keys.gate(), keys.signer()
    orders = [_order(signer) for _ in range(4)]
    for order in orders:  # as recorded by somebody who hears everything
        gate.admit(topics.COMMAND, order, NOW)
    assert _forge(gate, orders, Keys(tmp_path / "rogue").signer(), 100_000, seed=3) == 0
    assert gate.admit(topics.COMMAND, _order(signer), NOW) == _shutdown()
