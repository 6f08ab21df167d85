"""One HTTP request to a plug and its JSON answer; what goes wrong is a HardwareError."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from firmware_tools.power.spec import Place
from hil_config.errors import HardwareError

TIMEOUT_S = 10.0


def get_json(spec: Place, path: str) -> dict[str, Any]:
    """GET; with a password the server may ask for basic or digest authentication."""
    url = f"{spec.at.rstrip('/')}{path}"
    handlers: list[Any] = [urllib.request.ProxyHandler({})]
    password = spec.password()
    if password:
        known = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        known.add_password(None, spec.at, spec.user, password)
        handlers += [urllib.request.HTTPDigestAuthHandler(known), urllib.request.HTTPBasicAuthHandler(known)]
    place = f"board {spec.board}: plug at {spec.at}"
    try:
        with urllib.request.build_opener(*handlers).open(url, timeout=TIMEOUT_S) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        error.close()
        hint = "write its password into password_file" if error.code == 401 else "check `at` and `channel`"
        raise HardwareError(f"{place}: answers {error.code} {error.reason}", hint) from error
    except (OSError, ValueError) as error:
        raise HardwareError(f"{place}: {getattr(error, 'reason', error)}", "check its address and network") from error
    if not isinstance(answer, dict):
        raise HardwareError(f"{place}: answers {answer!r:.60}, wanted an object", "is this the right kind of plug?")
    return answer
