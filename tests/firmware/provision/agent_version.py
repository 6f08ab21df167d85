"""Other versions of the agent, made from this one. Not a test."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from firmware_tools.firstboot.agent_package import agent_tar


def version(folder: Path, name: str, module: str, line: str) -> Path:
    """This agent with one line more in one of its modules."""
    path = folder / f"{name}.tar"
    with tarfile.open(fileobj=io.BytesIO(agent_tar())) as old, tarfile.open(path, "w") as new:
        for info in old:
            file = old.extractfile(info)
            assert file is not None
            data = file.read()
            if info.name == module:
                data += f"\n{line}\n".encode()
                info.size = len(data)
            new.addfile(info, io.BytesIO(data))
    return path
