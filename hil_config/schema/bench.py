"""bench.yaml: the things on the table."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from hil_config.schema.strict import LOOPBACK, Name, Strict, refuse

GROUND_PEER = "ground"
"""What the controller's client is called on the data plane; no board may have this name."""

Port = Annotated[int, Field(ge=0, le=65_535)]


def _check_loopback(value: str) -> str:
    """Without TLS and access lists only this machine may reach broker and boards."""
    if value not in LOOPBACK:
        raise refuse(
            (),
            f"found {value!r}, wanted {' or '.join(LOOPBACK)}: without TLS only loopback may run",
            "use 127.0.0.1",
        )
    return value


Loopback = Annotated[str, Field(min_length=1), AfterValidator(_check_loopback)]


class Broker(Strict):
    """Where the MQTT broker listens. With port 0 a private one is started for each run."""

    host: Loopback = Field(default="127.0.0.1", description="Address; loopback only.")
    port: Port = Field(default=0, description="TCP port; 0 takes any free one.")


class Board(Strict):
    """One board and the node that runs on it."""

    name: Name = Field(description="Name of the board and its node; unique on the bench.")
    profile: str = Field(description="Board profile: power coefficients, memory and expert slots.", min_length=1)
    address: Loopback = Field(default="127.0.0.1", description="Address of the data plane; loopback only.")
    data_port: Port = Field(default=0, description="TCP port of the data plane; 0 takes any free one.")


class Bench(Strict):
    """A bench file."""

    bench: Name = Field(description="Name of the bench; part of every MQTT topic.")
    broker: Broker = Field(default=Broker(), description="The MQTT broker.")
    boards: tuple[Board, ...] = Field(
        description="The boards, in the order of satellites.", min_length=1, max_length=64
    )

    @model_validator(mode="after")
    def _check_unique(self) -> Bench:
        names: dict[str, int] = {}
        ports: dict[int, str] = {self.broker.port: "the broker"} if self.broker.port else {}
        for index, board in enumerate(self.boards):
            if board.name == GROUND_PEER:
                raise refuse(
                    ("boards", index, "name"),
                    f"found {GROUND_PEER!r}, which is the controller's own name among the boards",
                    "give the board another name",
                )
            if board.name in names:
                raise refuse(
                    ("boards", index, "name"),
                    f"found {board.name!r}, which is already the name of boards[{names[board.name]}]",
                    "give every board its own name",
                )
            names[board.name] = index
            if board.data_port in ports:
                raise refuse(
                    ("boards", index, "data_port"),
                    f"found {board.data_port}, which {ports[board.data_port]} has already",
                    "give every board its own port, or 0 for any free one",
                )
            if board.data_port:
                ports[board.data_port] = f"board {board.name}"
        return self
