"""XML of CCSDS navigation data messages: leaves with their text, their units and the line they stand in."""

from __future__ import annotations

from typing import NamedTuple
from xml.parsers import expat

from ground_controller.formats.text import refuse

MAX_DEPTH = 32


class Leaf(NamedTuple):
    """An element without children. `path`: the names of the elements round it, outermost first."""

    path: tuple[str, ...]
    name: str
    text: str
    units: str
    line: int


def parse_leaves(text: str, source: str, hint: str) -> list[Leaf]:
    """Leaves in the order of the file. Document types and entities are refused: nothing here needs them."""
    found: list[Leaf] = []
    open_names: list[str] = []
    state = {"text": "", "units": "", "line": 0, "leaf": False}
    parser = expat.ParserCreate()

    def start(name: str, attributes: dict[str, str]) -> None:
        if len(open_names) >= MAX_DEPTH:
            refuse(source, parser.CurrentLineNumber, "nested too deep", hint)
        open_names.append(name.rpartition(":")[2])
        state.update(text="", units=attributes.get("units", ""), line=parser.CurrentLineNumber, leaf=True)

    def end(_: str) -> None:
        name = open_names.pop()
        if state["leaf"]:
            found.append(Leaf(tuple(open_names), name, str(state["text"]).strip(), str(state["units"]),
                              int(str(state["line"]))))  # fmt: skip
        state["leaf"] = False

    def characters(data: str) -> None:
        state["text"] = str(state["text"]) + data

    def doctype(*_: object) -> None:
        refuse(source, parser.CurrentLineNumber, "a document type is not supported", hint)

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = characters, doctype
    try:
        parser.Parse(text.encode(), True)
    except expat.ExpatError as error:
        refuse(source, error.lineno, f"column {error.offset + 1}: not XML: {expat.errors.messages[error.code]}", hint)
    except (UnicodeEncodeError, ValueError, LookupError) as error:
        refuse(source, 0, f"not usable XML: {error}", hint)
    return found
