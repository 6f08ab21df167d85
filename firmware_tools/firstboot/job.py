"""Put a board's first boot onto its card or image."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from firmware_tools.firstboot.agent_package import agent_tar, folder_tar
from firmware_tools.firstboot.first_start import Start, files_for, start_files
from firmware_tools.firstboot.flavour import choose, look
from firmware_tools.firstboot.inject import BootPartition
from firmware_tools.firstboot.network import network_of
from firmware_tools.firstboot.payload import FOLDER, Place, Settings, payload
from firmware_tools.firstboot.wheels import check_wheels
from firmware_tools.firstboot.wifi import Wifi
from firmware_tools.identity import COMMAND_PUBLIC_FILE, CRL_FILE
from firmware_tools.identity_store import IdentityStore
from firmware_tools.secret_file import first_line
from firmware_tools.state import State, utc_now
from hil_config.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from hil_config.schema.bench import Bench, Board


class Prepared(msgspec.Struct, frozen=True):
    """Receipt of a first boot written. No secret is in it."""

    kind: str
    board: str
    disk: str
    files: dict[str, int]
    ended: str
    flavour: str = "hil"


class Extra(msgspec.Struct, frozen=True):
    """What the bench file does not say."""

    shards: str = ""
    trust_keys: tuple[str, ...] = ()
    authorized_keys: str = ""
    flavour: str = ""
    network: str = ""
    gateway: str = ""
    dns: tuple[str, ...] = ()
    ntp: str = ""
    wheels: str = ""
    wifi: Wifi | None = None


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
        ConfigError: the bench has no identity. DataFileError: no boot partition. See `BootPartition`, `choose`.
    """
    from hil_config.schema.profiles import load_profile

    if bench.identity is None:
        raise ConfigError(f"bench {bench.bench} has no identity", "hil bench init, then write `identity: FOLDER`")
    boot = BootPartition(disk)
    start = _start(board, bench, extra)
    seen = look(boot)
    flavour = "hil" if board.kind == "virtual" and not extra.flavour else choose(seen, extra.flavour, disk)
    if flavour != "hil" and not (start.password or start.authorized_keys.strip()):
        raise ConfigError(
            f"board {board.name}: nobody could log in: no password and no SSH key",
            "write `console: {password_file: FILE}` into the bench file, or add --ssh-key FILE",
        )
    cmdline = boot.read("cmdline.txt") if "cmdline.txt" in seen.names else b""
    first = files_for(flavour, start, cmdline, disk, boot.label() or "CIDATA")
    more = start_files(start) if flavour != "hil" else {}
    if extra.wifi is not None and flavour == "hil":
        raise UsageError("flavour hil takes no Wi-Fi: its image sets up its own network", "leave --wifi out")
    if extra.wheels and flavour == "hil":
        raise UsageError("flavour hil takes no wheels: its image brings its libraries", "leave --wheels out")
    if extra.wheels:
        check_wheels(Path(extra.wheels))
        more["wheels.tar"] = folder_tar(Path(extra.wheels))
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
        crl=(store.folder / CRL_FILE).read_bytes(),
    )  # fmt: skip
    files = payload(settings, agent_tar(), folder_tar(Path(extra.shards)) if extra.shards else b"", more)
    boot.write(files, FOLDER)
    if first:
        boot.write(first)  # what starts it all is written after what it starts
    sizes = {name: len(data) for name, data in (files | first).items()}
    done = Prepared("firstboot", board.name, disk, sizes, utc_now(), flavour)
    state.receipt(board.name, "firstboot", done)
    return done


def _start(board: Board, bench: Bench, extra: Extra) -> Start:
    network = network_of(board.name, board.address, board.mac, extra.network, extra.gateway, extra.dns)
    return Start(
        board.name, f"hil-{bench.bench}-{board.name}-{time.time_ns():x}", network,
        board.console.user if board.console else "hil", extra.authorized_keys,
        board.console is not None and board.console.password_file is not None, extra.ntp, board.kind == "jetson",
        extra.wifi,
    )  # fmt: skip


def _hash(board: Board) -> str:
    """crypt(3) string of the console's password."""
    if board.console is None or board.console.password_file is None:
        return ""
    from firmware_tools.firstboot.crypt_hash import sha512_crypt

    return sha512_crypt(first_line(board.console.password_file))
