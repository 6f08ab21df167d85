"""QEMU Machine Protocol over a Unix socket: one command, one answer (QEMU documentation, QMP specification)."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from hil_config.errors import HardwareError

TIMEOUT_S = 10.0


def order(path: Path, command: str, **arguments: object) -> Any:
    """What QEMU returns for `command`; None after `quit`, which ends the connection.

    Raises:
        HardwareError: nobody listens there, or QEMU refuses.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(TIMEOUT_S)
            sock.connect(str(path))
            with sock.makefile("rwb") as lines:
                lines.readline()  # greeting
                for message in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                    lines.write(json.dumps(message).encode() + b"\n")
                    lines.flush()
                    answer = _answer(lines)
                return answer
    except (OSError, ValueError) as error:
        raise HardwareError(f"{path}: the emulator does not answer: {error}", "hil power BOARD status") from error


def _answer(lines: Any) -> Any:
    for line in lines:
        message = json.loads(line)
        if "error" in message:
            raise HardwareError(f"the emulator refuses: {message['error'].get('desc')}")
        if "return" in message:
            return message["return"]
    return None  # it has ended
