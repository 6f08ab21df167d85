"""A root shell over SSH, to a board whose host key is pinned. Nothing of the user's own SSH settings is used.

Each board has its own event loop, which runs only while a command does: the callers are plain threads.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import asyncssh

from firmware_tools.provision.board_shell import BoardShell, Stuck, checked_move, quoted
from hil_config.errors import ConfigError, SafetyRefusal

if TYPE_CHECKING:
    from hil_config.schema.hardware import Ssh

_T = TypeVar("_T")
RETRY_S = 1.0
PUT_S = 300.0


class SshShell(BoardShell):
    """Args: `place` of the bench file; a user other than root needs `sudo -n`."""

    def __init__(self, board: str, place: Ssh) -> None:
        super().__init__(board)
        self._place = place
        self._runner = asyncio.Runner()
        self._connection: asyncssh.SSHClientConnection | None = None
        self._sudo = ""

    def _key(self) -> asyncssh.SSHKey:
        path = Path(self._place.key_file)
        try:
            if path.stat().st_mode & 0o077:
                raise ConfigError(f"{path}: others may read this key", f"chmod 600 {path}")
            return asyncssh.read_private_key(path)
        except OSError as error:
            raise ConfigError(f"board {self.board}: ssh key_file {path}: {error.strerror}", "ssh-keygen -t ed25519 -f "
                              f"{path}") from error  # fmt: skip
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            raise ConfigError(
                f"board {self.board}: ssh key_file {path}: {error}", "use a key without pass phrase"
            ) from error

    def _known(self) -> asyncssh.SSHKnownHosts:
        path = Path(self._place.host_key_file)
        scan = f"ssh-keyscan -p {self._place.port} {self._place.host}, compare it with the board's own, write {path}"
        try:
            return asyncssh.read_known_hosts(str(path))
        except (OSError, ValueError) as error:
            raise ConfigError(f"board {self.board}: ssh host_key_file {path}: {error}", scan) from error

    def reach(self, timeout_s: float) -> None:
        """Connect and become root; a board that does not answer yet is tried again.

        Raises:
            Stuck: no root shell after `timeout_s` seconds, or the key is refused.
            SafetyRefusal: the host shows another key than the pinned one.
            ConfigError: a key file that cannot be used.
        """
        key, known = self._key(), self._known()
        where = f"board {self.board}: ssh {self._place.user}@{self._place.host}:{self._place.port}"
        deadline, last, pause = time.monotonic() + timeout_s, "no answer", threading.Event()
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                self._connection = self._do(self._connect(key, known, left_s))
                break
            except asyncssh.HostKeyNotVerifiable as error:
                raise SafetyRefusal(
                    f"{where}: its host key is not the one in {self._place.host_key_file}",
                    "if the board was flashed again, compare its new key on the console and pin that",
                ) from error
            except asyncssh.PermissionDenied as error:
                raise Stuck(
                    f"{where}: refuses the key {self._place.key_file}", f"put its public half on the board: "
                    f"hil firstboot {self.board}"
                ) from error  # fmt: skip
            except (OSError, asyncssh.Error, asyncio.TimeoutError) as error:
                last = str(error) or "no answer"
                pause.wait(min(RETRY_S, max(0.0, deadline - time.monotonic())))
        if self._connection is None:
            raise Stuck(f"{where}: no shell after {timeout_s:.0f} s: {last}", f"hil console {self.board}")
        code, out = self.run("id -u")
        if code == 0 and out.strip() != "0":
            self._sudo = "sudo -n "
            self.must("true", f"becoming root as {self._place.user} with sudo -n")

    async def _connect(
        self, key: asyncssh.SSHKey, known: asyncssh.SSHKnownHosts, timeout_s: float
    ) -> asyncssh.SSHClientConnection:
        return await asyncio.wait_for(
            asyncssh.connect(
                self._place.host, self._place.port, username=self._place.user, client_keys=[key], known_hosts=known,
                config=None, agent_path=None, preferred_auth="publickey", keepalive_interval=10,
            ),
            timeout_s,
        )  # fmt: skip

    def _do(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self._runner.run(work)

    def run(self, command: str, timeout_s: float = 30.0) -> tuple[int, str]:
        """(exit code, output and errors) of a command as root; Stuck if it did not end in time or the line broke."""
        return self._run(command, b"", timeout_s)

    def _run(self, command: str, data: bytes, timeout_s: float) -> tuple[int, str]:
        if self._connection is None:
            raise Stuck(f"board {self.board}: no connection", "run the command again")
        # What the login shell's own start-up files complain of arrives as errors too, and is no answer.
        word = f"sh -c {quoted(f'exec 2>&1; {self._sudo}sh -c {quoted(command)}')}"
        try:
            done = self._do(
                self._connection.run(word, input=data, encoding=None, stderr=asyncssh.DEVNULL, timeout=timeout_s)
            )
        except asyncssh.TimeoutError as error:
            raise Stuck(
                f"board {self.board}: {command[:60]!r} did not end within {timeout_s:.0f} s",
                f"hil console {self.board}",
            ) from error
        except (OSError, asyncssh.Error) as error:
            raise Stuck(
                f"board {self.board}: the connection broke during {command[:60]!r}: {error}", "run the command again"
            ) from error
        if done.exit_status is None or done.exit_status < 0:
            raise Stuck(f"board {self.board}: the connection broke during {command[:60]!r}", "run the command again")
        output = done.stdout if isinstance(done.stdout, bytes) else b""
        return done.exit_status, output.decode(errors="replace").strip("\n")

    def put(self, path: str, data: bytes, mode: str = "600") -> None:
        """Write a file through the command's input, checked on the board before it gets its name."""
        digest = hashlib.sha256(data).hexdigest()
        code, said = self._run(f"umask 077; cat > {path}.new && {checked_move(path, digest, mode)}", data, PUT_S)
        if code:
            raise Stuck(f"board {self.board}: writing {path}: it said {said[-80:]!r}", "see to space and rights there")

    def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            self._connection.close()
            try:
                self._do(asyncio.wait_for(self._connection.wait_closed(), 5.0))
            except (OSError, asyncssh.Error, asyncio.TimeoutError):
                pass  # it is gone either way
            self._connection = None
        self._runner.close()
