"""Keep a board's processor busy for a while, over a shell."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from firmware_tools.provision.board_shell import BoardShell
from hil_config.errors import HardwareError

COMMAND_S = 30.0


@contextmanager
def busy(shell: BoardShell, for_s: int) -> Iterator[None]:
    """One endless loop a core, until this ends, also by a failure or Ctrl-C; the board itself ends them after `for_s`
    seconds, come what may. Stuck if the board does not do it."""
    noted = f"/run/hil-load-{secrets.token_hex(6)}"
    loop = f"timeout {for_s} sh -c 'while :; do :; done' >/dev/null 2>&1 </dev/null"
    try:
        shell.must(
            f"( for one in $(seq $(nproc)); do {loop} & echo $! >>{noted}; done )", "loading its processor", COMMAND_S
        )
        yield
    finally:
        try:
            shell.run(f"kill $(cat {noted}); rm -f {noted}", COMMAND_S)
        except HardwareError:
            pass  # nobody is there to be told
