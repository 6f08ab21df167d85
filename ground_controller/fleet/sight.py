"""Under which address each part of a run sees each other: emulated boards live in a network of their own."""

from __future__ import annotations

from collections.abc import Mapping

from hil_config.errors import ConfigError
from hil_config.schema.bench import GROUND_PEER, Bench
from hil_config.virtual_network import GROUND_ADDRESS, GUEST_DATA_PORT, MOST_BOARDS, peer_address


class Sight:
    """Addresses (host:port) by name, as one of them sees them."""

    def __init__(self, bench: Bench) -> None:
        self._index = {board.name: index for index, board in enumerate(bench.boards)}
        self._forwarded = {
            board.name: f"127.0.0.1:{board.data_port}" for board in bench.boards if board.kind == "virtual"
        }

    @property
    def emulated(self) -> bool:
        """Whether some board is: it takes tens to hundreds of times as long for everything."""
        return bool(self._forwarded)

    def outside(self, addresses: Mapping[str, str]) -> dict[str, str]:
        """What this machine dials. `addresses`: as each node said its own, and the controller's client."""
        return {**addresses, **{name: at for name, at in self._forwarded.items() if name in addresses}}

    def seen_by(self, node: str, addresses: Mapping[str, str]) -> dict[str, str]:
        """What `node` dials."""
        if node not in self._forwarded:
            return self.outside(addresses)
        return {name: text if name == node else self._inside(name) for name, text in addresses.items()}

    def _inside(self, name: str) -> str:
        host, port = (GROUND_ADDRESS, GUEST_DATA_PORT) if name == GROUND_PEER else peer_address(self._index[name])
        return f"{host}:{port}"


def check_sight(bench: Bench) -> None:
    """ConfigError if an emulated board could not be reached, or could not reach the others."""
    virtual = [board for board in bench.boards if board.kind == "virtual"]
    if not virtual:
        return
    name = virtual[0].name
    real = [board for board in bench.boards if board.kind not in ("virtual", "local", "model")]
    if real:
        raise ConfigError(
            f"board {name} is virtual and board {real[0].name} is {real[0].kind}: a guest's network is closed",
            "one bench for virtual boards, another for boards on the table",
        )
    if len(bench.boards) > MOST_BOARDS:
        raise ConfigError(f"{len(bench.boards)} boards, some virtual; wanted at most {MOST_BOARDS}", "use fewer")
    if not bench.ground_port:
        raise ConfigError(
            f"board {name} is virtual: it reaches the controller at a port that is forwarded when it is switched on",
            "write `ground_port: PORT` with a free one into the bench file, then hil power BOARD cycle",
        )
    for board in bench.boards:
        if not board.data_port:
            raise ConfigError(
                f"board {board.name} has data_port 0; beside virtual boards every port is forwarded and must be fixed",
                "write a free one into the bench file, then hil power BOARD cycle for the virtual ones",
            )
