"""The `hil` command: what its exit codes and messages are, and that it imports only what it uses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import click
import pytest

from hil_config import door, errors
from hil_config.schema.load import default_path

ROOTS = (
    "click",
    "numpy",
    "pydantic",
    "ruamel",
    "rich",
    "onnxruntime",
    "ground_controller",
    "models",
    "firmware_tools",
)


@pytest.fixture
def act(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], int]:
    """Runs `hil probe`, which does what it is given."""

    def run(action: Callable[[], object]) -> int:
        module = types.ModuleType("probe_module")
        module.probe = click.command()(action)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "probe_module", module)
        monkeypatch.setitem(door.GROUPS, "probe", ("probe_module:probe", "Test."))
        return door.run(["probe"])

    return run


def failing(error: BaseException) -> Callable[[], NoReturn]:
    def action() -> NoReturn:
        raise error

    return action


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.UsageError, 2),
        (errors.ConfigError, 3),
        (errors.DataFileError, 4),
        (errors.ArtefactError, 5),
        (errors.HardwareError, 6),
        (errors.LinkError, 7),
        (errors.ProtocolError, 8),
        (errors.RemoteProtocolError, 8),
        (errors.LocalProtocolError, 8),
        (errors.EnvironmentFault, 9),
        (errors.InvalidRunError, 10),
        (errors.SafetyRefusal, 11),
        (errors.HilError, 70),
    ],
)
def test_exit_code_and_message(
    act: Callable[..., int], kind: type[errors.HilError], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert act(failing(kind("it broke", "mend it"))) == code
    captured = capsys.readouterr()
    assert captured.err == "error: it broke\n  hint: mend it\n"
    assert captured.out == ""


def test_no_hint_no_line(act: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    act(failing(errors.LinkError("lost")))
    assert capsys.readouterr().err == "error: lost\n"


def test_interrupt(act: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert act(failing(KeyboardInterrupt())) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_unexpected_error_is_shown_whole(act: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert act(failing(ZeroDivisionError("x"))) == 70
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-2] == "ZeroDivisionError: x"
    assert lines[-1].startswith("error: unexpected")
    assert "please report" in lines[-1]


def test_missing_library(act: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert act(failing(ModuleNotFoundError("No module named 'sgp4.api'", name="sgp4.api"))) == 9
    message = capsys.readouterr().err
    assert message.startswith("error: the Python package that provides 'sgp4' is not installed in ")
    assert f"  hint: {sys.executable} -m pip install 'spacemoe-hil[ground]'\n" in message


def test_missing_module_of_ours_is_a_defect(act: Callable[..., int]) -> None:
    assert act(failing(ModuleNotFoundError("no", name="ground_controller.lost"))) == 70


def test_reader_that_has_gone_is_no_error(act: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[tuple[int, int]] = []
    monkeypatch.setattr("os.dup2", lambda a, b: moved.append((a, b)))
    monkeypatch.setattr("os.open", lambda *_: 99)
    monkeypatch.setattr("sys.stdout", types.SimpleNamespace(fileno=lambda: 1, flush=failing(BrokenPipeError())))
    assert act(lambda: None) == 0
    assert moved == [(99, 1)]


def test_command_may_choose_its_code(act: Callable[..., int]) -> None:
    assert act(lambda: click.get_current_context().exit(9)) == 9
    assert act(lambda: None) == 0


@pytest.mark.parametrize(
    ("arguments", "words", "hint"),
    [
        (["nope"], "No such command 'nope'", "hil --help"),
        (["--nope"], "No such option", "hil --help"),
        (["config", "chek"], "No such command 'chek'", "hil config --help"),
        (["config", "check"], "Missing argument 'FILE...'", "hil config check --help"),
        ([], "hil: which command?", "hil --help"),
        (["config"], "hil config: which command?", "hil config --help"),
    ],
)
def test_usage_errors(arguments: list[str], words: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert door.run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {words}")
    assert captured.err.endswith(f"  hint: {hint}\n")


def run_hil(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hil_config.door", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(("encoding", "shown"), [("utf-8", "\u00e9\u25cf".encode()), ("latin-1", b"\xe9?")])
def test_what_cannot_be_shown_ends_no_command(tmp_path: Path, encoding: str, shown: bytes) -> None:
    file = tmp_path / os.fsdecode(b"no text \xff, \xc3\xa9\xe2\x97\x8f.yaml")
    file.write_bytes(default_path("bench").read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "hil_config.door", "config", "check", str(file)],
        capture_output=True, timeout=60, check=False, env={**os.environ, "PYTHONIOENCODING": encoding},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"no text \xff, " + shown + b".yaml: bench demo" in done.stdout


def test_an_old_python_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 13, "final", 0))
    assert door.run(["top"]) == errors.EnvironmentFault.exit_code
    assert "wants Python 3.11 or newer" in capsys.readouterr().err


def test_as_a_module() -> None:
    done = run_hil("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for name, (_, line) in door.GROUPS.items():
        assert f"  {name}" in done.stdout
        assert line in done.stdout
    version = run_hil("--version")
    assert (version.returncode, version.stdout.split()[0]) == (0, "hil")
    assert run_hil("nope").returncode == 2


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_imports_click_and_nothing_else(argument: str) -> None:
    code = (
        "import json, sys\nfrom hil_config import door\n"
        f"code = door.run([{argument!r}])\n"
        f"print(json.dumps([code, [name for name in {ROOTS!r} if name in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [0, ["click"]]


@pytest.mark.parametrize("name", sorted(door.GROUPS))
def test_every_group_resolves_and_describes_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert door.run([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: hil {name} ")


def test_help_of_a_group_wraps_and_cuts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    door.run(["study", "--help"])
    assert "Seconds a token under the four placement rules of arXiv 2605.00515, over its constellation." in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.parametrize("number", ["nan", "inf"])
@pytest.mark.parametrize(
    "words",
    [
        ("top", "runs/none", "--every"), ("control", "seek", "runs/none"), ("models", "budget", "shards", "--joules"),
        ("schedule", "route", "demo.hsched", "a", "b", "--size-mbit"), ("bench", "reserve", "alpha", "--hours"),
    ],
    ids=lambda words: " ".join(words[:2]),
)  # fmt: skip
def test_what_is_no_number_is_refused(words: tuple[str, ...], number: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the option, and before anything else is looked at."""
    assert door.run([*words, number]) == errors.UsageError.exit_code
    told = capsys.readouterr().err
    assert f"{number} is no number" in told or "is not in the range" in told
