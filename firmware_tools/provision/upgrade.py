"""Bring another version of the agent onto a board, or the one before back; what worked stays until it is seen."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from firmware_tools.broker_watch import LOG, BrokerWatch
from firmware_tools.provision import agent_slots
from firmware_tools.provision.agent_service import last_words
from firmware_tools.provision.board_shell import BoardShell, Stuck
from firmware_tools.provision.job import Timeouts
from firmware_tools.state import State, utc_now
from hil_config.errors import HardwareError, HilError

Tell = Callable[[str], None]


class Upgraded(msgspec.Struct, frozen=True):
    """Receipt. `outcome`: nothing to do, switched, refused (never switched), rolled back, or stranded.

    `step` is where it stood, `boot_id` of the agent that was seen at the broker last.
    """

    kind: str
    board: str
    before: str
    wanted: str
    now: str
    outcome: str
    step: str
    cause: str
    boot_id: str
    ended: str


class Upgrade:
    """Args: `watch`, the bench's broker, open; it tells whether an agent has joined."""

    def __init__(self, shell: BoardShell, watch: BrokerWatch, state: State, limits: Timeouts, tell: Tell) -> None:
        self._shell, self._watch, self._state, self._limits, self._tell = shell, watch, state, limits, tell
        self._step = "looking"

    def to(self, archive: bytes) -> Upgraded:
        """Install, test, switch and see the version in `archive`; safe to repeat, also after a cut.

        Raises:
            HardwareError: it did not get there; says at which step, and which agent runs now.
        """
        slots = agent_slots.read_slots(self._shell, self._limits.command_s)
        wanted = agent_slots.slot_name(archive)
        try:
            if slots.current == wanted and not slots.trial:
                return self._receipt(slots.current, wanted, wanted, "nothing to do")
            if slots.current == wanted:  # a trial that was interrupted
                return self._switch(slots.previous, wanted, "")
            self._at("copying the agent")
            agent_slots.install(self._shell, archive, self._limits.command_s)
            self._at("self-test")
            agent_slots.self_test(self._shell, wanted, self._limits.self_test_s)
        except HilError as error:
            if self._step in ("copying the agent", "self-test"):
                self._receipt(slots.current, wanted, slots.current, "refused", error.message)
            raise
        return self._switch(slots.current, wanted, slots.previous)

    def back(self) -> Upgraded:
        """Return to the version that worked before.

        Raises:
            HardwareError: there is none, or it does not come.
        """
        slots = agent_slots.read_slots(self._shell, self._limits.command_s)
        if not slots.previous or slots.previous == slots.current:
            raise HardwareError(
                f"board {self._shell.board}: has no version before {slots.current or 'none'}",
                f"hil provision {self._shell.board} --upgrade",
            )
        return self._switch(slots.current, slots.previous, slots.previous)

    def _switch(self, before: str, wanted: str, older: str) -> Upgraded:
        """Try `wanted`; if it does not join, return to `before`, with `older` behind it as it was."""
        board, limits = self._shell.board, self._limits
        try:
            last = self._watch.known(board)
            self._at("switching")
            agent_slots.switch(self._shell, wanted, before, limits.command_s, trial=True)
            self._at("waiting for the new agent at the broker")
            boot_id = self._joined(last.boot_id if last else "")
            self._at("confirming")
            agent_slots.confirm(self._shell, limits.command_s)
        except HilError as error:
            self._roll_back(before, wanted, older, error)
            raise AssertionError("a roll-back never returns") from error
        return self._receipt(before, wanted, wanted, "switched", boot_id=boot_id)

    def _joined(self, not_boot: str) -> str:
        """Boot id of an agent that came to the broker and stayed."""
        board, limits = self._shell.board, self._limits
        for _ in range(2):  # one that its supervisor had started again already is gone when the order to restart comes
            status = self._watch.wait_online(board, limits.online_s, not_boot)
            if self._watch.stays(board, status.boot_id, limits.steady_s):
                return status.boot_id
            not_boot = status.boot_id
        raise HardwareError(f"node {board}: joined and did not stay {limits.steady_s:.0f} s", "see its log")

    def _roll_back(self, before: str, wanted: str, older: str, cause: HilError) -> None:
        board, stood, limits = self._shell.board, self._step, self._limits
        look = f"hil console {board}; on the board: {LOG}"
        why = cause.message + last_words(self._shell, limits.command_s)
        if not before:
            self._receipt(before, wanted, wanted, "stranded", why)
            raise Stuck(f"board {board}: agent {wanted}, at {stood}: {why}; there is none before it", look)
        self._tell(f"failed at: {stood}; back to agent {before}")
        try:
            last = self._watch.known(board)
            behind = older if older != wanted else ""
            agent_slots.switch(self._shell, before, behind, limits.command_s, trial=False)
            boot_id = self._joined(last.boot_id if last else "")
        except HilError as error:
            self._receipt(before, wanted, before, "stranded", f"{why}; then: {error.message}")
            raise Stuck(
                f"board {board}: agent {wanted}, at {stood}: {why}; agent {before} was put back and is not "
                f"there either: {error.message}", look,
            ) from error  # fmt: skip
        self._receipt(before, wanted, before, "rolled back", why, boot_id)
        raise Stuck(
            f"board {board}: agent {wanted}, at {stood}: {why}; rolled back to agent {before}, which is at "
            "the broker", look,
        ) from cause  # fmt: skip

    def _at(self, step: str) -> None:
        self._step = step
        self._tell(step)

    def _receipt(
        self, before: str, wanted: str, now: str, outcome: str, cause: str = "", boot_id: str = ""
    ) -> Upgraded:
        done = Upgraded(
            "upgrade", self._shell.board, before, wanted, now, outcome, self._step, cause, boot_id, utc_now()
        )
        self._state.receipt(self._shell.board, "upgrade", done)
        return done
