"""The agent as a tar file for boards: the sources that run there, the same bytes for the same sources."""

from __future__ import annotations

import importlib.util
import io
import tarfile
from pathlib import Path

from hil_config.errors import EnvironmentFault

PACKAGES = ("hil_config", "models", "node_agent")
SUFFIXES = frozenset({".py", ".service", ".conf"})
"""Modules, and the systemd units that `hil-agent unit` prints."""

GROUND_ONLY = ("hil_config/schema", "hil_config/profiles", "hil_config/defaults", "models/reference")


def agent_tar() -> bytes:
    """Every module and unit of `PACKAGES` that a board may use.

    Raises:
        EnvironmentFault: one of the packages is not installed here.
    """
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for package in PACKAGES:
            spec = importlib.util.find_spec(package)
            if spec is None or not spec.submodule_search_locations:
                raise EnvironmentFault(f"package {package} is not installed here", "pip install 'spacemoe-hil[ground]'")
            folder = Path(next(iter(spec.submodule_search_locations)))
            for path in sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES):
                name = f"{package}/{path.relative_to(folder).as_posix()}"
                if not name.startswith(GROUND_ONLY):
                    _add(archive, name, path.read_bytes())
    return out.getvalue()


def folder_tar(folder: Path) -> bytes:
    """A folder's plain files, such as a model's shards."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                _add(archive, path.relative_to(folder).as_posix(), path.read_bytes())
    return out.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    archive.addfile(info, io.BytesIO(data))
