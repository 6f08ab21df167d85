"""Block maps: only what matters is written, and a map that lies is found."""

from __future__ import annotations

import hashlib
import lzma
import shutil
import subprocess
from pathlib import Path

import pytest

from hil_config.errors import ArtefactError, DataFileError
from tests.firmware.flash.desk import Bench

UNIT = 4096
CARD = 200 * UNIT


def block_map(image: Path, ranges: list[tuple[int, int]], spoil: str = "") -> Path:
    """As bmap-tools writes it (format 2.0); ranges in blocks, inclusive."""
    data = image.read_bytes()
    lines = []
    for first, last in ranges:
        part = data[first * UNIT : (last + 1) * UNIT]
        text = f"{first}" if first == last else f"{first}-{last}"
        lines.append(f'<Range chksum="{hashlib.sha256(part).hexdigest()}"> {text} </Range>')
    text = (
        f'<?xml version="1.0" ?><bmap version="2.0"><ImageSize> {len(data)} </ImageSize><BlockSize> {UNIT} </BlockSize>'
        f"<BlocksCount> {-(-len(data) // UNIT)} </BlocksCount><MappedBlocksCount> 0 </MappedBlocksCount>"
        f"<ChecksumType> sha256 </ChecksumType><BmapFileChecksum> {'0' * 64} </BmapFileChecksum>"
        f"<BlockMap>{''.join(lines)}</BlockMap></bmap>"
    )
    text = text.replace("0" * 64, hashlib.sha256(text.encode()).hexdigest(), 1)
    path = image.with_name("board.img.bmap")
    path.write_text(text.replace(spoil, "1", 1) if spoil else text)
    return path


RANGES = [(0, 0), (3, 40), (42, 42), (100, 149)]


@pytest.mark.parametrize("packed", [False, True])
def test_only_mapped_blocks_are_written(bench: Bench, packed: bool) -> None:
    block_map(bench.image, RANGES)
    bench.card.write_bytes(b"\xee" * CARD * 4)
    source = bench.image
    if packed:
        source = bench.image.with_name("board.img.xz")
        source.write_bytes(lzma.compress(bench.image.read_bytes(), preset=0))
    receipt = bench.flash(source)
    card, image = bench.card.read_bytes(), bench.image.read_bytes()
    for first, last in RANGES:
        assert card[first * UNIT : (last + 1) * UNIT] == image[first * UNIT : (last + 1) * UNIT]
    assert card[60 * UNIT : 100 * UNIT] == b"\xee" * 40 * UNIT
    assert receipt.result.mapped == receipt.result.written == 90 * UNIT
    assert receipt.bmap_sha256
    assert bench.flash(source, use_bmap=False).result.written == len(image)


def test_a_map_of_another_image(bench: Bench) -> None:
    path = block_map(bench.image, RANGES)
    data = bytearray(bench.image.read_bytes())
    data[10 * UNIT] ^= 1
    bench.image.write_bytes(data)
    bench.card.write_bytes(bytes(CARD * 4))
    with pytest.raises(ArtefactError, match="block map says"):
        bench.flash()
    bench.image.write_bytes(data[: 160 * UNIT])
    with pytest.raises(ArtefactError, match="is for an image of"):
        bench.flash()
    assert str(path) and bench.receipts() == []


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", DataFileError),
        ("<bmap>", DataFileError),
        ("<html/>", DataFileError),
        ('<!DOCTYPE x [<!ENTITY a "b">]><bmap/>', DataFileError),
        ("<bmap><ImageSize>x</ImageSize></bmap>", DataFileError),
    ],
)
def test_files_that_are_no_map(bench: Bench, text: str, error: type[Exception]) -> None:
    (bench.folder / "board.img.bmap").write_text(text)
    with pytest.raises(error):
        bench.flash()
    assert not bench.card.exists()


def test_ranges_out_of_order_and_a_changed_map(bench: Bench) -> None:
    block_map(bench.image, [(3, 4), (0, 0)])
    with pytest.raises(DataFileError, match="overlap"):
        bench.flash()
    block_map(bench.image, RANGES, spoil="100-149")
    with pytest.raises(ArtefactError, match="the file says"):
        bench.flash()


@pytest.mark.skipif(not shutil.which("bmaptool"), reason="bmap-tools is not installed")
def test_a_map_made_by_bmaptool(bench: Bench) -> None:
    with open(bench.image, "r+b") as file:
        file.truncate(8 << 20)
    path = bench.image.with_name("board.img.bmap")
    subprocess.run(["bmaptool", "create", "-o", str(path), str(bench.image)], check=True, capture_output=True)
    receipt = bench.flash()
    assert 0 < receipt.result.mapped < 8 << 20
    assert bench.card.read_bytes() == bench.image.read_bytes()
