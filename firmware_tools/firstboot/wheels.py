"""Python wheels for a board without internet: looked at here, unpacked there with `python3 -m zipfile`."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from hil_config.errors import DataFileError

NEEDED = ("msgspec", "numpy", "onnxruntime", "paho_mqtt", "psutil", "cryptography")
"""Of the `node` extra; what a wheel folder must hold for the agent to start."""

_NAME = re.compile(
    r"^(?P<name>.+?)-(?P<version>[^-]+)(-\d[^-]*)?-(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<platform>[^-]+)\.whl$"
)


def check_wheels(folder: Path, kind: str) -> tuple[Path, ...]:
    """The wheels of a folder for boards of a `kind`. A Debian board may have either processor; its wheels have one.

    Raises:
        DataFileError: one is damaged or for another processor, one is missing, or they are for several Pythons.
    """
    paths = tuple(sorted(folder.glob("*.whl")))
    names, pythons, machines = set(), set(), set()
    possible = ("aarch64", "x86_64") if kind == "debian" else ("aarch64",)
    for path in paths:
        match = _NAME.match(path.name)
        if match is None:
            raise DataFileError(f"{path}: not the name of a wheel", "fetch it again with `pip download`")
        if match["platform"] != "any":
            machine = next((one for one in possible if re.search(rf"linux.*_{one}$", match["platform"])), None)
            if machine is None:
                raise DataFileError(
                    f"{path}: for {match['platform']}, {kind} boards are {' or '.join(possible)}", FETCH
                )
            machines.add(machine)
        if match["platform"] != "any" and match["abi"] not in ("abi3", "none"):
            pythons.add(match["abi"])
        try:
            with zipfile.ZipFile(path) as archive:
                bad = archive.testzip()
        except (zipfile.BadZipFile, OSError) as error:
            raise DataFileError(f"{path}: damaged: {error}", FETCH) from error
        if bad:
            raise DataFileError(f"{path}: damaged at {bad}", FETCH)
        names.add(re.sub(r"[-_.]+", "_", match["name"]).lower())
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise DataFileError(f"{folder}: no wheel of {', '.join(missing)}", FETCH)
    if len(machines) > 1:
        raise DataFileError(f"{folder}: wheels for several processors: {', '.join(sorted(machines))}", FETCH)
    if len(pythons) > 1:
        raise DataFileError(f"{folder}: wheels for several Pythons: {', '.join(sorted(pythons))}", FETCH)
    return paths


FETCH = (
    "pip download --only-binary=:all: --python-version 3.11 --implementation cp --platform manylinux2014_aarch64 "
    "--platform manylinux_2_27_aarch64 --platform manylinux_2_28_aarch64 -d FOLDER 'spacemoe-hil[node]' dependencies; "
    "take the board's Python version, and its processor (x86_64 for a PC)"
)
