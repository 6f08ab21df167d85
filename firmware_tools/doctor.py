"""What this machine has of what a bench needs."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path

import msgspec

from firmware_tools import apt_package
from firmware_tools.broker import cache_folder, install_command, installed_mosquitto
from hil_config.door import OLDEST_PYTHON

FREE_DISK_GB = 1.0
"""Shards, journals and a fetched broker together take far less."""

LIBRARIES = ("onnxruntime", "paho-mqtt", "psutil", "numpy", "pydantic", "pyarrow", "sgp4", "tokenizers")


class Check(msgspec.Struct, frozen=True):
    """One thing looked for: what was found, and what to type when that does not do."""

    name: str
    ok: bool
    found: str
    do: str = ""


def examine(folder: Path) -> tuple[Check, ...]:
    """Everything a run needs. Args: `folder`, where runs are to be kept."""
    return (_python(), *(_library(name) for name in LIBRARIES), _broker(), _disk(folder), _cores())


def _python() -> Check:
    wanted = ".".join(str(part) for part in OLDEST_PYTHON)
    found = f"{platform.python_version()} in {sys.prefix}"
    return Check("python", sys.version_info >= OLDEST_PYTHON, found, f"install Python {wanted} or newer")


def _library(name: str) -> Check:
    try:
        return Check(name, True, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Check(name, False, "not installed", f"{sys.executable} -m pip install 'spacemoe-hil[ground]'")


def _broker() -> Check:
    found = installed_mosquitto()
    if found is not None:
        return Check("mosquitto", True, f"{found.version}, {found.program}")
    if apt_package.can_fetch():
        where = cache_folder() / "mosquitto"
        return Check("mosquitto", True, f"not installed; the first run fetches it into {where}", install_command())
    return Check("mosquitto", False, "not installed", install_command())


def _disk(folder: Path) -> Check:
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    free_gb = shutil.disk_usage(there).free / 1e9
    return Check(
        "disk",
        free_gb >= FREE_DISK_GB,
        f"{free_gb:.1f} GB free in {there}",
        f"free {FREE_DISK_GB:g} GB in {there}",
    )


def _cores() -> Check:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Check("cores", usable >= 2, f"{usable} usable", "allow the process two cores: taskset -c 0,1 hil ...")
