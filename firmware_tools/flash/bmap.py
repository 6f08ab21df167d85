"""Block maps (the .bmap files of bmap-tools, formats 1.2 to 2.0): which blocks of an image matter."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from xml.etree import ElementTree

import msgspec

from hil_config.errors import ArtefactError, DataFileError

_AGAIN = "get the .bmap file again, or write everything with --no-bmap"


class Range(msgspec.Struct, frozen=True):
    """Bytes [begin, end) that are written; `sha256` is empty where the map does not say."""

    begin: int
    end: int
    sha256: str = ""


class BlockMap(msgspec.Struct, frozen=True):
    """Ranges in order, without overlap."""

    image_size: int
    ranges: tuple[Range, ...]

    @property
    def mapped(self) -> int:
        """Bytes that matter."""
        return sum(one.end - one.begin for one in self.ranges)


def beside(image: Path) -> Path | None:
    """The map that belongs to IMAGE: IMAGE.bmap, or its name with one ending less."""
    for candidate in (image.with_name(image.name + ".bmap"), image.with_suffix(".bmap")):
        if candidate.exists():
            return candidate
    return None


def read_bmap(path: Path) -> BlockMap:
    """The map in `path`.

    Raises:
        DataFileError: not a block map. ArtefactError: its own checksum is wrong.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read: {error.strerror}", _AGAIN) from error
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise DataFileError(f"{path}: has a document type, which a block map never has", _AGAIN)
    try:
        root = ElementTree.fromstring(data)
        block, blocks = _number(root, "BlockSize"), _number(root, "BlocksCount")
        size = _number(root, "ImageSize")
        ranges = tuple(_range(one, block, size) for one in root.iterfind("./BlockMap/Range"))
    except (ElementTree.ParseError, ValueError, TypeError) as error:
        raise DataFileError(f"{path}: not a block map: {error}", _AGAIN) from error
    if root.tag != "bmap" or block % 4096 or not 4096 <= block <= 1 << 26 or blocks != -(-size // block):
        raise DataFileError(f"{path}: block size {block}, {blocks} blocks and {size} bytes do not agree", _AGAIN)
    _check_own_sum(path, root, data)
    ends = [0, *(one.end for one in ranges)]
    if not ranges or any(one.begin < end for one, end in zip(ranges, ends, strict=False)) or ends[-1] > size:
        raise DataFileError(f"{path}: ranges overlap, go backwards or pass the end", _AGAIN)
    return BlockMap(size, ranges)


def _number(root: ElementTree.Element, name: str) -> int:
    text = root.findtext(name)
    if text is None:
        raise ValueError(f"no {name}")
    return int(text.strip())


def _range(element: ElementTree.Element, block: int, size: int) -> Range:
    first, _, last = (element.text or "").strip().partition("-")
    begin = int(first) * block
    end = min((int(last or first) + 1) * block, size)
    if begin >= end:
        raise ValueError(f"range {element.text!r} is empty")
    return Range(begin, end, (element.get("chksum") or "").lower())


def _check_own_sum(path: Path, root: ElementTree.Element, data: bytes) -> None:
    """The map's SHA-256 is taken with the sum itself written as zeros."""
    stated = (root.findtext("BmapFileChecksum") or "").strip()
    kind = (root.findtext("ChecksumType") or "sha256").strip()
    if not stated or kind != "sha256":
        return
    if not re.fullmatch("[0-9a-f]{64}", stated):
        raise DataFileError(f"{path}: BmapFileChecksum {stated!r} is not a SHA-256", _AGAIN)
    found = hashlib.sha256(data.replace(stated.encode(), b"0" * 64)).hexdigest()
    if found != stated:
        raise ArtefactError(f"{path}: SHA-256 {found}, the file says {stated}", _AGAIN)
