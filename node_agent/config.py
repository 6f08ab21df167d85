"""What one agent process is told when it starts: a small JSON file written by provisioning or by `hil`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from hil_config.errors import ConfigError
from hil_config.tls import TlsFiles
from node_agent.shards.trust import NO_TRUST, Trust


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


def read_config(path: Path) -> AgentConfig:
    """The agent's configuration, or ConfigError naming the file and the field."""
    hint = "write it again with hil, or mend the field named above"
    try:
        config = msgspec.json.decode(path.read_bytes(), type=AgentConfig)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", hint) from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}", hint) from error
    if not 0.1 <= config.sample_hz <= 1000.0:
        raise ConfigError(f"{path}: sample_hz {config.sample_hz}, wanted 0.1 to 1000", hint)
    if not 1 <= config.keepalive_s <= 600:
        raise ConfigError(f"{path}: keepalive_s {config.keepalive_s}, wanted 1 to 600", hint)
    safety = config.safety
    if safety.die_stop_c and not 0.0 < safety.die_resume_c < safety.die_stop_c:
        raise ConfigError(
            f"{path}: safety.die_resume_c {safety.die_resume_c:g}, wanted above 0 and below die_stop_c "
            f"{safety.die_stop_c:g}",
            hint,
        )
    if not 0.01 <= safety.eased_duty <= 1.0:
        raise ConfigError(f"{path}: safety.eased_duty {safety.eased_duty:g}, wanted 0.01 to 1", hint)
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
    return config
