"""Put a board's first boot onto its card or image."""

from __future__ import annotations

import re
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
from firmware_tools.firstboot.public_key import check_signed
from firmware_tools.firstboot.rootfs import inject
from firmware_tools.firstboot.wheels import check_wheels
from firmware_tools.firstboot.wifi import Wifi
from firmware_tools.identity import COMMAND_PUBLIC_FILE, CRL_FILE
from firmware_tools.identity_store import IdentityStore
from firmware_tools.secret_file import first_line
from firmware_tools.state import State, utc_now
from hil_config.errors import ConfigError, UsageError
from hil_config.schema.strict import LOOPBACK
from hil_config.virtual_network import BROKER_ADDRESS, BROKER_PORT, GUEST_ADDRESS, GUEST_DATA_PORT

if TYPE_CHECKING:
    from hil_config.schema.bench import Bench, Board

EMULATED_KEEPALIVE_S = 30
"""An emulated board may need seconds for what a real one answers at once; it is not lost for that."""


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
        return Place(BROKER_ADDRESS, BROKER_PORT, GUEST_ADDRESS, GUEST_DATA_PORT)
    if not bench.broker.port:
        raise ConfigError(f"bench {bench.bench}: broker.port is 0, boards need a fixed one", "write `port: 8883`")
    return Place(bench.broker.host, bench.broker.port, board.address, board.data_port)


def prepare(board: Board, bench: Bench, disk: str, extra: Extra, state: State) -> Prepared:
    """Write the first boot onto `disk`, read it back, and leave a receipt. A new token ends an older one.

    Raises:
        ConfigError: the bench has no identity. DataFileError: no boot partition. See `BootPartition`, `choose`.
    """
    _check_identity(bench)
    _check_agent(board, bench, extra)
    boot = BootPartition(disk)
    start = _start(board, bench, extra)
    seen = look(boot)
    flavour = "hil" if board.kind == "virtual" and not extra.flavour else choose(seen, extra.flavour, disk)
    if flavour != "hil":
        _check_login(board, start)
    elif extra.wifi is not None:
        raise UsageError("flavour hil takes no Wi-Fi: its image sets up its own network", "leave --wifi out")
    elif extra.wheels:
        raise UsageError("flavour hil takes no wheels: its image brings its libraries", "leave --wheels out")
    cmdline = boot.read("cmdline.txt") if "cmdline.txt" in seen.names else b""
    first = files_for(flavour, start, cmdline, disk, boot.label() or "CIDATA")
    files = _files(board, bench, extra, start_files(start) if flavour != "hil" else {})
    boot.write(files, FOLDER)
    if first:
        boot.write(first)  # what starts it all is written after what it starts
    return _receipt(board, disk, files | first, flavour, state)


def prepare_rootfs(board: Board, bench: Bench, folder: Path, extra: Extra, state: State) -> Prepared:
    """Put the first boot into the root file system that a Jetson's flash takes. Args: `folder`, Linux_for_Tegra.

    Raises:
        ConfigError: the bench has no identity, the board is no Jetson, or the folder holds no root file system.
    """
    _check_identity(bench)
    if board.kind != "jetson":
        raise ConfigError(f"board {board.name} is of kind {board.kind}, not jetson", "leave --l4t out")
    if extra.flavour:
        raise UsageError("--flavour is for images, a Jetson's root file system is a folder", "leave it out")
    _check_agent(board, bench, extra)
    start = _start(board, bench, extra)
    _check_login(board, start)
    files = _files(board, bench, extra, start_files(start))
    inject(folder / "rootfs", files)
    return _receipt(board, str(folder / "rootfs"), files, "rootfs", state)


def _check_identity(bench: Bench) -> None:
    if bench.identity is None:
        raise ConfigError(f"bench {bench.bench} has no identity", "hil bench init, then write `identity: FOLDER`")


def _check_agent(board: Board, bench: Bench, extra: Extra) -> None:
    """Whether its agent would start, find the broker and be found, and serve its model."""
    place = place_of(board, bench)
    for key, host in (("broker.host", place.broker_host), ("address", place.data_host)):
        if host in LOOPBACK:
            raise ConfigError(
                f"board {board.name}: {key} is {host}, which on the board is the board itself",
                f"write `{key}` on the bench's network into the bench file",
            )
    if not extra.trust_keys:
        raise UsageError(
            f"board {board.name}: no --trust: its agent would not start, only on loopback may a model be unsigned",
            "--trust FILE.pub of whoever signs the models; a pair is made by: hil models keygen --out FILE",
        )
    if extra.shards:
        check_signed(Path(extra.shards), extra.trust_keys)


def _check_login(board: Board, start: Start) -> None:
    if not (start.password or start.authorized_keys.strip()):
        raise ConfigError(
            f"board {board.name}: nobody could log in: no password and no SSH key",
            "write `console: {password_file: FILE}` into the bench file, or add --ssh-key FILE",
        )


def _files(board: Board, bench: Bench, extra: Extra, more: dict[str, bytes]) -> dict[str, bytes]:
    """Everything in the folder `hil`, with a new token."""
    from hil_config.schema.profiles import load_profile

    if extra.wheels:
        check_wheels(Path(extra.wheels), board.kind)
        more["wheels.tar"] = folder_tar(Path(extra.wheels))
    hashed = _hash(board)  # before the token: a new one ends an older one
    store = IdentityStore.of(Path(bench.identity or ""), bench.bench)
    # Where it names no sensors the agent looks for its usual ones. An emulated board has none, and nothing to protect.
    profile = {key: told for key, told in load_profile(board.profile).agent_fields().items() if told}
    if board.kind == "virtual":
        profile = {"power_model": profile["power_model"]}
    settings = Settings(
        node=board.name, bench=bench.bench, place=place_of(board, bench), profile=profile, ca=store.ca,
        token=store.make_token(board.name), user=board.console.user if board.console else "hil",
        password_hash=hashed, authorized_keys=extra.authorized_keys, trust_keys=extra.trust_keys,
        command_key=store.file(COMMAND_PUBLIC_FILE),
        crl=store.file(CRL_FILE),
        keepalive_s=EMULATED_KEEPALIVE_S if board.kind == "virtual" else 0,
    )  # fmt: skip
    return payload(settings, agent_tar(), folder_tar(Path(extra.shards)) if extra.shards else b"", more)


def _receipt(board: Board, disk: str, files: dict[str, bytes], flavour: str, state: State) -> Prepared:
    sizes = {name: len(data) for name, data in files.items()}
    done = Prepared("firstboot", board.name, disk, sizes, utc_now(), flavour)
    state.receipt(board.name, "firstboot", done)
    return done


def _start(board: Board, bench: Bench, extra: Extra) -> Start:
    network = network_of(board.name, board.address, board.mac, extra.network, extra.gateway, extra.dns)
    user = board.console.user if board.console else "hil"
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}", user):
        raise ConfigError(
            f"board {board.name}: console.user {user!r} is no name for a user", "letters, digits, hyphens, underscores"
        )
    return Start(
        board.name, f"hil-{bench.bench}-{board.name}-{time.time_ns():x}", network, user, extra.authorized_keys,
        board.console is not None and board.console.password_file is not None, extra.ntp, board.kind == "jetson",
        extra.wifi,
    )  # fmt: skip


def _hash(board: Board) -> str:
    """crypt(3) string of the console's password."""
    if board.console is None or board.console.password_file is None:
        return ""
    from firmware_tools.firstboot.crypt_hash import sha512_crypt

    return sha512_crypt(first_line(board.console.password_file))
