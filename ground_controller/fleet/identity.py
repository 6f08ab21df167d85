"""What the ground takes from the folder that `hil bench init` made: its certificate, its command key, and certificates
of one run for agents on this machine."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ground_controller.fleet.order_desk import OrderDesk
from ground_controller.fleet.tool import run_tool
from hil_config.signing import Signer
from hil_config.tls import TlsFiles, identity_files


class BenchIdentity:
    """Args: `folder` made by `hil bench init`; `nodes` are those whose agents run here.

    Keys of local agents live in a temporary folder of this user's until `close`, never in the run folder.
    """

    def __init__(self, folder: Path, nodes: tuple[str, ...]) -> None:
        self.folder = folder
        self.tls: TlsFiles = identity_files(folder / "ground")
        self._local = Path(tempfile.mkdtemp(prefix="hil-identity-"))
        with ExitStack() as undo:
            undo.callback(self.close)
            if nodes:
                run_tool("bench", "local-identity", "--identity", str(folder), "--out", str(self._local), *nodes)
            undo.pop_all()

    def desk(self, epoch: int) -> OrderDesk:
        """Signs the orders of one controller."""
        return OrderDesk(Signer(self.folder / "command.key.pem", epoch))

    def agent(self, node: str) -> dict[str, Any]:
        """The fields of a local agent's configuration."""
        files = identity_files(self._local / node)
        tls = {"ca": files.ca, "certificate": files.certificate, "key": files.key, "crl": files.crl}
        return {"tls": tls, "command_key": str(self.folder / "command.pub.pem")}

    def close(self) -> None:
        """Remove the local agents' keys."""
        shutil.rmtree(self._local, ignore_errors=True)
