"""Who reaches whom where, when some boards are emulated."""

from __future__ import annotations

from pathlib import Path

import pytest

from ground_controller.fleet.sight import Sight, check_sight
from hil_config.errors import ConfigError
from hil_config.schema.bench import Bench
from hil_config.schema.load import load_bench

SAID = {"alpha": "10.0.2.15:7070", "bravo": "127.0.0.1:40001", "charlie": "10.0.2.15:7070", "ground": "127.0.0.1:40009"}


def bench(folder: Path, kinds: tuple[str, str, str], ground_port: int = 40009, data_port: int = 40001) -> Bench:
    lines = ["bench: lab", "identity: identity", "broker: {port: 40008}", f"ground_port: {ground_port}", "boards:"]
    for index, (name, kind) in enumerate(zip(("alpha", "bravo", "charlie"), kinds, strict=True)):
        port = data_port and data_port + index - 1
        lines.append(f"  - {{name: {name}, profile: local-process, kind: {kind}, data_port: {port}}}")
    file = folder / "bench.yaml"
    file.write_text("\n".join(lines) + "\n")
    return load_bench(file)


def test_guests_are_reached_at_what_is_forwarded_and_reach_others_inside(tmp_path: Path) -> None:
    sight = Sight(bench(tmp_path, ("virtual", "local", "virtual")))
    seen = {**SAID, "alpha": "127.0.0.1:40000", "charlie": "127.0.0.1:40002"}
    assert sight.outside(SAID) == seen
    assert sight.seen_by("bravo", SAID) == seen
    assert sight.seen_by("alpha", SAID) == {
        "alpha": "10.0.2.15:7070", "bravo": "10.0.2.102:7070", "charlie": "10.0.2.103:7070", "ground": "10.0.2.99:7070",
    }  # fmt: skip


def test_boards_that_say_where_they_are_are_reached_there(tmp_path: Path) -> None:
    sight = Sight(bench(tmp_path, ("debian", "local", "jetson")))
    assert sight.outside(SAID) == sight.seen_by("alpha", SAID) == SAID
    assert not sight.emulated


@pytest.mark.parametrize(
    ("kinds", "ports", "words"),
    [
        (("virtual", "local", "debian"), (40009, 40001), "board alpha is virtual and board charlie is debian"),
        (("virtual", "local", "local"), (0, 40001), "it reaches the controller at a port that is forwarded"),
        (("virtual", "local", "local"), (40009, 0), "board alpha has data_port 0"),
    ],
)
def test_what_could_not_be_reached_is_refused(
    tmp_path: Path, kinds: tuple[str, str, str], ports: tuple[int, int], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        check_sight(bench(tmp_path, kinds, *ports))
