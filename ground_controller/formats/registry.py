"""Formats of contact plans by name: a literal table, and what each can be asked."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ground_controller.formats.hdtn import read_hdtn, write_hdtn
from ground_controller.formats.hypatia_plan import read_hypatia_plan
from ground_controller.formats.ion import read_ion, write_ion
from ground_controller.formats.netsatbench import read_netsatbench, write_netsatbench
from ground_controller.formats.plan import ContactPlan, Imported, build_plan
from ground_controller.formats.plan_csv import read_csv, write_csv
from ground_controller.formats.text import read_text, refuse
from hil_config.errors import ConfigError, UsageError
from hil_config.own_code import is_own, own_code


@dataclass(frozen=True)
class Format:
    """One format. `read` takes a path and those of `read_options` that were given; `write` a plan and those of
    `write_options`, and gives one text, or the texts of a folder by file name. None: that way is not there."""

    what: str
    read: Callable[..., Imported]
    write: Callable[..., str | dict[str, str]] | None
    read_options: tuple[str, ...] = ()
    write_options: tuple[str, ...] = ()
    folder: bool = False


def _of_text(parse: Callable[..., Imported]) -> Callable[..., Imported]:
    def read(path: Path, **options: Any) -> Imported:
        return parse(read_text(path, "give the path of a contact plan"), str(path), **options)

    return read


FORMATS: dict[str, Format] = {
    "csv": Format("CSV of this project", _of_text(read_csv), write_csv, ("lenient",)),
    "ion": Format("ION contact plan (ionrc)", _of_text(read_ion), write_ion,
                  ("lenient", "epoch_utc", "hold_ranges"), ("rounded",)),
    "hdtn": Format("HDTN contact plan (JSON)", _of_text(read_hdtn), write_hdtn, ("lenient", "rate_unit"), ("rounded",)),
    "netsatbench": Format("NetSatBench epochs (a folder)", read_netsatbench, write_netsatbench,
                          ("lenient", "until_s"), ("epoch_utc",), folder=True),
    "hypatia": Format("Hypatia network state (a folder)", read_hypatia_plan, None,
                      ("rate_mbit_s", "step_s", "until_s"), folder=True),
}  # fmt: skip

_FLAGS = {"epoch_utc": "--epoch-utc", "rate_unit": "--rate-unit", "until_s": "--until-s", "rounded": "--round",
          "lenient": "--lenient", "hold_ranges": "--hold-ranges", "rate_mbit_s": "--rate-mbit-s",
          "step_s": "--step-s"}  # fmt: skip


def find_format(name: str) -> Format:
    """The format called `name`, ours or `module:NAME`; UsageError naming those there are."""
    if name in FORMATS:
        return FORMATS[name]
    if not is_own(name):
        raise UsageError(f"no format is called {name!r}", f"formats: {', '.join(FORMATS)}, or module:NAME of your own")
    found = own_code(name, "format", FORMATS)
    if not isinstance(found, Format):
        raise ConfigError(
            f"format {name!r} is a {type(found).__name__}", "name a ground_controller.formats.registry.Format"
        )
    return found


def read_plan(path: Path, name: str, options: Mapping[str, object]) -> Imported:
    """The plan in a file or folder. An option that is given and that the format does not have is refused.

    Raises:
        UsageError: unknown format or option.
        DataFileError: with file and line.
    """
    form = find_format(name)
    return form.read(path, **_fitting(name, options, form.read_options, "imported from"))


def write_plan(plan: ContactPlan, name: str, options: Mapping[str, object]) -> str | dict[str, str]:
    """The text of a plan, or texts by file name. Raises as `read_plan`."""
    form = find_format(name)
    if form.write is None:
        raise UsageError(
            f"a contact plan cannot be exported to {name}: it does not say the orbits",
            "hil schedule export --format hypatia --campaign FILE",
        )
    return form.write(plan, **_fitting(name, options, form.write_options, "exported to"))


def _fitting(name: str, options: Mapping[str, object], known: tuple[str, ...], way: str) -> dict[str, object]:
    given = {key: value for key, value in options.items() if value is not None and value is not False}
    for key in given:
        if key not in known:
            takes = ", ".join(_FLAGS[one] for one in known) or "no options"
            raise UsageError(f"{_FLAGS[key]} means nothing when a plan is {way} {name}", f"{name} takes {takes}")
    return given


def read_node_map(path: Path) -> dict[str, str]:
    """Name -> number of a CSV file with the columns `name,number`, both ways unique. Raises DataFileError."""
    hint = "write `name,number` in the first line and one pair in each line after it"
    found: dict[str, str] = {}
    for line, raw in enumerate(read_text(path, hint).splitlines(), start=1):
        cells = [cell.strip() for cell in next(csv.reader([raw]), [])]
        if line == 1 and cells != ["name", "number"]:
            refuse(str(path), line, f"the columns are not name,number; found {raw[:40]!r}", hint)
        if line == 1 or not any(cells):
            continue
        if len(cells) != 2 or not all(cells):
            refuse(str(path), line, f"wanted a name and a number; found {raw[:40]!r}", hint)
        if cells[0] in found or cells[1] in found.values():
            refuse(str(path), line, f"{cells[0]!r} or {cells[1]!r} stands there already", "map each once")
        found[cells[0]] = cells[1]
    return found


def renamed(plan: ContactPlan, names: Mapping[str, str], source: str) -> ContactPlan:
    """The plan with the nodes of `names` called otherwise; others keep their names. Raises DataFileError if two
    nodes would then have one name."""

    def new(name: str) -> str:
        return names.get(name, name)

    if len({new(name) for name in plan.nodes}) != len(plan.nodes):
        refuse(source, 0, "the node map gives a name that another node has", "give each node a name of its own")
    return build_plan(
        (replace(one, source=new(one.source), target=new(one.target)) for one in plan.contacts), source,
        lenient=True, epoch_utc=plan.epoch_utc, registered=(new(name) for name in plan.registered),
        hypothetical=((new(a), new(b)) for a, b in plan.hypothetical),
    ).plan  # fmt: skip
