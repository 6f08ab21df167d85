"""A `Company` in a process of its own, so that what it calculates does not delay what the run measures."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection

from ground_controller.inbox import Arrival
from ground_controller.preparation import Prepared
from ground_controller.simulation.board_model import DEFAULT, Calibration
from ground_controller.simulation.company import Company, Turn
from ground_controller.simulation.traces import record_traces
from hil_config.errors import EnvironmentFault, HilError

READY_S = 300.0
"""Until the router's scores of the prompts are there; they may have to be recorded first."""
TURN_S = 60.0


def _serve(wire: Connection, prepared: Prepared, calibration: Calibration) -> None:
    """The process: an anchor, then turns, until the other end is closed."""
    try:
        traces = record_traces(prepared)
        wire.send("ready")
        company = Company(prepared, calibration, wire.recv(), traces)
        while True:
            turn: Turn | None = wire.recv()
            if turn is None:
                wire.send(company.leave())
                return
            wire.send(company.take(turn))
    except (EOFError, ConnectionError, KeyboardInterrupt):
        return
    except HilError as error:
        wire.send(error)


class CompanyProcess:
    """Started at once; `begin` when the run's clock is anchored, then a turn a tick.

    Raises:
        EnvironmentFault: it ended, or does not answer.
    """

    def __init__(self, prepared: Prepared, calibration: Calibration = DEFAULT) -> None:
        context = multiprocessing.get_context("spawn")
        self._wire, there = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(there, prepared, calibration), name="model-nodes", daemon=True
        )
        self._process.start()
        there.close()
        self._asked = False

    def wait_ready(self) -> None:
        self._receive(READY_S)

    def begin(self, anchor_ns: int) -> None:
        self._wire.send(anchor_ns)

    def turn(self, turn: Turn) -> None:
        """Have it calculate up to the next tick, meanwhile."""
        self._wire.send(turn)
        self._asked = True

    def collect(self) -> list[Arrival]:
        """What arrives with the next tick; waits until it is there."""
        if not self._asked:
            return []
        self._asked = False
        found: list[Arrival] = self._receive(TURN_S)
        return found

    def leave(self) -> list[Arrival]:
        """The end: the last arrivals."""
        self._wire.send(None)
        found: list[Arrival] = self._receive(TURN_S)
        return found

    def _receive(self, patience_s: float) -> list[Arrival]:
        try:
            if self._wire.poll(patience_s):
                found: list[Arrival] | HilError = self._wire.recv()
                if isinstance(found, HilError):
                    raise found
                return found
        except EOFError:
            self._process.join(5.0)
        raise EnvironmentFault(
            f"the process of the model nodes (pid {self._process.pid}) does not answer; exit code"
            f" {self._process.exitcode}",
            "see the end of this program's own output; fewer model boards or a longer control.tick_s are less work",
        )

    def close(self) -> None:
        """End it, whatever it does."""
        self._wire.close()
        self._process.join(2.0)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(5.0)
