"""Where broker and boards are: ports that a run takes, and whether the bench's broker stands already."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from ground_controller.characterisation import records_of
from ground_controller.fleet.local import Broker, check_port_free, free_port
from ground_controller.fleet.sight import check_sight
from hil_config.errors import ConfigError, LinkError
from hil_config.schema.bench import Bench, Board


class StandingBroker:
    """A broker that somebody else started and keeps: the bench's own, to which boards stay connected between runs."""

    restarts = 0
    failure: LinkError | None = None
    pid: int | None = None

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port

    def stop(self) -> None:
        """It goes on."""


def listens(host: str, port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        socket.create_connection((host, port), 2.0).close()
    except OSError:
        return False
    return True


def _away(bench: Bench) -> list[Board]:
    """Boards that are machines of their own."""
    return [board for board in bench.boards if board.kind not in {"local", "model"}]


def check_places(bench: Bench) -> None:
    """EnvironmentFault if a port that the bench file names is taken, ConfigError for what no run can start yet."""
    if all(board.kind == "model" for board in bench.boards):
        raise ConfigError(
            f"bench {bench.bench} has model boards only: nothing of it can be run on nodes", "hil simulate"
        )
    away = _away(bench)
    if away and (bench.identity is None or not bench.broker.port):
        raise ConfigError(
            f"board {away[0].name} is {away[0].kind}: its agent needs a fixed broker and certificates,"
            f" and the bench has no {'identity' if bench.identity is None else 'broker.port'}",
            "hil bench init, then write `identity: FOLDER` and the port that the boards were provisioned with",
        )
    check_sight(bench)
    records_of(bench)  # whether they can be read
    if bench.ground_port:
        check_port_free(bench.broker.host, bench.ground_port, "controller")
    if bench.broker.port and not away:
        check_port_free(bench.broker.host, bench.broker.port, "broker")
    for board in bench.boards:
        if board.data_port and board.kind == "local":
            check_port_free(board.address, board.data_port, f"board {board.name}: data")


def open_broker(
    bench: Bench, folder: Path, identity: Path | None, restarted: Callable[[], None]
) -> Broker | StandingBroker:
    """A private broker for the run, or the one that boards in service are connected to already."""
    if _away(bench) and listens(bench.broker.host, bench.broker.port):
        return StandingBroker(bench.broker.host, bench.broker.port)
    port = bench.broker.port or free_port()
    spoken = None if identity is None else (bench.bench, identity)
    return Broker(folder, port, restarted, bench.broker.host, spoken)
