"""bench.yaml: the things on the table."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from hil_config.schema.hardware import ConsoleLine, Disk, PowerMeter, PowerSwitch, Ssh
from hil_config.schema.strict import LOOPBACK, Host, Name, Strict, refuse

GROUND_PEER = "ground"
"""What the controller's client is called on the data plane; no board may have this name."""

WITH_CERTIFICATES = ("broker", "monitor")
"""Who else has one of a bench with an identity."""

Port = Annotated[int, Field(ge=0, le=65_535)]

BoardKind = Literal["local", "virtual", "raspberry-pi", "jetson", "debian", "model"]


class Broker(Strict):
    """Where the MQTT broker listens. With port 0 a private one is started for each run."""

    host: Host = Field(default="127.0.0.1", description="Address; loopback only, unless the bench has an identity.")
    port: Port = Field(default=0, description="TCP port; 0 takes any free one.")


class Board(Strict):
    """One board and the node that runs on it."""

    name: Name = Field(description="Name of the board and its node; unique on the bench.")
    profile: str = Field(
        description="Board profile: power coefficients, memory, expert slots. A name, or the path of your own (.yaml).",
        min_length=1,
    )
    kind: BoardKind = Field(
        default="local",
        description="local: a process of this machine; virtual: an emulated machine; model: calculated, as by"
        " `hil simulate`; else a real board.",
    )
    address: Host = Field(
        default="127.0.0.1", description="Address of the data plane; loopback only, unless the bench has an identity."
    )
    data_port: Port = Field(default=0, description="TCP port of the data plane; 0 takes any free one.")
    disk: Disk | None = Field(default=None, description="What `hil flash` may overwrite.")
    console: ConsoleLine | None = Field(default=None, description="Serial line.")
    power: PowerSwitch | None = Field(default=None, description="Power switch.")
    meter: PowerMeter | None = Field(default=None, description="What measures its power, in its supply line.")
    ssh: Ssh | None = Field(default=None, description="Shell over the management network.")
    characterisation: str | None = Field(
        default=None, description="Record of `hil bench characterise`; it goes into the record of a run.", min_length=1
    )
    mac: str | None = Field(
        default=None,
        description="Hardware address of the board's network port, lower case with colons.",
        pattern=r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$",
    )

    @model_validator(mode="after")
    def _check_emulated(self) -> Board:
        """`hil power` starts an emulator for it, which wants to know these."""
        if self.power is None or self.power.via != "virtual" or self.power.at:
            return self
        if self.kind != "virtual":
            raise refuse(("power", "via"), f"found 'virtual' for a board of kind {self.kind}", "write `kind: virtual`")
        if self.disk is None or self.disk.file is None:
            hint = "write `disk: {file: NAME.img, size_gb: 0.8}`"
            raise refuse(("disk",), "a board with `via: virtual` wants `disk.file`", hint)
        if self.console is None or self.console.loopback_port is None:
            hint = "write `console: {port: socket://127.0.0.1:PORT}` with a free port"
            raise refuse(("console",), "a board with `via: virtual` wants a console on a port of loopback", hint)
        return self


def _place(host: str, port: int) -> tuple[str, int]:
    """Where something listens; this machine's loopback has more than one name."""
    return (LOOPBACK[0] if host in LOOPBACK else host.lower()), port


_TAKEN = {
    "console": ("found what board {} has already", "console"),
    "ssh": ("found what board {} has already", "ssh"),
    "mac": ("found the address of board {}'s port already", "network port"),
    "power": ("found the channel that switches board {} already", "channel"),
    "meter": ("found the channel that measures board {} already", "channel"),
}
"""What is said of a second board with one of these, and what every board should have."""


