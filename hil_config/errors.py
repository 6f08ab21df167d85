"""Errors a person meets: what happened, where, what was found, what was wanted, and what to type next.

Each class owns one process exit code. A library's error is translated into one of these once, in the
file that imports the library.
"""

from __future__ import annotations

EXIT_UNEXPECTED = 70
EXIT_INTERRUPT = 130


class HilError(Exception):
    """Base of every expected failure.

    Args:
        message: what happened, where, what was found and what was wanted.
        hint: the next thing to do; usually a command.
    """

    exit_code: int = EXIT_UNEXPECTED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class UsageError(HilError):
    """The command line cannot be acted on."""

    exit_code = 2


class ConfigError(HilError):
    """A bench, campaign or agent file says something that cannot be."""

    exit_code = 3


class DataFileError(HilError):
    """Elements, schedule, checkpoint or text: an input file is malformed."""

    exit_code = 4


class ArtefactError(HilError):
    """A built artefact does not match its manifest: hash, size, shape, dtype or signature."""

    exit_code = 5


class HardwareError(HilError):
    """A board, sensor, serial line or power switch does not answer as it should."""

    exit_code = 6


class LinkError(HilError):
    """A broker or data link cannot be reached or was lost."""

    exit_code = 7


class ProtocolError(HilError):
    """Bytes or messages break the protocol."""

    exit_code = 8


class RemoteProtocolError(ProtocolError):
    """The other side broke the protocol."""


class LocalProtocolError(ProtocolError):
    """Our own side tried to break the protocol."""


class EnvironmentFault(HilError):
    """The machine lacks something: a port is taken, a program is missing, a disk is full."""

    exit_code = 9


class InvalidRunError(HilError):
    """A run exists but its record cannot be trusted."""

    exit_code = 10


class RequirementNotMet(HilError):
    """A valid run that does not keep a bound that its campaign sets."""

    exit_code = 12


class SafetyRefusal(HilError):
    """Refused because carrying on could harm hardware or data."""

    exit_code = 11
