"""`hil config` with what only the ground knows: which policies there are."""

from __future__ import annotations

from ground_controller.policies.named import check_policies
from hil_config.schema.cli import FURTHER, config

if check_policies not in FURTHER:
    FURTHER.append(check_policies)

__all__ = ["config"]
