"""Put a board's first boot onto its card or image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from firmware_tools.firstboot.agent_package import agent_tar, folder_tar
from firmware_tools.firstboot.inject import BootPartition
from firmware_tools.firstboot.payload import FOLDER, Place, Settings, payload
from firmware_tools.identity import COMMAND_PUBLIC_FILE
from firmware_tools.identity_store import IdentityStore
from firmware_tools.secret_file import first_line
from firmware_tools.state import State, utc_now
from hil_config.errors import ConfigError

if TYPE_CHECKING:
    from hil_config.schema.bench import Bench, Board


class Prepared(msgspec.Struct, frozen=True):
    """Receipt of a first boot written. No secret is in it."""

    kind: str
    board: str
    disk: str
    files: dict[str, int]
    ended: str


class Extra(msgspec.Struct, frozen=True):
    """What the bench file does not say."""

    shards: str = ""
    trust_keys: tuple[str, ...] = ()
    authorized_keys: str = ""


def place_of(board: Board, bench: Bench) -> Place:
    """Addresses as the board sees them; a virtual board lives in a network of its own."""
    if board.kind == "virtual":
        from firmware_tools.virtual import machine

        return Place(machine.BROKER_ADDRESS, machine.BROKER_PORT, machine.GUEST_ADDRESS, machine.GUEST_DATA_PORT)
    if not bench.broker.port:
        raise ConfigError(f"bench {bench.bench}: broker.port is 0, boards need a fixed one", "write `port: 8883`")
    return Place(bench.broker.host, bench.broker.port, board.address, board.data_port)


def prepare(board: Board, bench: Bench, disk: str, extra: Extra, state: State) -> Prepared:
    """Write the first boot onto `disk`, read it back, and leave a receipt. A new token ends an older one.

    Raises:
        ConfigError: the bench has no identity. DataFileError: no boot partition. See `BootPartition`.
    """
    from hil_config.schema.profiles import load_profile

    if bench.identity is None:
        raise ConfigError(f"bench {bench.bench} has no identity", "hil bench init, then write `identity: FOLDER`")
    boot = BootPartition(disk)
    store = IdentityStore(Path(bench.identity))
    profile = load_profile(board.profile)
    model = {
        "profile": profile.name,
        **{k: getattr(profile, k) for k in ("idle_w", "per_core_w", "cores", "cpu_scale")},
    }
    settings = Settings(
        node=board.name, bench=bench.bench, place=place_of(board, bench), power_model=model, ca=store.ca,
        token=store.make_token(board.name), user=board.console.user if board.console else "hil",
        password_hash=_hash(board), authorized_keys=extra.authorized_keys, trust_keys=extra.trust_keys,
        command_key=(store.folder / COMMAND_PUBLIC_FILE).read_bytes(),
    )  # fmt: skip
    files = payload(settings, agent_tar(), folder_tar(Path(extra.shards)) if extra.shards else b"")
    boot.write(files, FOLDER)
    done = Prepared("firstboot", board.name, disk, {name: len(data) for name, data in files.items()}, utc_now())
    state.receipt(board.name, "firstboot", done)
    return done


def _hash(board: Board) -> str:
    """crypt(3) string of the console's password."""
    if board.console is None or board.console.password_file is None:
        return ""
    from firmware_tools.firstboot.crypt_hash import sha512_crypt

    return sha512_crypt(first_line(board.console.password_file))
