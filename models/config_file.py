"""Typed access to a checkpoint's config.json; every complaint names the file, the key, what it got and wanted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hil_config.errors import DataFileError

MAX_JSON_BYTES = 64 << 20
MAX_COUNT = 1 << 24
"""Above every size of a model, and small enough to count to."""

HINT = "a checkpoint folder has config.json and model.safetensors as Hugging Face writes them"


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file, or DataFileError."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise DataFileError(f"{path}: {path.stat().st_size} bytes, wanted at most {MAX_JSON_BYTES}", HINT)
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read: {error.strerror}", HINT) from error
    except (ValueError, RecursionError) as error:
        raise DataFileError(f"{path}: not JSON: {error}", HINT) from error
    if not isinstance(value, dict):
        raise DataFileError(f"{path}: got a JSON {type(value).__name__}, wanted an object", HINT)
    return value


class Config:
    """The values of one config.json. A key that is absent or null takes the default; no default: it must be there."""

    def __init__(self, path: Path, values: dict[str, Any], inside: str = "") -> None:
        self.path, self.values, self.inside = path, values, inside

    def fail(self, key: str, got: object, wanted: str) -> DataFileError:
        return DataFileError(f"{self.path}: {self.inside}{key}: got {got!r}, wanted {wanted}", HINT)

    def get(self, *keys: str) -> Any:
        """The first of several spellings that has a value, or None."""
        return next((self.values[key] for key in keys if self.values.get(key) is not None), None)

    def count(self, *keys: str, default: int | None = None, least: int = 1) -> int:
        """A whole number of at least `least` under the first spelling that is there."""
        for key in keys:
            value = self.values.get(key)
            if value is not None:
                if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_COUNT:
                    raise self.fail(key, value, f"a whole number of at least {least}, at most {MAX_COUNT}")
                return value
        if default is None:
            raise self.fail(" or ".join(keys), None, f"a whole number of at least {least}")
        return default

    def real(self, key: str, default: float | None = None) -> float:
        """A positive number."""
        value = self.values.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
            raise self.fail(key, value, "a positive number")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(key)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise self.fail(key, value, "true or false")
        return value

    def text(self, key: str, allowed: tuple[str, ...], default: str) -> str:
        value = self.values.get(key)
        value = default if value is None else value
        if value not in allowed:
            raise self.fail(key, value, " or ".join(map(repr, allowed)))
        return str(value)

    def numbers(self, key: str, length: int) -> tuple[float, ...]:
        value = self.values.get(key)
        ok = isinstance(value, list) and len(value) == length
        if not ok or not all(
            isinstance(v, (int, float)) and not isinstance(v, bool) and 0 < v < 1e9 for v in value or ()
        ):
            raise self.fail(key, value, f"{length} positive numbers")
        return tuple(float(v) for v in value or ())

    def table(self, key: str) -> Config | None:
        """A nested object, or None where there is none."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.fail(key, value, "an object")
        return Config(self.path, value, f"{self.inside}{key}.")