class Bench(Strict):
    """A bench file."""

    bench: Name = Field(description="Name of the bench; part of every MQTT topic.")
    broker: Broker = Field(default=Broker(), description="The MQTT broker.")
    ground_port: Port = Field(
        default=0,
        description="TCP port, on the broker's host, at which the controller takes tokens; 0 takes any free one; "
        "virtual boards need a fixed one.",
    )
    boards: tuple[Board, ...] = Field(
        description="The boards, in the order of satellites.", min_length=1, max_length=2_048
    )

    identity: str | None = Field(
        default=None, description="Folder that `hil bench init` made; with it every link is mutual TLS.", min_length=1
    )

    @model_validator(mode="after")
    def _check_reachable(self) -> Bench:
        """Without TLS and access lists only this machine may reach broker and boards."""
        if self.identity is None:
            places: list[tuple[tuple[str | int, ...], str]] = [(("broker", "host"), self.broker.host)]
            places += [(("boards", index, "address"), board.address) for index, board in enumerate(self.boards)]
            for key, host in places:
                if host not in LOOPBACK:
                    raise refuse(
                        key,
                        f"found {host!r}, wanted {' or '.join(LOOPBACK)}: without TLS only loopback may run",
                        "use 127.0.0.1, or make certificates with `hil bench init` and write `identity: FOLDER`",
                    )
        return self

    @model_validator(mode="after")
    def _check_unique(self) -> Bench:
        names: dict[str, int] = {}
        host = self.broker.host
        ports = {_place(host, self.broker.port): "the broker"} if self.broker.port else {}
        if self.ground_port:
            if _place(host, self.ground_port) in ports:
                raise refuse(("ground_port",), f"found {self.ground_port}, which the broker has already", "another one")
            ports[_place(host, self.ground_port)] = "the controller"
        for index, board in enumerate(self.boards):
            if board.name == GROUND_PEER:
                raise refuse(
                    ("boards", index, "name"),
                    f"found {GROUND_PEER!r}, which is the controller's own name among the boards",
                    "give the board another name",
                )
            if self.identity is not None and board.name in WITH_CERTIFICATES:
                raise refuse(
                    ("boards", index, "name"),
                    f"found {board.name!r}, whose certificate is not a board's",
                    "give the board another name",
                )
            if board.name in names:
                raise refuse(
                    ("boards", index, "name"),
                    f"found {board.name!r}, which is already the name of boards[{names[board.name]}]",
                    "give every board its own name",
                )
            names[board.name] = index
            place = _place(board.address, board.data_port)
            if place in ports:
                raise refuse(
                    ("boards", index, "data_port"),
                    f"found {board.data_port}, which {ports[place]} has already",
                    "give every board its own address or port, or port 0 for any free one",
                )
            if board.data_port:
                ports[place] = f"board {board.name}"
        return self

    @model_validator(mode="after")
    def _check_one_each(self) -> Bench:
        """Of two boards with one console, shell, network port, switch or meter channel, one would be taken for the
        other, or cut with it."""
        owners: dict[tuple[str, object], str] = {}
        for index, board in enumerate(self.boards):
            places = {
                "console": board.console and board.console.port,
                "ssh": board.ssh and (board.ssh.host, board.ssh.port),
                "mac": board.mac,
                "power": board.power and board.power.place,
                "meter": board.meter and board.meter.place(board.name),
            }
            for section, place in places.items():
                if place is None:
                    continue
                if (section, place) in owners:
                    found, wanted = _TAKEN[section]
                    raise refuse(
                        ("boards", index, section),
                        found.format(owners[section, place]),
                        f"give every board its own {wanted}",
                    )
                owners[section, place] = board.name
        return self

    @model_validator(mode="after")
    def _check_selected(self) -> Bench:
        """Without a channel a supply's output is not selected: what was spoken to last would be switched or read."""
        lines = [
            (index, board.name, section, one)
            for index, board in enumerate(self.boards)
            for section, one in (("power", board.power), ("meter", board.meter))
            if one is not None and one.via == "scpi"
        ]
        others = {one.at: (name, one.channel) for _, name, _, one in lines if one.channel not in (None, 1)}
        for index, _, section, one in lines:
            if one.channel is None and one.at in others:
                name, channel = others[one.at]
                raise refuse(
                    ("boards", index, section),
                    f"found no channel of a supply whose output {channel} is named for board {name}",
                    "write `channel: 1`, or whichever it is",
                )
        return self

    @model_validator(mode="after")
    def _check_disks(self) -> Bench:
        owners: dict[str, str] = {}
        for index, board in enumerate(self.boards):
            if board.disk is None:
                continue
            if board.disk.stable_id in owners:
                raise refuse(
                    ("boards", index, "disk", board.disk.named_by),
                    f"found {board.disk.stable_id!r}, which is board {owners[board.disk.stable_id]}'s disk already",
                    "give every board its own disk",
                )
            owners[board.disk.stable_id] = board.name
        return self
