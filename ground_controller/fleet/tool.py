"""Commands of ours that the ground runs as children: firmware tools are another package, met in bytes and files."""

from __future__ import annotations

import subprocess
import sys

from hil_config.errors import HilError


class ToolFailed(HilError):
    """A command of ours that was run as a child failed; its message and exit code are passed on."""

    def __init__(self, message: str, hint: str, exit_code: int) -> None:
        super().__init__(message, hint)
        self.exit_code = exit_code


def complaint(text: str) -> tuple[str, str]:
    """(message, hint) of what one of our commands wrote to stderr; empty where it wrote none."""
    found = {"error": "", "hint": ""}
    for line in text.splitlines():
        word, colon, rest = line.strip().partition(": ")
        if colon and word in found and not found[word]:
            found[word] = rest
    return found["error"], found["hint"]


def run_tool(*words: str) -> str:
    """Standard output of `hil WORDS`; ToolFailed with its own error otherwise."""
    done = subprocess.run(
        [sys.executable, "-m", "hil_config.door", *words], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        message, hint = complaint(done.stderr)
        raise ToolFailed(message or f"hil {' '.join(words[:2])} failed", hint, done.returncode)
    return done.stdout
