"""YAML text as plain data, with the line and column of every key and value.

YAML 1.2 core types only. Lists become tuples, because the models are frozen. An instant stays the text that
was written, whether it is in quotes or not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from hil_config.errors import ConfigError

MAX_BYTES = 1 << 20
MAX_NODES = 50_000
"""Aliases share nodes: a few lines of them can stand for billions of values."""

Key = tuple[str | int, ...]
_TAG = "tag:yaml.org,2002:"
_SYNTAX_HINT = "indent with spaces, put a blank after every colon, and quote text that holds : # { } [ ] or &"


class Place(NamedTuple):
    """(line, column), both from 1, of a key and of its value; of an item of a list both are the item's."""

    key: tuple[int, int]
    value: tuple[int, int]


@dataclass(frozen=True)
class Document:
    """A file's data, and where each value of it stands. The key of the whole is ()."""

    path: Path
    data: Any
    places: dict[Key, Place] = field(repr=False)

    def at(self, key: Key, *, of_key: bool = False) -> str:
        """`file:line:column` of a value (or its key), or of the nearest thing around it that is written."""
        while key not in self.places:
            key, of_key = key[:-1], False
        line, column = self.places[key].key if of_key else self.places[key].value
        return f"{self.path}:{line}:{column}"

    def value(self, key: Key) -> Any:
        """What is written at `key`."""
        data = self.data
        for part in key:
            data = data[part]
        return data


def dotted(key: Key) -> str:
    """`boards[1].name` for ("boards", 1, "name")."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{_shown(part)}" for part in key)
    return text.removeprefix(".")


def _shown(name: str) -> str:
    """A terminal acts on some characters instead of showing them."""
    return name if name.isprintable() else repr(name)


def read_yaml(path: Path) -> Document:
    """The one document in `path`.

    Raises:
        ConfigError: the file cannot be read, is not UTF-8 or not YAML, is empty, holds a key twice, or
            uses what configuration has no need of (tags of other types, endless aliases).
    """
    text = _text(path)
    loader = YAML(typ="safe", pure=True)
    loader.composer.warn_double_anchors = False  # YAML lets an anchor be used again
    try:
        root = loader.compose(text)
        if root is None:
            raise ConfigError(f"{path}:1:1: the file is empty", "start from the file that `hil config example` prints")
        return _Walk(path, loader).document(root)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else f"{path}:1:1"
        problem = " ".join(str(error.problem or error.context or "not YAML").split())
        raise ConfigError(f"{where}: not valid YAML: {problem}", _SYNTAX_HINT) from error
    except ReaderError as error:
        line, column = _line_column(text, error.position)
        raise ConfigError(
            f"{path}:{line}:{column}: not valid YAML: the character U+{ord(text[error.position]):04X} is not allowed",
            "remove the character; an editor that shows invisible characters helps",
        ) from error
    except (YAMLError, ValueError) as error:
        raise ConfigError(f"{path}:1:1: not valid YAML: {error}", _SYNTAX_HINT) from error
    except RecursionError as error:
        raise ConfigError(f"{path}:1:1: not usable: nested too deeply", "remove the brackets") from error


def _text(path: Path) -> str:
    hint = "check the path; `hil config example bench` and `hil config example campaign` print files to start from"
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}", hint) from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: is larger than {MAX_BYTES} bytes, which no such file is", hint)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _line_column(data[: error.start].decode("utf-8", "replace"), None)
        raise ConfigError(f"{path}:{line}:{column}: is not UTF-8 text", "save the file as UTF-8") from error


def _line_column(text: str, position: int | None) -> tuple[int, int]:
    before = text if position is None else text[:position]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _mark(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _written(node: Node) -> bool:
    """False for a value left out: ruamel then gives it the place of whatever comes next."""
    return bool(node.start_mark.index != node.end_mark.index)


class _Walk:
    """One pass over the composed nodes of a file."""

    def __init__(self, path: Path, loader: YAML) -> None:
        self._path = path
        self._constructor = loader.constructor
        self._places: dict[Key, Place] = {}

    def document(self, root: Node) -> Document:
        self._places[()] = Place(_mark(root), _mark(root))
        return Document(self._path, self._plain(root, ()), self._places)

    def _plain(self, node: Node, key: Key) -> Any:
        if len(self._places) > MAX_NODES:
            raise self._refused(node, key, f"more than {MAX_NODES} values", "write less, or use fewer aliases")
        if isinstance(node, MappingNode):
            return self._mapping(node, key)
        if isinstance(node, SequenceNode):
            items = []
            for index, item in enumerate(node.value):
                mark = _mark(item if _written(item) else node)
                self._places[(*key, index)] = Place(mark, mark)
                items.append(self._plain(item, (*key, index)))
            return tuple(items)
        return self._scalar(node, key)

    def _mapping(self, node: MappingNode, key: Key) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        for name, value in node.value:
            if not isinstance(name, ScalarNode):
                raise self._refused(name, key, "a key that is itself a list or mapping", _SYNTAX_HINT)
            below = (*key, str(name.value))
            if name.value in answer:
                first = self._places[below].key
                raise self._refused(
                    name,
                    below,
                    f"written twice, first at line {first[0]}, column {first[1]}",
                    "keep one of the two",
                )
            self._places[below] = Place(_mark(name), _mark(value if _written(value) else name))
            answer[str(name.value)] = self._plain(value, below)
        return answer

    def _scalar(self, node: Node, key: Key) -> Any:
        kind = str(node.tag).removeprefix(_TAG)
        text = str(node.value)
        try:
            if kind == "null":
                return None
            if kind == "bool":
                return self._constructor.construct_yaml_bool(node)
            if kind == "int":
                number = self._constructor.construct_yaml_int(node)
                str(number)  # one of thousands of digits is refused here, and not by whoever shows it
                return number
            if kind == "float":
                return self._constructor.construct_yaml_float(node)
        except (ValueError, KeyError, IndexError) as error:
            raise self._refused(
                node, key, f"{text[:40]!r} is not a value of type {kind}", "write it plainly"
            ) from error
        if kind not in ("str", "timestamp", "merge", "value"):
            raise self._refused(node, key, f"the tag {node.tag} is not used here", "remove the tag")
        if "\0" in text:
            raise self._refused(node, key, "holds the character U+0000, which no name or path may", "remove it")
        return text

    def _refused(self, node: Node, key: Key, problem: str, hint: str) -> ConfigError:
        line, column = _mark(node)
        name = f"{dotted(key)}: " if key else ""
        return ConfigError(f"{self._path}:{line}:{column}: {name}{problem}", hint)
