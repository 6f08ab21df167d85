"""Trees and outputs of real boards, as the kernel and the firmware present them, in a folder of their own."""

from __future__ import annotations

from pathlib import Path

from node_agent.config import AgentConfig, PowerModel, SensorSpec

ADC = """\
 3V7_WL_SW_A current(0)=0.00780744A
   3V3_SYS_A current(1)=0.06245952A
   1V8_SYS_A current(2)=0.16102850A
  DDR_VDD2_A current(3)=0.02147046A
  DDR_VDDQ_A current(4)=0.00000000A
   1V1_SYS_A current(5)=0.17566740A
    0V8_SW_A current(6)=0.32791250A
  VDD_CORE_A current(7)=0.75012000A
   3V3_DAC_A current(17)=0.00036630A
   3V3_ADC_A current(18)=0.00042735A
   0V8_AON_A current(16)=0.00579975A
      HDMI_A current(22)=0.01367520A
 3V7_WL_SW_V volt(8)=3.79999600V
   3V3_SYS_V volt(9)=3.30632200V
   1V8_SYS_V volt(10)=1.79828900V
  DDR_VDD2_V volt(11)=1.10292900V
  DDR_VDDQ_V volt(12)=0.60476130V
   1V1_SYS_V volt(13)=1.10439400V
    0V8_SW_V volt(14)=0.80256330V
  VDD_CORE_V volt(15)=0.89745940V
   3V3_DAC_V volt(20)=3.30494200V
   3V3_ADC_V volt(21)=3.30219400V
   0V8_AON_V volt(19)=0.79736190V
      HDMI_V volt(23)=5.07056000V
     EXT5V_V volt(24)=5.06788000V
      BATT_V volt(25)=3.01110800V
"""
"""A Raspberry Pi 5's `vcgencmd pmic_read_adc`: twelve rails with both, EXT5V and BATT with a voltage only."""


