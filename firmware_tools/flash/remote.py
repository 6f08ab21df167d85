"""A file behind HTTP as a seekable binary file, one connection per jump, taken up again where it broke."""

from __future__ import annotations

import http.client
import io
import urllib.error
import urllib.request
from typing import Any

from hil_config.errors import LinkError

TIMEOUT_S = 30.0
ATTEMPTS = 4


class RemoteFile(io.RawIOBase):
    """Args: `url`, http or https. Reads through one response as long as reads follow each other.

    Raises:
        LinkError: no answer, an error answer, or the file changed while it was read.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._at = 0
        self._response: Any = None
        self._etag: str | None = None
        with self._open(0) as response:
            length = response.headers.get("Content-Length")
            self.seeks = bool(response.status == 206)
            self._etag = response.headers.get("ETag")
            total = (response.headers.get("Content-Range") or "").rpartition("/")[2]
        self.size = int(total) if total.isdigit() else int(length) if length else None

    def _open(self, offset: int) -> Any:
        request = urllib.request.Request(self.url, headers={"Range": f"bytes={offset}-", "Accept-Encoding": "identity"})
        try:
            response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            error.close()
            raise LinkError(
                f"{self.url}: the server answers {error.code} {error.reason}", "check the address"
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise LinkError(f"{self.url}: {getattr(error, 'reason', error)}", "check address and network") from error
        if offset and response.status != 206:
            response.close()
            raise LinkError(f"{self.url}: the server cannot begin at byte {offset}", "download the file first")
        if self._etag and response.headers.get("ETag") != self._etag:
            response.close()
            raise LinkError(f"{self.url}: changed while it was read", "run the command again")
        return response

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self.seeks

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size or 0}[whence]
        if begin + offset != self._at:
            self._drop()
            self._at = begin + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self.size is not None and self._at >= self.size:
            return 0
        for attempt in range(ATTEMPTS):
            try:
                if self._response is None:
                    self._response = self._open(self._at)
                count = int(self._response.readinto(buffer))
            except (OSError, http.client.HTTPException) as error:
                self._drop()
                if attempt == ATTEMPTS - 1 or not (self.seeks or self._at == 0):
                    raise LinkError(f"{self.url}: lost at byte {self._at}: {error}", "run the command again") from error
                continue
            if count == 0 and self.size is not None and self._at < self.size and attempt < ATTEMPTS - 1:
                self._drop()  # cut short: some servers just close
                continue
            self._at += count
            return count
        return 0

    def _drop(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def close(self) -> None:
        self._drop()
        super().close()
