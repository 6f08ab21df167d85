"""What is wrong with a bench file is told with file:line:column, key, what was found and what is wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil_config.schema.load import load_bench
from tests.config.conftest import Write, refusal

GOOD = """\
bench: lab
broker:
  host: 127.0.0.1
  port: 0
boards:
  - name: alpha
    profile: local-process
  - {name: bravo, profile: local-process}
"""

PORT = "a whole number from 0 to 65535"


def test_good_file(write: Write) -> None:
    bench = load_bench(write(GOOD))
    assert [board.name for board in bench.boards] == ["alpha", "bravo"]
    assert (bench.broker.host, bench.broker.port) == ("127.0.0.1", 0)
    assert (bench.boards[1].address, bench.boards[1].data_port) == ("127.0.0.1", 0)


@pytest.mark.parametrize(
    ("old", "new", "where", "words"),
    [
        ("broker:", "brokr:", "2:1", "brokr: unknown key; did you mean broker?"),
        ("  port: 0", "  prot: 0", "4:3", "broker.prot: unknown key; did you mean port?"),
        ("profile: local-process}", "Profile: local-process}", "8:19",
         "boards[1].Profile: unknown key; did you mean profile?"),
        ("  port: 0", "  zzz: 0", "4:3", "broker.zzz: unknown key"),
        ("port: 0", "port: 70000", "4:9", "broker.port: found 70000, wanted PORT"),
        ("port: 0", "port: -1", "4:9", "broker.port: found -1, wanted PORT"),
        ("port: 0", "port: '0'", "4:9", "broker.port: found '0', wanted PORT"),
        ("port: 0", "port: 1.5", "4:9", "broker.port: found 1.5, wanted PORT"),
        ("port: 0", "port: true", "4:9", "broker.port: found true, wanted PORT"),
        ("port: 0", "port: .nan", "4:9", "broker.port: found nan, wanted PORT"),
        ("port: 0", "port:", "4:3", "broker.port: found nothing (null), wanted PORT"),
        ("port: 0", "port: [1]", "4:9", "broker.port: found a list of 1, wanted PORT"),
        ("port: 0", "port: {a: 1}", "4:9", "broker.port: found a mapping, wanted PORT"),
        ("bench: lab", "bench: a/b", "1:8", "bench: found 'a/b', wanted 1 to 63 letters, digits, - and _"),
        ("bench: lab", "bench: 7", "1:8", "bench: found 7, wanted 1 to 63 letters, digits, - and _"),
        ("bench: lab\n", "", "1:1", "bench: missing, wanted 1 to 63 letters"),
        ("    profile: local-process\n", "", "6:5", "boards[0].profile: missing, wanted a text"),
        ("  host: 127.0.0.1", "  host: 10.0.0.1", "3:9",
         "broker.host: found '10.0.0.1', wanted 127.0.0.1 or"),
        ("name: bravo,", "name: bravo, address: 192.168.1.7,", "8:28",
         "boards[1].address: found '192.168.1.7', wanted 127.0.0.1 or localhost: without TLS"),
        ("name: bravo", "name: alpha", "8:12",
         "boards[1].name: found 'alpha', which is already the name of boards[0]"),
        ("name: bravo", "name: ground", "8:12",
         "boards[1].name: found 'ground', which is the controller's own name"),
        ("profile: local-process}", "profile: local-proces}", "8:28",
         "boards[1].profile: found 'local-proces', wanted a board profile; did you mean local-process?"),
        ("  host: 127.0.0.1\n", "  host: 127.0.0.1\n  host: ::1\n", "4:3",
         "broker.host: written twice, first at line 3, column 3"),
        ("  port: 0", "  port: !!binary aGVq", "4:9",
         "broker.port: the tag tag:yaml.org,2002:binary is not used here"),
        ("  port: 0", "  port: !!int many", "4:9", "broker.port: 'many' is not a value of type int"),
        ("  port: 0", "  [1, 2]: 0", "4:3", "broker: a key that is itself a list or mapping"),
        ("  port: 0", "\tport: 0", "4:1", "not valid YAML: found character"),
        ("  port: 0", "  port: 0\n bad: 1", "5:2", "not valid YAML: expected <block end>"),
        ("  port: 0", "  port: \x07", "4:9", "not valid YAML: the character U+0007 is not allowed"),
        ("  port: 0", "  port: \udcff", "4:9", "is not UTF-8 text"),
    ],
)  # fmt: skip
def test_place_and_words(write: Write, old: str, new: str, where: str, words: str) -> None:
    assert GOOD.count(old) >= 1
    before, _, after = GOOD.rpartition(old) if "bravo" in old or "}" in old else GOOD.partition(old)
    path = write(before + new + after)
    message = refusal(path).message
    assert message.startswith(f"{path}:{where}: ")
    assert message.removeprefix(f"{path}:{where}: ").startswith(words.replace("PORT", PORT))


def test_every_mistake_is_told_in_the_order_of_the_file(write: Write) -> None:
    path = write(GOOD.replace("port: 0", "port: x\n  speed: 1").replace("- name: alpha", "- name: 5"))
    error = refusal(path)
    places = [line.split(": ")[0].removeprefix(f"{path}:") for line in error.message.splitlines()]
    assert places == ["4:9", "5:3", "7:11"]
    assert error.hint == "broker.port: TCP port; 0 takes any free one."


def test_two_boards_may_not_share_a_port(write: Write) -> None:
    path = write(
        "bench: lab\nbroker: {port: 1883}\nboards:\n"
        "  - {name: a, profile: local-process, data_port: 7001}\n"
        "  - {name: b, profile: local-process, data_port: 7001}\n"
    )
    assert refusal(path).message == (f"{path}:5:50: boards[1].data_port: found 7001, which board a has already")
    path = write("bench: lab\nbroker: {port: 1883}\nboards: [{name: a, profile: local-process, data_port: 1883}]")
    assert "which the broker has already" in refusal(path).message


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("", "1:1", "the file is empty"),
        ("# nothing\n", "1:1", "the file is empty"),
        ("- a\n", "1:1", "found a list of 1, wanted a mapping with the keys bench, broker, ground_port"),
        ("words", "1:1", "found 'words', wanted a mapping"),
        ("bench: a\nboards: []\n", "2:9", "boards: found a list of 0, wanted a list of 1 to 2048 entries"),
        ("bench: a\nboards: [5]\n", "2:10",
         "boards[0]: found 5, wanted a mapping with the keys name, profile"),
        ("bench: a\nboards: {}\n", "2:9", "boards: found a mapping, wanted a list of 1 to 2048 entries"),
        ("a: 1\n---\nb: 2\n", "2:1", "not valid YAML: but found another document"),
        ("a: *b\n", "1:4", "not valid YAML: found undefined alias"),
        ("a: &a [*a]\n", "1:1", "not usable: nested too deeply"),
        ("[" * 5000, "1:1", "not usable: nested too deeply"),
    ],
)  # fmt: skip
def test_whole_files(write: Write, text: str, where: str, words: str) -> None:
    path = write(text)
    assert refusal(path).message.startswith(f"{path}:{where}: {words}")


def test_aliases(write: Write) -> None:
    path = write("bench: &n lab\nboards:\n  - {name: &n x, profile: &p local-process}\n  - {name: y, profile: *p}\n")
    assert [board.profile for board in load_bench(path).boards] == ["local-process"] * 2


def test_aliases_that_multiply_are_stopped(write: Write) -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert "more than 50000 values" in refusal(write("\n".join(lines))).message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "no.yaml"
    assert refusal(path).message == f"{path}: cannot be read: No such file or directory"
    assert refusal(tmp_path).message == f"{tmp_path}: cannot be read: Is a directory"


def test_a_file_that_is_too_large(write: Write) -> None:
    assert "is larger than 1048576 bytes" in refusal(write("#" * (1 << 20) + "\n")).message


def test_more_than_ten_mistakes_are_counted(write: Write) -> None:
    path = write(GOOD + "".join(f"key{i}: 1\n" for i in range(12)))
    assert refusal(path).message.splitlines()[-1] == "and 2 more"


HARDWARE = """\
bench: lab
identity: keys
boards:
  - name: alpha
    profile: raspberry-pi-5
    kind: raspberry-pi
    address: 192.168.1.7
    disk: {serial: "0x1234abcd"}
    power: {via: shelly, at: "http://192.168.2.9", channel: 0, password_file: keys/plug}
  - {name: bravo, profile: local-process, kind: virtual, disk: {file: bravo.img, size_gb: 4}}
