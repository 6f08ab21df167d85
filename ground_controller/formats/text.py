"""Files of text as people write them: read once, refused by file and line."""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from json.decoder import JSONDecoder, JSONObject  # type: ignore[attr-defined]  # public in CPython, not in the stubs
from json.scanner import py_make_scanner  # type: ignore[attr-defined]  # the scanner that calls parse_object
from pathlib import Path
from typing import Any, NoReturn

from hil_config.errors import DataFileError

MAX_FILE_BYTES = 256 << 20
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_MAX_DIGITS = 64


def read_text(path: Path, hint: str) -> str:
    """The text of a UTF-8 file; DataFileError with `hint` if it cannot be read or is not text."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DataFileError(f"{path}: larger than {MAX_FILE_BYTES} bytes", hint)
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read: {error.strerror}", hint) from error
    except UnicodeDecodeError as error:
        raise DataFileError(
            f"{path}: not text: byte {error.start} is {error.object[error.start]:#04x}", hint
        ) from error


def refuse(source: str, line: int, problem: str, hint: str) -> NoReturn:
    """Raise DataFileError at a line of `source`; line 0: of the whole file."""
    raise DataFileError(f"{source}:{line}: {problem}" if line else f"{source}: {problem}", hint)


def number(text: str, what: str, source: str, line: int, hint: str) -> float:
    """The finite decimal number that `text` is, or DataFileError; no underscores, no NaN, no infinity."""
    if len(text) <= _MAX_DIGITS and _NUMBER.fullmatch(text):
        value = float(text)
        if math.isfinite(value):
            return value
    refuse(source, line, f"{what} is not a number; found {text[:80]!r}", hint)


class Located(dict[str, Any]):
    """A JSON object that knows the line it begins in."""

    line: int = 0


def parse_json(text: str, source: str, hint: str) -> Any:
    """The value of a JSON text; its objects are `Located`. Duplicate keys, NaN and infinities are refused."""
    starts = [0, *(match.end() for match in re.finditer("\n", text))]

    class Decoder(JSONDecoder):
        def __init__(self) -> None:
            super().__init__(parse_constant=self._constant)
            self.parse_object = self._object
            self.scan_once = py_make_scanner(self)

        def _constant(self, name: str) -> NoReturn:
            raise ValueError(f"{name} is no JSON number")

        def _object(
            self, at: tuple[str, int], strict: bool, scan: Any, hook: Any, pairs: Any, memo: Any
        ) -> tuple[Located, int]:
            items, end = JSONObject(at, strict, scan, None, list, memo)
            found = Located(items)
            found.line = bisect_right(starts, at[1])
            if len(found) != len(items):
                names = [name for name, _ in items]
                refuse(source, found.line, f"the key {max(names, key=names.count)!r} stands twice in an object", hint)
            return found, end

    try:
        return Decoder().decode(text)
    except json.JSONDecodeError as error:
        refuse(source, error.lineno, f"column {error.colno}: not JSON: {error.msg}", hint)
    except RecursionError:
        refuse(source, 0, "not usable: nested too deep", hint)
    except ValueError as error:
        refuse(source, 0, f"not usable JSON: {error}", hint)


def json_number(item: Located, key: str, source: str, hint: str) -> float:
    """A finite number of an object, or DataFileError; true and false are no numbers."""
    value = item.get(key)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= 1e300:
        return float(value)
    found = f"found {str(value)[:80]!r}" if key in item else "it is missing"
    refuse(source, item.line, f"{key} is not a number; {found}", hint)


def json_list(item: Located, key: str, source: str, hint: str) -> list[Located]:
    """A list of objects of an object, empty where the key is missing, or DataFileError."""
    value = item.get(key, [])
    if not isinstance(value, list) or not all(isinstance(one, Located) for one in value):
        refuse(source, item.line, f"{key} is not a list of objects", hint)
    return value
