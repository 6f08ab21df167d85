"""What transmission policies share: which links carry hidden states, and codecs in options."""

from __future__ import annotations

from ground_controller.policies.view import View
from hil_config.errors import ConfigError
from hil_config.wire.hidden_codec import CODECS, Codec


def gateway_pairs(view: View) -> tuple[tuple[int, int], ...]:
    """Directed pairs of nodes of which one may be a gateway: no other link carries hidden states of its own."""
    names = {name for piece in view.gateways for name in piece.nodes}
    gates = [index for index, node in enumerate(view.nodes) if node.name in names]
    pairs = {pair for g in gates for n in range(len(view.nodes)) if n != g for pair in ((g, n), (n, g))}
    return tuple(sorted(pairs))


def finest_codec(policy: str, name: str, default: Codec) -> Codec:
    """The codec that an option names, `default` where it is empty; ConfigError for others."""
    if not name:
        return default
    for codec in CODECS:
        if codec == name:
            return codec
    raise ConfigError(f"policy {policy}: finest is {name!r}, wanted {', '.join(CODECS)} or nothing")
