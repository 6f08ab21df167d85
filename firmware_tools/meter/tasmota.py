"""Plugs with Tasmota and a meter (tasmota.github.io/docs/Commands, `Status 8`: StatusSNS.ENERGY.Power, W).

`Power` is a number, or a list with one number for each outlet, which count from 1.
"""

from __future__ import annotations

from urllib.parse import quote, urlencode

from firmware_tools.meter.spec import Meter
from firmware_tools.power.http_json import get_json
from hil_config.errors import HardwareError


def watts(spec: Meter) -> float:
    query = {"cmnd": "Status 8"}
    if spec.password_file:
        query = {"user": spec.user, "password": spec.password(), **query}
    answer = get_json(spec, f"/cm?{urlencode(query, quote_via=quote)}")
    try:
        power = answer["StatusSNS"]["ENERGY"]["Power"]
        return float(power[(spec.channel or 1) - 1] if isinstance(power, list) else power)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise HardwareError(
            f"board {spec.board}: plug at {spec.at} says {answer!r:.80}, wanted StatusSNS.ENERGY.Power",
            "check `channel` and password; has this plug a meter?",
        ) from error
