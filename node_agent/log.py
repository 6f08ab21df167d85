"""The agent's log: lines on stderr for the journal of the system, and no secret in any of them.

What is known to be secret (`conceal`) and what looks like it (a PEM block, `password=...`, `token: ...`) is replaced
before a line is written, tracebacks included.
"""

from __future__ import annotations

import logging
import re
import sys

from hil_config.errors import UsageError

LOG = logging.getLogger("hil-agent")
LEVELS = ("debug", "info", "warning", "error")
HIDDEN = "[hidden]"
_SECRETS: set[str] = set()
_LOOKS_SECRET = re.compile(
    r"-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)"
    r"|(?P<key>\b[\w-]*(?:password|passwd|passphrase|secret|token|api[_-]?key|authorization)\b[\"']?\s*[:=]\s*)"
    r"(?:\"[^\"]*\"|'[^']*'|(?:bearer\s+)?[^\s,;}\"']+)",
    re.IGNORECASE | re.DOTALL,
)


def conceal(*secrets: str) -> None:
    """These never appear in a line. Shorter than 6 characters they would hide half of the language."""
    _SECRETS.update(secret for secret in secrets if len(secret) >= 6)


def redact(text: str) -> str:
    """The text without secrets."""
    for secret in sorted(_SECRETS, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _LOOKS_SECRET.sub(lambda match: f"{match['key'] or ''}{HIDDEN}", text)


class _Redacting(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def start_log(level: str = "info") -> None:
    """Write to stderr from now on; once."""
    if not LOG.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Redacting("hil-agent: %(levelname)s: %(message)s"))
        LOG.addHandler(handler)
        LOG.propagate = False
    set_level(level)


def set_level(level: str) -> None:
    """UsageError for a level that does not exist."""
    if level not in LEVELS:
        raise UsageError(f"log level {level!r}", f"use one of {', '.join(LEVELS)}")
    LOG.setLevel(level.upper())
