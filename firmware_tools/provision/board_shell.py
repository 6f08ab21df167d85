"""What every step of provisioning needs of a board: a root shell, whatever it runs over."""

from __future__ import annotations

from abc import ABC, abstractmethod

from hil_config.errors import HardwareError


class Stuck(HardwareError):
    """The shell did not get where it should; says which step and what was last seen."""


class Unreadable(Stuck):
    """Nothing, or nothing readable, came over the line: cable, power, or rate."""


class BoardShell(ABC):
    """A root shell on `board`. Use `reach`, then `run`, `must` and `put`, then `close`."""

    def __init__(self, board: str) -> None:
        self.board = board

    @abstractmethod
    def reach(self, timeout_s: float) -> None:
        """Log in; Stuck with what it stood at after `timeout_s` seconds."""

    @abstractmethod
    def run(self, command: str, timeout_s: float = 30.0) -> tuple[int, str]:
        """(exit code, output) of a command as root; Stuck if it did not end in time."""

    @abstractmethod
    def put(self, path: str, data: bytes, mode: str = "600") -> None:
        """Write a file, checked on the board before it gets its name."""

    @abstractmethod
    def close(self) -> None:
        """Leave the board as it was: logged out."""

    def must(self, command: str, doing: str, timeout_s: float = 30.0, also: int = 0) -> str:
        """Output of a command that has to end with exit code 0 or `also`; Stuck says what it was for."""
        code, output = self.run(command, timeout_s)
        if code not in {0, also}:
            said = output.strip().splitlines()[-1:] or ["nothing"]
            raise Stuck(
                f"board {self.board}: {doing}: exit code {code}, it said {said[0]!r}", f"hil console {self.board}"
            )
        return output


def quoted(text: str) -> str:
    """One word for sh."""
    return "'" + text.replace("'", "'\\''") + "'"


def checked_move(path: str, digest: str, mode: str) -> str:
    """Command that gives `path`.new its name if its SHA-256 is `digest` (hex)."""
    new = f"{path}.new"
    return f"echo '{digest}  {new}' | sha256sum -c - >/dev/null && chmod {mode} {new} && mv {new} {path} && sync"
