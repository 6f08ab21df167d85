"""Writes the reference pages that code knows best: commands, configuration files, messages."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

import click
import msgspec

from hil_config.door import GROUPS, _resolve
from hil_config.errors import (
    EXIT_INTERRUPT,
    EXIT_UNEXPECTED,
    HilError,
)
from hil_config.schema.json_schema import MODELS, json_schema
from hil_config.wire import topics
from node_agent.cli import _parser

FOLDER = Path(__file__).parent / "reference"
NOTE = "<!-- written by docs/generate_reference.py: change the code, then run it -->\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _paragraphs(text: str | None) -> str:
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text or "").split("\n\n"))


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *(tuple(map(_cell, row)) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _option(one: click.Option) -> tuple[str, str, str]:
    value = "" if one.is_flag or one.count else f" {one.metavar or _type_name(one.type)}"
    default = one.default if isinstance(one.default, str | int | float) and not one.is_flag else ""
    if one.required:
        default = "required"
    names = ", ".join(f"`{name}`" for name in (*one.opts, *one.secondary_opts))
    return names + (f" {value.strip()}" if value else ""), one.help or "", f"{default}" if default != "" else ""


def _type_name(kind: Any) -> str:
    return " or ".join(kind.choices) if isinstance(kind, click.Choice) else kind.name.partition(" ")[0].upper()


def _commands(name: str, command: click.Command) -> Iterator[str]:
    if isinstance(command, click.Group):
        for part, below in sorted(command.commands.items()):
            yield from _commands(f"{name} {part}", below)
        return
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    words = [
        (p.metavar or (p.name or "").upper()) + ("..." if p.nargs == -1 and not p.metavar else "") for p in arguments
    ]
    usage = " ".join(w if p.required else f"[{w}]" for w, p in zip(words, arguments, strict=True))
    yield f"## {name}\n\n`{' '.join((name, usage)).strip()}`\n\n{_paragraphs(command.help)}\n"
    options = [_option(p) for p in command.params if isinstance(p, click.Option) and not p.hidden]
    if options:
        yield _table(("option", "what it does", "default"), options)


def _agent() -> Iterator[str]:
    parser = _parser()
    (choices,) = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    lines = {pseudo.dest: pseudo.help or "" for pseudo in choices._choices_actions}
    for name, below in choices.choices.items():
        yield f"## hil-agent {name}\n\n{lines[name][:1].upper()}{lines[name][1:]}.\n"
        rows = [
            (", ".join(f"`{s}`" for s in a.option_strings), a.help or "", "required" if a.required else "")
            for a in below._actions
            if not isinstance(a, argparse._HelpAction)
        ]
        if rows:
            yield _table(("option", "what it does", "default"), rows)


def _errors(kind: type[HilError]) -> Iterator[type[HilError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _errors(below)


def cli_page() -> str:
    """Every command with its arguments and options, and the exit codes."""
    parts = [
        f"# Commands\n\n{NOTE}\nEvery command takes `--help`. Errors say what was found where, what was wanted, and "
        "what to do next.\n"
    ]
    for name in GROUPS:
        parts += _commands(f"hil {name}", _resolve(GROUPS[name][0]))
    parts += _agent()
    codes: dict[int, list[str]] = {}
    for kind in _errors(HilError):
        if kind.__module__ == "hil_config.errors" and kind is not HilError:
            codes.setdefault(kind.exit_code, []).append(" ".join((kind.__doc__ or "").split()).rstrip("."))
    rows = [("0", "Done")] + [(str(code), "; ".join(dict.fromkeys(said))) for code, said in sorted(codes.items())]
    rows += [(str(EXIT_INTERRUPT), "Interrupted")] if EXIT_INTERRUPT not in codes else []
    rows += [(str(EXIT_UNEXPECTED), "Unexpected: a defect, shown whole")] if EXIT_UNEXPECTED not in codes else []
    parts.append("## Exit codes\n\n" + _table(("code", "meaning"), rows))
    return "\n".join(parts)


def _words(schema: dict[str, Any]) -> str:
    """The type of a key, in words."""
    if "$ref" in schema:
        return f"[{schema['$ref'].rpartition('/')[2]}](#{schema['$ref'].rpartition('/')[2].lower()})"
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_words(one) for one in schema["anyOf"]))
    if schema.get("type") == "array":
        items = schema.get("items") or (schema.get("prefixItems") or [{}])[0]
        return f"list of {_words(items)}"
    if schema.get("type") == "object":
        below = schema.get("additionalProperties")
        return f"map to {_words(below)}" if isinstance(below, dict) else "map"
    bounds = [f"{sign} {_number(schema[key])}" for key, sign in _BOUNDS if key in schema]
    return " ".join([_TYPES.get(str(schema.get("type")), "any"), ", ".join(bounds)]).strip()


_BOUNDS = (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<"))
_TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "null": "nothing",
}


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


def _default(schema: dict[str, Any], required: bool) -> str:
    if required:
        return "required"
    value = schema.get("default")
    return "" if value is None or isinstance(value, dict) else f"`{msgspec.json.encode(value).decode()}`"


def _section(title: str, schema: dict[str, Any]) -> str:
    wanted = set(schema.get("required", ()))
    rows = [
        (f"`{key}`", _words(one), _default(one, key in wanted), one.get("description", ""))
        for key, one in schema.get("properties", {}).items()
    ]
    table = _table(("key", "takes", "default", "meaning"), rows)
    return f"## {title}\n\n{_paragraphs(schema.get('description'))}\n\n{table}"


def config_page(name: str) -> str:
    """Every key of a file that people write."""
    schema = json_schema(name)
    top = {key: value for key, value in schema.items() if key != "$defs"}
    note = (
        "Conditions between keys are checked by `hil config check`; "
        f"[the JSON Schema](schemas/{name}.schema.json) is for editors.\n"
    )
    parts = [f"# {name}.yaml\n\n{NOTE}\n{note}", _section("The file", top)]
    parts += [_section(title, one) for title, one in schema.get("$defs", {}).items() if "properties" in one]
    return "\n".join(parts)


def _type(hint: object) -> str:
    text = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
    for long in ("hil_config.wire.", "typing.", "messages.", "orders.", "manifest.", "plan.", "provenance."):
        text = text.replace(long, "")
    return text


def _structs(kind: object, found: dict[str, type]) -> None:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if kind.__name__ in found:
            return
        found[kind.__name__] = kind
        for hint in get_type_hints(kind).values():
            _structs(hint, found)
    for below in get_args(kind):
        _structs(below, found)


def messages_page() -> str:
    """Every MQTT topic and every message."""
    rows = [
        (f"`{row.suffix}`", row.writer, f"[{row.payload.__name__}](#{row.payload.__name__.lower()})",
         "yes" if row.retained else "", str(row.qos))
        for row in topics.TABLE
    ]  # fmt: skip
    head = (
        f"# Messages\n\n{NOTE}\nTopics stand under `{topics.ROOT}/BENCH/NODE/`. Payloads are JSON; on a bench with a "
        "command key, what the ground says is signed.\n\n"
    )
    parts = [head + _table(("topic", "writer", "payload", "retained", "QoS"), rows)]
    found: dict[str, type] = {}
    for row in topics.TABLE:
        _structs(row.payload, found)
    for name, kind in sorted(found.items()):
        fields = [
            (f"`{f.encode_name}`", f"`{_type(f.type)}`", "" if f.required else "optional")
            for f in msgspec.structs.fields(kind)
        ]
        parts.append(f"## {name}\n\n{_paragraphs(kind.__doc__)}\n\n{_table(('field', 'type', ''), fields)}")
    return "\n".join(parts)


def pages() -> dict[str, str]:
    """Text by file name."""
    return {
        "cli.md": cli_page(),
        "messages.md": messages_page(),
        **{f"{name}-file.md": config_page(name) for name in MODELS},
    }


def main() -> None:
    """Write what differs, and say so."""
    for name, text in pages().items():
        path = FOLDER / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"written: {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
