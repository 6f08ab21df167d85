"""Images over HTTP, from a real server that can be told to misbehave."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hil_config.errors import ArtefactError, DataFileError, LinkError, UsageError
from tests.firmware.flash.desk import Bench


class Site:
    """Serves one folder. `ranges`: answers Range requests; `cut_after`: closes each answer after so many bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ranges, self.cut_after = folder, True, 0
        self.requests = 0
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests += 1
        path = self.folder / handler.path.lstrip("/")
        if not path.is_file():
            handler.send_error(404)
            return
        data = path.read_bytes()
        wanted = handler.headers.get("Range", "")
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if self.ranges and wanted else 0
        handler.send_response(206 if self.ranges and wanted else 200)
        if self.ranges and wanted:
            handler.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data) - begin))
        handler.end_headers()
        try:
            handler.wfile.write(data[begin : begin + self.cut_after] if self.cut_after else data[begin:])
        except OSError:
            pass  # the reader has jumped

    def url(self, path: Path) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/{path.name}"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    one = Site(tmp_path)
    thread = threading.Thread(target=one.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield one
    one.server.shutdown()
    one.server.server_close()
    thread.join()


Hash = Callable[[Path], str]


def test_an_image_from_the_network(bench: Bench, site: Site, sha256: Hash) -> None:
    receipt = bench.flash(site.url(bench.image), sha256=sha256(bench.image))
    assert bench.card.read_bytes() == bench.image.read_bytes()
    assert receipt.image == site.url(bench.image)


def test_it_needs_its_hash(bench: Bench, site: Site) -> None:
    with pytest.raises(UsageError, match="needs its hash"):
        bench.flash(site.url(bench.image))
    with pytest.raises(ArtefactError):
        bench.flash(site.url(bench.image), sha256="12" * 32)
    assert bench.card.read_bytes()[:512] == bytes(512) and bench.receipts() == []


def test_connections_that_break(bench: Bench, site: Site, sha256: Hash) -> None:
    site.cut_after = 700_000
    bench.flash(site.url(bench.image), sha256=sha256(bench.image))
    assert bench.card.read_bytes() == bench.image.read_bytes()
    assert site.requests >= 4


def test_zip_from_a_server_that_can_jump_and_one_that_cannot(bench: Bench, site: Site, sha256: Hash) -> None:
    packed = bench.folder / "board.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("board.img", bench.image.read_bytes())
    bench.flash(site.url(packed), sha256=sha256(packed))
    assert bench.card.read_bytes() == bench.image.read_bytes()
    site.ranges = False
    with pytest.raises(DataFileError, match="cannot jump"):
        bench.flash(site.url(packed), sha256=sha256(packed))
    bench.flash(site.url(bench.image), sha256=sha256(bench.image))


def test_a_server_without_the_file_and_none_at_all(bench: Bench, site: Site) -> None:
    with pytest.raises(LinkError, match="404"):
        bench.flash(site.url(bench.folder / "other.img"), sha256="0" * 64)
    site.server.server_close()
    with pytest.raises(LinkError):
        bench.flash("http://127.0.0.1:9/x.img", sha256="0" * 64)
    with pytest.raises(UsageError):
        bench.flash("ftp://127.0.0.1/x.img")
