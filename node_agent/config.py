"""What one agent process is told when it starts: a small JSON file written by provisioning or by `hil`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from hil_config.errors import ConfigError
from hil_config.tls import TlsFiles
from hil_config.wire import topics
from node_agent.log import LEVELS
from node_agent.shards.trust import NO_TRUST, Trust
from node_agent.wake_latency import AS_IT_IS


class PowerModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Coefficients of the modelled board power (see `sensors/cpu_power_model.py`)."""

    profile: str
    idle_w: float
    per_core_w: float
    cores: int
    cpu_scale: float


class SensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One sensor to look for. `driver` is a name of the table in `sensors/registry.py`.

    `where` is a root path, program or port (empty: the usual place), `hz` the wanted rate (0: the agent's),
    `shunt_ohm` the resistance of an external shunt.
    """

    driver: str
    where: str = ""
    hz: float = 0.0
    shunt_ohm: float = 0.0


class SafetyLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Cut-offs on the board (see `safety.py`); 0 switches one off.

    `silence_s`: after so long without a word from the ground the duty is `eased_duty`, as when the firmware throttles.
    """

    die_stop_c: float = 0.0
    die_resume_c: float = 0.0
    silence_s: float = 0.0
    eased_duty: float = 0.25


DEFAULT_SENSORS = (SensorSpec("thermal_zone"), SensorSpec("process"))


class AgentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`sysfs_root` is / on a board; tests point it at a copied tree. `tls` is for broker and peers alike.

    `trust`: whose signature a model must have, and where the versions served are remembered. `trunk_threads`:
    processor threads of a trunk step (an expert has one); `head_threads`: of the head. 0 goes by their size.
    `shard_budget_bytes`: of shard files open at once; 0 is no limit. `provider`: where sessions run; CUDA is taken
    only if it computes (`shards/providers.py`). `grouping`: several experts in one session where that is faster
    (`shards/groups.py`).
    `keepalive_s`: silent for half as long again, this node is gone, and the broker tells the others.
    `command_key`: the controller's public key; with it only signed orders are taken. `frame_log`: folder for the
    delay of every single frame, or empty. `data_interface`: there the kernel's netem shapes, instead of the agent.
    `wake_latency_us`: the longest a sleeping core may take to wake up (`wake_latency.py`); -1 asks for nothing.
    """

    node: str
    bench: str
    broker_host: str
    broker_port: int
    data_host: str
    data_port: int
    shards: str
    spool: str
    power_model: PowerModel
    sysfs_root: str = "/"
    sample_hz: float = 10.0
    keepalive_s: int = 5
    max_spool_bytes: int = 256 << 20
    tls: TlsFiles | None = None
    command_key: str = ""
    frame_log: str = ""
    data_interface: str = ""
    sensors: tuple[SensorSpec, ...] = DEFAULT_SENSORS
    trust: Trust = NO_TRUST
    trunk_threads: int = 0
    head_threads: int = 0
    shard_budget_bytes: int = 0
    provider: Literal["cpu", "cuda", "auto"] = "cpu"
    cuda_arena_bytes: int = 2 << 30
    safety: SafetyLimits = SafetyLimits()
    log_level: str = "info"
    grouping: bool = True
    wake_latency_us: int = AS_IT_IS


_HINT = "mend the field named above: docs/reference/agent-file.md has them all"


def read_config(path: Path) -> AgentConfig:
    """The agent's configuration, or ConfigError naming the file and the field."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}",
            "give the agent's file, for one board: docs/reference/agent-file.md",
        ) from error
    try:
        config = msgspec.json.decode(data, type=AgentConfig)
    except ValueError as error:
        raise ConfigError(f"{path}: {_placed(str(error), data)}", _HINT) from error
    for field, value, good, wanted in (*_ranges(config), *_names(config)):
        if not good:
            raise ConfigError(f"{path}: {field} {value!r}, wanted {wanted}", _HINT)
    _check_safety(path, config)
    _check_trust(path, config)
    return config


def _placed(problem: str, data: bytes) -> str:
    """Line and column instead of msgspec's byte; of a file that ends too early the last ones."""
    found = re.search(r"\(byte (\d+)\)", problem)
    if found is None and "truncated" not in problem:
        return problem
    before = data[: int(found[1])] if found else data
    line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
    return f"{problem if found is None else problem.replace(found[0], '').rstrip()} (line {line}, column {column})"