"""


def test_hardware(write: Write) -> None:
    path = write(HARDWARE)
    bench = load_bench(path)
    alpha, bravo = bench.boards
    assert bench.identity == str(path.parent / "keys")
    assert alpha.disk is not None and (alpha.disk.named_by, alpha.disk.stable_id) == ("serial", "0x1234abcd")
    assert alpha.power is not None and alpha.power.password_file == str(path.parent / "keys" / "plug")
    assert bravo.disk is not None and bravo.disk.stable_id == str(path.parent / "bravo.img")


@pytest.mark.parametrize(
    ("old", "new", "where", "words"),
    [
        ('{serial: "0x1234abcd"}', "{}", "8:11", "boards[0].disk: found no name, wanted exactly one of serial, wwn"),
        ('"0x1234abcd"}', '"1", wwn: "2"}', "8:11", "boards[0].disk: found serial and wwn, wanted exactly one"),
        ("file: bravo.img, size_gb: 4", 'serial: "0x1234abcd"', "10:73", "boards[1].disk.serial: found '0x1234abcd'"),
        (", channel: 0", ", channel: -1", "9:61", "boards[0].power.channel: found -1"),
        ("via: shelly", "via: shely", "9:18", "boards[0].power.via: found 'shely', wanted one of command"),
        ('shelly, at: "http://192.168.2.9"', "uhubctl", "9:12", "boards[0].power: via uhubctl wants `at`"),
        ("identity: keys\n", "", "6:14", "boards[0].address: found '192.168.1.7', wanted 127.0.0.1"),
    ],
)
def test_hardware_refused(write: Write, old: str, new: str, where: str, words: str) -> None:
    assert HARDWARE.count(old) == 1
    path = write(HARDWARE.replace(old, new))
    assert refusal(path).message.startswith(f"{path}:{where}: {words}")


SSH = "ssh: {host: h, key_file: k, host_key_file: h}"


@pytest.mark.parametrize(
    ("way", "other", "refused"),
    [
        ("console: {port: /dev/a}", "console: {port: /dev/a, baud: 9600}", True),
        ("console: {port: /dev/a}", "console: {port: /dev/b}", False),
        ("ssh: {host: h, key_file: k, host_key_file: h}", "ssh: {host: h, key_file: k, host_key_file: i}", True),
        (
            "ssh: {host: h, key_file: k, host_key_file: h}",
            "ssh: {host: h, port: 23, key_file: k, host_key_file: h}",
            False,
        ),
    ],
)
def test_a_way_in_leads_to_one_board(write: Write, way: str, other: str, refused: bool) -> None:
    rows = [f"  - {{name: {name}, profile: local-process, {one}}}\n" for name, one in (("a", way), ("b", other))]
    path = write("bench: lab\nboards:\n" + "".join(rows))
    section = way.partition(":")[0]
    if refused:
        words = (
            f"{path}:4:{rows[1].index(other) + len(section) + 3}: boards[1].{section}: found what board a has already"
        )
        assert refusal(path).message == words
    else:
        load_bench(path)


@pytest.mark.parametrize(
    ("one", "other", "refused"),
    [
        ("power: {via: shelly, at: 'http://p'}", "power: {via: shelly, at: 'http://p/', channel: 0}", True),
        ("power: {via: shelly, at: 'http://p', channel: 0}", "power: {via: shelly, at: 'http://p', channel: 1}", False),
        ("power: {via: tasmota, at: 'http://p'}", "power: {via: tasmota, at: 'http://p', channel: 1}", True),
        ("power: {via: korad, at: /dev/k, channel: 1}", "power: {via: korad, at: /dev/k, channel: 2}", True),
        ("power: {via: scpi, at: /dev/k}", "power: {via: scpi, at: /dev/k, channel: 1}", True),
        ("power: {via: uhubctl, at: 1-1, channel: 2}", "power: {via: uhubctl, at: 1-1, channel: 3}", False),
        ("power: {via: command, on_command: [n], off_command: [f]}",
         "power: {via: command, on_command: [n], off_command: [f], status_command: [s]}", True),
        ("power: {via: 'mine:Switch', at: x}", "power: {via: 'mine:Switch', at: x}", False),
        ("meter: {via: shelly, at: 'http://p'}", "meter: {via: shelly, at: 'http://p', channel: 0}", True),
        ("meter: {via: scpi, at: /dev/k, channel: 1}", "meter: {via: scpi, at: /dev/k, channel: 2}", False),
        ("meter: {via: agent}", "meter: {via: agent, at: a}", True),
        ("meter: {via: agent}", "meter: {via: agent}", False),
        ("mac: '2c:cf:67:00:00:0a'", "mac: '2c:cf:67:00:00:0a'", True),
    ],
)  # fmt: skip
def test_a_channel_and_a_network_port_are_one_boards(write: Write, one: str, other: str, refused: bool) -> None:
    rows = [f"  - {{name: {name}, profile: local-process, {what}}}\n" for name, what in (("a", one), ("b", other))]
    path = write("bench: lab\nboards:\n" + "".join(rows))
    section = one.partition(":")[0]
    if refused:
        message = refusal(path).message
        assert message.startswith(f"{path}:4:{rows[1].index(other) + len(section) + 3}: boards[1].{section}: found the")
        assert "board a" in message
    else:
        load_bench(path)


def test_two_real_boards_may_not_share_address_and_port(write: Write) -> None:
    text = "bench: lab\nidentity: i\nboards:\n" + "".join(
        f"  - {{name: {name}, profile: local-process, kind: debian, address: {address}, data_port: 7001}}\n"
        for name, address in (("a", "Pi.bench"), ("b", "192.168.1.8"), ("c", "pi.bench"))
    )
    assert "boards[2].data_port: found 7001, which board a has already" in refusal(write(text)).message
    load_bench(write(text.replace("pi.bench, data_port: 7001", "pi.bench, data_port: 7002")))


@pytest.mark.parametrize("host", ["alpha..bench", ".bench", "a" * 64 + ".bench"])
def test_a_host_that_no_resolver_takes(write: Write, host: str) -> None:
    row = f"{{name: a, profile: local-process, ssh: {{host: {host}, key_file: k, host_key_file: h}}}}"
    path = write(f"bench: lab\nboards:\n  - {row}\n")
    assert refusal(path).message.startswith(f"{path}:3:{5 + row.index(host)}: boards[0].ssh.host: found '")
    assert "wanted an address, or a name" in refusal(path).message


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("port: 0", "port: 0x" + "f" * 5000, "broker.port: '0xffff"),
        ("profile: local-process\n", 'profile: "a\\0b.yaml"\n', "boards[0].profile: holds the character U+0000"),
        ("broker:", '"\\e[2J":', r"'\x1b[2J': unknown key"),
    ],
)
def test_what_cannot_be_shown_or_opened(write: Write, old: str, new: str, words: str) -> None:
    message = refusal(write(GOOD.replace(old, new, 1))).message
    assert words in message and message.replace("\n", "").isprintable()
