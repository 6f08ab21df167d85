"""The weight files of a checkpoint folder, memory-mapped: any tensor or a part of it, as float32.

F32, F16, BF16 and F8_E4M3 words are understood, and three block forms: `<name>.codes` I8 [N, K] with
`<name>.scales` F16 [N, ceil(K / 32)] (ours), `<name>_scale_inv` F32 per 128 x 128 (DeepSeek-V3's fp8), and
`<name>_blocks` with `<name>_scales` (gpt-oss's MXFP4, OCP Microscaling formats 1.0: 32 four-bit floats a scale).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hil_config.errors import DataFileError
from hil_config.wire.manifest import BLOCK
from hil_config.wire.mapped_file import map_file
from models.config_file import HINT, read_json
from models.quantize import expand_scales
from models.serving.safetensors_file import BadContainer, Entry, read_header, view

FloatArray = npt.NDArray[np.float32]
WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"

PLAIN = ("F32", "F16", "BF16")
_MXFP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=np.float32)


def _e4m3() -> FloatArray:
    """The 256 values of F8_E4M3FN: 1 sign, 4 exponent (bias 7), 3 mantissa bits, no infinity."""
    code = np.arange(256)
    exponent, mantissa = (code >> 3) & 15, (code & 7).astype(np.float64)
    value = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
    value[(code & 127) == 127] = np.nan
    return np.where(code & 128, -value, value).astype(np.float32)


_E4M3 = _e4m3()


class _Place(NamedTuple):
    path: Path
    data: memoryview
    entry: Entry


class TensorFiles:
    """Every tensor of one folder. Nothing is read before it is asked for, and nothing is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places: dict[str, _Place] = {}
        for path in self._paths():
            data = _map(path)
            try:
                self._places |= {name: _Place(path, data, entry) for name, entry in read_header(data).items()}
            except BadContainer as error:
                raise DataFileError(f"{path}: not a safetensors file: {error}", HINT) from error

    def _paths(self) -> list[Path]:
        """One file, or all that an index names."""
        index = self.folder / INDEX_NAME
        if not index.exists():
            return [self.folder / WEIGHTS_NAME]
        table = read_json(index).get("weight_map")
        if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
            raise DataFileError(f"{index}: weight_map: got {type(table).__name__}, wanted an object", HINT)
        for name in set(table.values()):
            if Path(name).name != name:
                raise DataFileError(f"{index}: file {name!r}: wanted a plain file name", HINT)
        return [self.folder / name for name in sorted(set(table.values()))]

    def paths(self) -> Iterator[Path]:
        yield from sorted({place.path for place in self._places.values()})

    def has(self, name: str) -> bool:
        return any(name + suffix in self._places for suffix in ("", ".codes", "_blocks"))

    def stored_shape(self, name: str) -> tuple[int, ...] | None:
        """The shape as stored under exactly this name."""
        place = self._places.get(name)
        return None if place is None else place.entry.shape

    def read(self, name: str, shape: tuple[int, ...], part: int | None = None) -> FloatArray:
        """Float32 values of a tensor of `shape`; `part` i reads only row i of its first dimension."""
        if name in self._places:
            return self._plain(name, shape, part)
        if name + "_blocks" in self._places:
            return self._mxfp4(name, shape, part)
        if name + ".codes" in self._places and len(shape) != 2:
            raise DataFileError(f"{self.folder}: tensor {name!r}: got codes, wanted plain values {shape}", HINT)
        codes = self._words(name + ".codes", shape, ("I8",) if name + ".codes" in self._places else PLAIN, name)
        scales = self._words(name + ".scales", (shape[0], -(-shape[1] // BLOCK)), ("F16",))
        self._finite(name + ".scales", scales.astype(np.float32))
        return codes.astype(np.float32) * expand_scales(scales.astype(np.float32), shape[1])

    def _words(self, name: str, shape: tuple[int, ...], dtypes: tuple[str, ...], called: str = "") -> npt.NDArray[Any]:
        place = self._places.get(name)
        if place is None:
            raise DataFileError(f"{self.folder}: tensor {called or name!r}: got nothing, wanted {shape}", HINT)
        if place.entry.shape != shape or place.entry.dtype not in dtypes:
            raise DataFileError(
                f"{place.path}: tensor {name!r}: got {place.entry.dtype} {place.entry.shape}, "
                f"wanted {' or '.join(dtypes)} {shape}",
                HINT,
            )
        return view(place.data, place.entry)

    def _plain(self, name: str, shape: tuple[int, ...], part: int | None) -> FloatArray:
        scaled = name + "_scale_inv" in self._places
        words = self._words(name, shape, ("F8_E4M3",) if scaled else PLAIN)
        words = words if part is None else words[part]
        kind = self._places[name].entry.dtype
        if kind == "BF16":
            value = (words.astype(np.uint32) << 16).view(np.float32)
        elif scaled:
            grid = tuple(-(-side // 128) for side in shape)
            scale = self._words(name + "_scale_inv", grid, ("F32",))
            value = _E4M3[words] * np.repeat(np.repeat(scale, 128, 0), 128, 1)[: shape[0], : shape[1]]
        else:
            value = words.astype(np.float32)
        return self._finite(name, value)

    def _mxfp4(self, name: str, shape: tuple[int, ...], part: int | None) -> FloatArray:
        """Stacked [E, inputs, outputs] stored as blocks [E, outputs, inputs / 32, 16], low nibble first."""
        experts, inputs, outputs = shape
        grid = (experts, outputs, -(-inputs // 32))
        blocks = self._words(name + "_blocks", (*grid, 16), ("U8",))
        scales = self._words(name + "_scales", grid, ("U8",))
        chosen = slice(None) if part is None else slice(part, part + 1)
        blocks, exponent = blocks[chosen], scales[chosen].astype(np.int32) - 127
        values = np.stack((_MXFP4[blocks & 15], _MXFP4[blocks >> 4]), axis=-1).reshape(*blocks.shape[:-1], 32)
        values = np.ldexp(values, exponent[..., None]).reshape(len(blocks), outputs, -1)[:, :, :inputs]
        turned = self._finite(name, values.swapaxes(1, 2).astype(np.float32))
        return turned if part is None else turned[0]

    def _finite(self, name: str, value: FloatArray) -> FloatArray:
        if not np.isfinite(value).all():
            where = self._places.get(name) or self._places[name + "_blocks"]
            raise DataFileError(f"{where.path}: tensor {name!r}: got NaN or infinity, wanted finite numbers", HINT)
        return value


def _map(path: Path) -> memoryview:
    try:
        return map_file(path)
    except (OSError, ValueError) as error:
        raise DataFileError(f"{path}: not a safetensors file: {error}", HINT) from error


def file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
