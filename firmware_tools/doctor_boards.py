"""What is wrong with each board of a bench, and what to type for it. Nothing is switched, written or logged in to."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from firmware_tools.doctor import Check
from firmware_tools.doctor_network import check_network
from firmware_tools.flash.disk import System, find_disk
from firmware_tools.flash.guard import check_target
from firmware_tools.identity import WARN_DAYS
from firmware_tools.identity_store import OWN, IdentityStore
from firmware_tools.power.job import status_of
from firmware_tools.reservation import holder_of
from firmware_tools.state import State
from hil_config.errors import HilError

if TYPE_CHECKING:
    from hil_config.schema.bench import Bench, Board


def examine_boards(bench: Bench, state: State) -> tuple[Check, ...]:
    """Every board that is more than a process of this machine."""
    checks: list[Check] = []
    store = None
    if bench.identity is not None:
        try:
            store = IdentityStore.of(Path(bench.identity), bench.bench)
            checks.append(Check("identity", True, f"bench {store.bench} in {bench.identity}"))
            checks += [_own_certificate(name, store) for name in OWN]
        except HilError as error:
            checks.append(Check("identity", False, error.message, error.hint))
    checks += check_network(bench)
    for board in bench.boards:
        if board.kind not in {"local", "model"}:
            checks += _board(board, bench, store, state)
    return tuple(checks)


def _board(board: Board, bench: Bench, store: IdentityStore | None, state: State) -> Iterator[Check]:
    if board.disk is not None:
        yield _tried(f"{board.name}.disk", lambda: _disk(board))
    if board.console is not None:
        yield _tried(f"{board.name}.console", lambda: _console(board))
    if board.power is not None:
        yield _tried(f"{board.name}.power", lambda: _power(board, bench, state))
    if store is not None:
        yield _certificate(board, store)
    held = holder_of(board.name, state)
    if held is not None:
        left_h = (held.until - time.time()) / 3600
        yield Check(f"{board.name}.held", True, f"by {held.holder} for {left_h:.1f} h more")


def _tried(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except HilError as error:
        return Check(name, False, error.message, error.hint)
    except OSError as error:  # a folder that may not be entered
        return Check(name, False, f"{error.filename}: {error.strerror}", "check the path, whose it is, and its mode")


def _disk(board: Board) -> Check:
    assert board.disk is not None
    name = f"{board.name}.disk"
    if board.disk.named_by == "file" and not Path(board.disk.stable_id).exists():
        return Check(name, False, f"{board.disk.stable_id} is not there", f"hil flash {board.name} --image IMAGE")
    found = find_disk(board.disk, System())
    check_target(found, int(board.disk.max_gb * 1e9), System())
    return Check(name, True, found.described())


def _console(board: Board) -> Check:
    assert board.console is not None
    name, port, secret = f"{board.name}.console", board.console.port, board.console.password_file
    if secret is not None:
        path = Path(secret)
        if not path.is_file():
            return Check(name, False, f"{secret} is not there", f"write the password into it; chmod 600 {secret}")
        if path.stat().st_mode & 0o077:
            return Check(name, False, f"{secret} can be read by others", f"chmod 600 {secret}")
    if "://" in port:
        return Check(name, True, port)
    if not os.path.exists(port):
        return Check(name, False, f"{port} is not there", "plug the adapter in; ls -l /dev/serial/by-id")
    if not os.access(port, os.R_OK | os.W_OK):
        return Check(name, False, f"{port} may not be opened", "sudo usermod -aG dialout $USER, then log in again")
    return Check(name, True, port)


def _power(board: Board, bench: Bench, state: State) -> Check:
    switch, said = status_of(board, bench, state)
    return Check(
        f"{board.name}.power", True, f"{switch.via}: {({True: 'on', False: 'off', None: 'cannot tell'})[said]}"
    )


def _own_certificate(party: str, store: IdentityStore) -> Check:
    found, do = store.valid(party), f"hil bench identity renew {party} --folder {store.folder}"
    if found is None:
        return Check(f"{party}.identity", False, "its certificate was revoked", do)
    days = found.days_left(time.time())
    return Check(f"{party}.identity", days >= WARN_DAYS, f"certificate for {days:.0f} days", do)


def _certificate(board: Board, store: IdentityStore) -> Check:
    name, found = f"{board.name}.identity", store.valid(board.name)
    if found is None:
        return Check(name, False, "has no certificate", f"hil firstboot {board.name}; hil provision {board.name}")
    days = found.days_left(time.time())
    return Check(name, days >= WARN_DAYS, f"certificate for {days:.0f} days", f"hil provision {board.name}")
