"""A schedule cut down to some satellites says of them what the whole one says."""

from __future__ import annotations

import numpy as np

from ground_controller.orbit.restrict import restricted
from ground_controller.preparation import prepare
from hil_config.schema.load import default_path, load_bench, load_campaign
from hil_config.wire.link_state import DOWN
from hil_config.wire.schedule_file import decode_schedule, encode_schedule


def test_kept_links_light_and_tracks_are_the_same() -> None:
    whole = prepare(load_bench(default_path("bench")), load_campaign(default_path("campaign"))).schedule
    kept = (whole.header.satellites[3], whole.header.satellites[1])
    data = encode_schedule(restricted(whole, kept))
    part = decode_schedule(data, "cut")
    assert len(data) < len(encode_schedule(whole))
    assert set(part.header.satellites) == set(kept)
    assert set(part.header.pairs) == {kept, kept[::-1]}
    for t in np.linspace(0.0, whole.duration_s, 41).tolist():
        assert part.link(*kept, t) == whole.link(*kept, t)
        assert not part.link(kept[0], whole.header.satellites[0], t).up
        for name in kept:
            assert part.illumination(name, t) == whole.illumination(name, t)
    at = [whole.header.satellites.index(name) for name in part.header.satellites]
    times = np.array([0.0, 30.0])
    assert (part.position_km(times) == whole.position_km(times)[:, at]).all()


def test_a_node_may_be_told_of_its_own_links_only() -> None:
    whole = prepare(load_bench(default_path("bench")), load_campaign(default_path("campaign"))).schedule
    names = whole.header.satellites
    part = decode_schedule(encode_schedule(restricted(whole, names, names[0])), "cut")
    assert part.header.satellites == names
    own = {pair for pair in whole.header.pairs if names[0] in pair}
    assert set(part.header.pairs) == own and own < set(whole.header.pairs)
    for a, b in whole.header.pairs:
        assert part.link(a, b, 30.0) == (whole.link(a, b, 30.0) if (a, b) in own else DOWN)