Rule = tuple[str, object, bool, str]
"""Field, its value, whether it can be, and what was wanted."""


def _ranges(config: AgentConfig) -> Iterator[Rule]:
    def between(field: str, least: float, most: float) -> Rule:
        value = config
        for part in field.split("."):
            value = getattr(value, part)
        number: Any = value
        return field, number, least <= number <= most, f"{least:g} to {most:g}"

    yield between("broker_port", 1, 65_535)
    yield between("data_port", 0, 65_535)
    yield between("sample_hz", 0.1, 1000.0)
    yield between("keepalive_s", 1, 600)
    yield between("max_spool_bytes", 4096, 1 << 50)
    yield between("trunk_threads", 0, 256)
    yield between("head_threads", 0, 256)
    yield between("shard_budget_bytes", 0, 1 << 50)
    yield between("cuda_arena_bytes", 0, 1 << 50)
    yield between("wake_latency_us", AS_IT_IS, 100_000)
    yield between("safety.eased_duty", 0.01, 1.0)
    yield between("safety.silence_s", 0.0, 1e9)
    yield between("power_model.idle_w", 0.0, 500.0)
    yield between("power_model.per_core_w", 0.0, 500.0)
    yield between("power_model.cores", 1, 4096)
    yield between("power_model.cpu_scale", 1e-9, 1e9)
    for at, sensor in enumerate(config.sensors):
        good = 0.0 <= sensor.hz <= 1000.0 and 0.0 <= sensor.shunt_ohm <= 1e6
        yield f"sensors[{at}]", (sensor.hz, sensor.shunt_ohm), good, "hz 0 to 1000 and shunt_ohm 0 or above"


def _names(config: AgentConfig) -> Iterator[Rule]:
    for field in ("node", "bench"):
        name = getattr(config, field)
        yield field, name, topics.NAME.match(name) is not None, "letters, digits, - and _ (they are topics and folders)"
    for field in config.__struct_fields__:
        text = getattr(config, field)
        if isinstance(text, str):
            yield field, text, "\0" not in text, "text without a null byte"
    for field in ("broker_host", "data_host"):
        host = getattr(config, field)
        yield field, host, _is_host(host), "a name or an address"
    yield "spool", config.spool, bool(config.spool), "a folder that this board may write to"
    yield "log_level", config.log_level, config.log_level in LEVELS, f"one of {', '.join(LEVELS)}"
    if config.tls is not None:
        for part in config.tls.__struct_fields__:
            file = getattr(config.tls, part)
            if isinstance(file, str) and part != "crl":
                yield f"tls.{part}", file, bool(file), "a file of this board's identity"


def _is_host(host: str) -> bool:
    try:
        return bool(host.encode("idna"))
    except UnicodeError:  # which whoever dials would meet instead of a network error
        return False


def _check_safety(path: Path, config: AgentConfig) -> None:
    safety = config.safety
    if safety.die_stop_c and not 0.0 < safety.die_resume_c < safety.die_stop_c:
        raise ConfigError(
            f"{path}: safety.die_resume_c {safety.die_resume_c:g}, wanted above 0 and below die_stop_c "
            f"{safety.die_stop_c:g}",
            _HINT,
        )


def _check_trust(path: Path, config: AgentConfig) -> None:
    """What an agent that others can reach must have."""
    loopback = {"127.0.0.1", "localhost"}
    for field, host in (("broker_host", config.broker_host), ("data_host", config.data_host)):
        if config.tls is None and host not in loopback:
            raise ConfigError(
                f"{path}: {field} {host!r}: without TLS an agent talks on loopback only",
                "use 127.0.0.1, or enrol the board and name its certificates under tls",
            )
    if config.tls is not None and not config.command_key:
        raise ConfigError(f"{path}: tls without command_key: anybody's orders would be taken", "enrol the board again")
    if not config.trust.keys and config.data_host not in loopback:
        raise ConfigError(
            f"{path}: trust.keys is empty: only an agent on loopback may serve unsigned models",
            "name the public key of whoever signs the models: hil models keygen",
        )
