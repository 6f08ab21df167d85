"""Places and parties of a bench that are not free, or lack what their kind needs."""

from __future__ import annotations

import pytest

from hil_config.schema.load import load_bench
from tests.config.conftest import Write, refusal


@pytest.mark.parametrize(
    ("one", "other", "refused"),
    [
        ("power: {via: scpi, at: /dev/k, channel: 2}", "power: {via: scpi, at: /dev/k}", True),
        ("meter: {via: scpi, at: /dev/k, channel: 3}", "power: {via: scpi, at: /dev/k}", True),
        ("power: {via: scpi, at: /dev/k, channel: 2}", "meter: {via: scpi, at: /dev/k}", True),
        ("power: {via: scpi, at: /dev/k, channel: 2}", "power: {via: scpi, at: /dev/l}", False),
        ("power: {via: scpi, at: /dev/k, channel: 1}", "meter: {via: scpi, at: /dev/k}", False),
        ("power: {via: shelly, at: 'http://p', channel: 2}", "meter: {via: shelly, at: 'http://p'}", False),
    ],
)
def test_an_output_that_nobody_selects_is_the_one_of_another_board(
    write: Write, one: str, other: str, refused: bool
) -> None:
    rows = [f"  - {{name: {name}, profile: local-process, {what}}}\n" for name, what in (("a", one), ("b", other))]
    path = write("bench: lab\nboards:\n" + "".join(rows))
    if refused:
        message = refusal(path).message
        assert message.startswith(f"{path}:4:") and "is named for board a" in message
    else:
        load_bench(path)


@pytest.mark.parametrize("name", ["broker", "monitor"])
def test_a_board_has_no_name_that_another_party_has_a_certificate_for(write: Write, name: str) -> None:
    text = f"bench: lab\nidentity: i\nboards:\n  - {{name: {name}, profile: local-process}}\n"
    assert f"4:12: boards[0].name: found '{name}', whose certificate" in refusal(write(text)).message
    load_bench(write(text.replace("identity: i\n", "")))


CONSOLE = "console: {port: 'socket://127.0.0.1:9'}"


@pytest.mark.parametrize(
    ("more", "where", "words"),
    [
        (f"kind: virtual, {CONSOLE}", "3:5", "disk: a board with `via: virtual` wants `disk.file`"),
        (f"kind: virtual, {CONSOLE}, disk: {{serial: S}}", "3:125", "disk: a board with `via: virtual` wants"),
        ("kind: virtual, disk: {file: a.img}", "3:5", "console: a board with `via: virtual` wants a console on a"),
        (f"kind: debian, {CONSOLE}, disk: {{file: a.img}}", "3:53", "power.via: found 'virtual' for a board of kind d"),
        *((f"kind: virtual, disk: {{file: a.img}}, console: {{port: '{port}'}}", "3:108", "console: a board with `via")
          for port in ("socket://127.0.0.1:abc", "socket://127.0.0.1:70000", "socket://10.0.0.1:1", "/dev/x")),
    ],
)  # fmt: skip
def test_an_emulated_board_has_what_its_emulator_wants(write: Write, more: str, where: str, words: str) -> None:
    path = write(f"bench: lab\nboards:\n  - {{name: a, profile: raspberry-pi-5, power: {{via: virtual}}, {more}}}\n")
    assert refusal(path).message.startswith(f"{path}:{where}: boards[0].{words}")


def test_emulated_boards_are_switched_apart(write: Write) -> None:
    rows = [
        f"  - {{name: {name}, profile: raspberry-pi-5, kind: virtual, data_port: {at}, disk: {{file: {name}.img}},"
        f" console: {{port: 'socket://127.0.0.1:{at}'}}, power: {{via: virtual}}}}\n"
        for name, at in (("a", 9), ("b", 10))
    ]
    load_bench(write("bench: lab\nboards:\n" + "".join(rows)))