def write(root: Path, files: dict[str, str]) -> Path:
    """Files below `root`, each ended as the kernel ends them."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def _chip(number: int, name: str, device: str, files: dict[str, str]) -> dict[str, str]:
    folder = f"sys/class/hwmon/hwmon{number}"
    return {f"{folder}/name": name, f"{folder}/device/{device}": "", **{f"{folder}/{k}": v for k, v in files.items()}}


def _ina3221(number: int, device: str, rails: list[tuple[str, int, int]]) -> dict[str, str]:
    files = {"update_interval": "2"}
    for channel, (label, millivolts, milliamperes) in enumerate(rails, 1):
        files |= {
            f"in{channel}_label": label, f"in{channel}_input": str(millivolts),
            f"curr{channel}_input": str(milliamperes), f"shunt{channel}_resistor": "5000",
            f"curr{channel}_max": "32760", f"curr{channel}_crit": "32760",
        }  # fmt: skip
    files |= {"in7_label": "sum of shunt voltages", "in7_input": "9", "curr4_input": "2000"}
    return _chip(number, "ina3221", device, files)


def _zones(zones: list[tuple[str, str]]) -> dict[str, str]:
    files: dict[str, str] = {}
    for number, (kind, millidegrees) in enumerate(zones):
        files |= {
            f"sys/class/thermal/thermal_zone{number}/type": kind,
            f"sys/class/thermal/thermal_zone{number}/temp": millidegrees,
        }
    return files


def orin_nano(root: Path) -> Path:
    """Jetson Orin Nano: one INA3221; VDD_IN feeds the module. The cv zones are off."""
    return write(
        root,
        {
            **_chip(0, "pwmfan", "pwm-fan", {"pwm1": "96"}),
            **_ina3221(1, "1-0040", [("VDD_IN", 5008, 976), ("VDD_CPU_GPU_CV", 5008, 184), ("VDD_SOC", 5000, 288)]),
            **_zones(
                [("cpu-thermal", "48250"), ("gpu-thermal", "90000"), ("cv0-thermal", "-256000"),
                 ("soc0-thermal", "47000"), ("tj-thermal", "48437")]
            ),
        },
    )  # fmt: skip


def agx_orin(root: Path) -> Path:
    """Jetson AGX Orin: two INA3221 and no rail that feeds everything; one channel is not connected."""
    return write(
        root,
        {
            **_ina3221(
                3, "1-0040", [("VDD_GPU_SOC", 19080, 168), ("VDD_CPU_CV", 19080, 88), ("VIN_SYS_5V0", 5032, 648)]
            ),
            **_ina3221(4, "1-0041", [("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 5032, 144), ("NC", 0, 0)]),
            **_zones([("CPU-therm", "51000"), ("Tboard_tegra", "44000"), ("tj-therm", "51500")]),
        },
    )


def thor(root: Path) -> Path:
    """Jetson Thor: an INA238 at the input besides the INA3221 rails."""
    rails = [("VDD_GPU", 12000, 500), ("VDD_CPU_SOC_MSS", 12000, 400), ("VIN_SYS_5V0", 5000, 700)]
    ina238 = {"in0_input": "3", "in1_input": "19250", "in1_label": "VIN", "curr1_input": "1350",
              "power1_input": "25987500"}  # fmt: skip
    return write(root, {**_ina3221(2, "2-0040", rails), **_chip(3, "ina238", "2-0044", ina238)})


def pi_4(root: Path) -> Path:
    """Raspberry Pi 4B: a die temperature and the throttle flags; no current is measured anywhere."""
    return write(
        root,
        {
            **_chip(0, "cpu_thermal", "thermal_zone0", {"temp1_input": "51121"}),
            **_chip(1, "rpi_volt", "soc:firmware", {"in0_lcrit_alarm": "0"}),
            **_zones([("cpu-thermal", "51121")]),
            "sys/devices/platform/soc/soc:firmware/get_throttled": "50000",
        },
    )


def pi_4_with_fan(root: Path) -> Path:
    """A Pi 4 with two frequency policies and a fan."""
    for n in (0, 4):
        folder = f"sys/devices/system/cpu/cpufreq/policy{n}"
        write(
            root,
            {f"{folder}/scaling_max_freq": "1800000", f"{folder}/cpuinfo_min_freq": "600000",
             f"{folder}/cpuinfo_max_freq": "1800000"},
        )  # fmt: skip
    hwmon = "sys/class/hwmon/hwmon2"
    write(root, {f"{hwmon}/name": "pwmfan", f"{hwmon}/pwm1": "75", f"{hwmon}/pwm1_enable": "2"})
    return pi_4(root)


def x86(root: Path) -> Path:
    """A server: one package with a core plane below it."""
    folder = "sys/class/powercap/intel-rapl"
    return write(
        root,
        {
            f"{folder}:0/name": "package-0", f"{folder}:0/energy_uj": "262143000000",
            f"{folder}:0/max_energy_range_uj": "262143328850",
            f"{folder}:0:0/name": "core", f"{folder}:0:0/energy_uj": "1",
            f"{folder}:0:0/max_energy_range_uj": "262143328850",
            **_zones([("acpitz", "27800"), ("x86_pkg_temp", "61000")]),
        },
    )  # fmt: skip


def config(root: Path, *sensors: SensorSpec, hz: float = 10.0) -> AgentConfig:
    """An agent on `root` with these sensors."""
    power = PowerModel("raspberry-pi-4b", 2.7, 0.925, 4, 5.0)
    return AgentConfig(
        "alpha", "bench", "127.0.0.1", 1883, "127.0.0.1", 0, "shards", str(root / "spool"), power,
        sysfs_root=str(root), sample_hz=hz, sensors=sensors,
    )  # fmt: skip


def program(path: Path, outputs: dict[str, str], code: int = 0) -> Path:
    """An executable that answers its first argument as the firmware's tool does."""
    cases = "\n".join(f"{question}) cat <<'END'\n{text}\nEND\n;;" for question, text in outputs.items())
    refusal = """*) echo 'error=1 error_msg="Command not registered"';;"""
    path.write_text(f'#!/bin/sh\ncase "$1" in\n{cases}\n{refusal}\nesac\nexit {code}\n')
    path.chmod(0o755)
    return path
