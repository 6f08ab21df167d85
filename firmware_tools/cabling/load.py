"""Keep a board's processor busy for a while, over a shell."""

from __future__ import annotations

from firmware_tools.provision.board_shell import BoardShell

COMMAND_S = 30.0


def busy(shell: BoardShell, for_s: int) -> None:
    """Start one endless loop a core, which the board itself ends after `for_s` seconds, come what may; returns at
    once. Stuck if the board does not do it."""
    loop = f"timeout {for_s} sh -c 'while :; do :; done'"
    shell.must(
        f"( for one in $(seq $(nproc)); do {loop} & done ) >/dev/null 2>&1 </dev/null", "loading its processor",
        COMMAND_S,
    )  # fmt: skip
