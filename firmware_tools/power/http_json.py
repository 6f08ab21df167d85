"""One HTTP request to a plug and its JSON answer; what goes wrong is a HardwareError."""

from __future__ import annotations

import hashlib
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from firmware_tools.power.spec import Place
from hil_config.errors import HardwareError

TIMEOUT_S = 10.0


class _Digest(urllib.request.HTTPDigestAuthHandler):
    """Shelly's plugs ask for SHA-256 (RFC 7616) and nothing else; Python's own handler does not know it everywhere."""

    def get_algorithm_impls(self, algorithm: str) -> tuple[Callable[[str], str], Callable[[str, str], str]]:
        if algorithm.upper() != "SHA-256":
            return super().get_algorithm_impls(algorithm)

        def digest(text: str) -> str:
            return hashlib.sha256(text.encode()).hexdigest()

        return digest, lambda secret, data: digest(f"{secret}:{data}")


def get_json(spec: Place, path: str) -> dict[str, Any]:
    """GET; with a password the server may ask for basic or digest authentication."""
    url = f"{spec.at.rstrip('/')}{path}"
    handlers: list[Any] = [urllib.request.ProxyHandler({})]
    password = spec.password()
    if password:
        known = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        known.add_password(None, spec.at, spec.user, password)
        handlers += [_Digest(known), urllib.request.HTTPBasicAuthHandler(known)]
    place = f"board {spec.board}: plug at {spec.at}"
    try:
        with urllib.request.build_opener(*handlers).open(url, timeout=TIMEOUT_S) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        error.close()
        hint = "write its password into password_file" if error.code == 401 else "check `at` and `channel`"
        raise HardwareError(f"{place}: answers {error.code} {error.reason}", hint) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        said = " ".join(f"{getattr(error, 'reason', error)}".split()) or type(error).__name__
        raise HardwareError(f"{place}: {said}", "check its address and network; is it this kind of plug?") from error
    if not isinstance(answer, dict):
        raise HardwareError(f"{place}: answers {answer!r:.60}, wanted an object", "is this the right kind of plug?")
    return answer
