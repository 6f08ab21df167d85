"""What looks secret, or is known to be, is in no log; a canary, and a real key."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import msgspec
import pytest

from firmware_tools.identity import Authority, make_command_key, write_identity
from hil_config.tls import identity_files
from node_agent.log import HIDDEN, conceal, redact
from tests.conftest import Address
from tests.sensing.agents import WAIT_S, Supervisor, agent_file, start

CANARY = "c4n4ry-Zq8Wm2Lx7Tn5"
PEM = f"-----BEGIN EC PRIVATE KEY-----\n{CANARY}\n-----END EC PRIVATE KEY-----"


@pytest.mark.parametrize(
    "line",
    [
        f"connect failed: password={CANARY}", f'{{"token": "{CANARY}", "n": 1}}', f"Authorization: Bearer {CANARY}",
        f"api_key = '{CANARY}'", f"broker-secret:{CANARY};x", PEM,
        f"-----BEGIN PRIVATE KEY-----\n{CANARY} and the rest was cut",
    ],
)  # fmt: skip
def test_what_looks_secret_is_hidden(line: str) -> None:
    assert CANARY not in redact(line) and HIDDEN in redact(line)


def test_what_is_known_to_be_secret_is_hidden_and_the_rest_is_not() -> None:
    conceal(CANARY, "abc")
    assert redact(f"half {CANARY}, token 17 of 24, abc") == f"half {HIDDEN}, token 17 of 24, abc"


def test_a_private_key_is_nowhere_but_in_its_file(
    tmp_path: Path, reference_shards: Path, supervisor: Supervisor
) -> None:
    """argv, environment, log, traceback and spool of an agent with TLS whose broker does not speak TLS."""
    write_identity(tmp_path / "identity", Authority.create("lab").issue("alpha"))
    files = identity_files(tmp_path / "identity")
    secrets = [line for line in Path(files.key).read_text().splitlines() if line and "-----" not in line]
    assert secrets
    server = socket.create_server(("127.0.0.1", 0))
    taken: list[socket.socket] = []
    thread = threading.Thread(target=lambda: taken.append(server.accept()[0]), daemon=True)
    thread.start()
    private, public = make_command_key()
    secrets += [line for line in private.decode().splitlines() if line and "-----" not in line]
    (tmp_path / "command.pem").write_bytes(public)
    told = {"tls": msgspec.to_builtins(files), "command_key": str(tmp_path / "command.pem")}
    path = agent_file(tmp_path, Address("127.0.0.1", server.getsockname()[1]), reference_shards, **told)
    process = start(path, supervisor)
    seen = b"".join((Path("/proc") / str(process.pid) / name).read_bytes() for name in ("cmdline", "environ"))
    thread.join(WAIT_S)
    for one in taken:
        one.sendall(b"not TLS at all")
        one.close()
    server.close()
    _, errors = process.communicate(timeout=WAIT_S)
    assert process.returncode == 7 and "error: broker" in errors
    seen += errors.encode() + b"".join(p.read_bytes() for p in (tmp_path / "spool").rglob("*") if p.is_file())
    assert not [secret for secret in secrets if secret.encode() in seen]
