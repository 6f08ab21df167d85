"""`module:Name`: something of the user's own where a literal table has ours."""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from hil_config.errors import ConfigError


def is_own(name: str) -> bool:
    """Does it name a module's attribute rather than one of ours?"""
    module, colon, attribute = name.partition(":")
    return bool(module and colon and attribute)


def own_code(name: str, kind: str, known: Iterable[str]) -> object:
    """What `module:Name` names; Python finds the module as it finds any (installed, or on PYTHONPATH).

    Raises:
        ConfigError: not of that form, no such module, or it lacks the name. `kind` and `known` are for its words.
    """
    hint = f"use one of {', '.join(sorted(known))}, or module:Name of your own"
    if not is_own(name):
        raise ConfigError(f"there is no {kind} {name!r}", hint)
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{kind} {name!r}: {error}", "install it, or put its folder into PYTHONPATH; else " + hint
        ) from error
    except AttributeError as error:
        raise ConfigError(f"{kind} {name!r}: {error}", hint) from error
