"""The variants of a campaign's matrix, each a whole campaign; a mistake in one is told where it was written."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

from hil_config.errors import ConfigError
from hil_config.schema.campaign import Campaign
from hil_config.schema.load import campaign_of
from hil_config.schema.yaml_text import Document, Key, Place, dotted

MOST = 1_000


class Variant(NamedTuple):
    """`labels`: axis -> variant. `name`: the variants' names, in the order of the axes, joined."""

    name: str
    labels: dict[str, str]
    campaign: Campaign


def variants_of(document: Document) -> tuple[Variant, ...]:
    """Every combination of the matrix's variants; without a matrix, or axes, the one campaign, named `all`.

    Raises:
        ConfigError: a changed key does not exist or has a wrong value, at the place of the change; or too many.
    """
    whole = campaign_of(document)
    if whole.matrix is None or not whole.matrix.axes:
        return (Variant("all", {}, whole.model_copy(update={"matrix": None})),)
    axes = whole.matrix.axes
    chosen = list(itertools.islice(itertools.product(*axes.values()), MOST + 1))
    if len(chosen) > MOST:
        raise ConfigError(
            f"{document.at(('matrix', 'axes'))}: matrix.axes: more than {MOST} combinations", "split the campaign"
        )
    found = []
    for names in chosen:
        labels = dict(zip(axes, names, strict=True))
        found.append(Variant("-".join(names), labels, campaign_of(_changed(document, labels))))
    return tuple(found)


def _changed(document: Document, labels: dict[str, str]) -> Document:
    """The document under the changes of one combination, and where each value of it was written."""
    data = {key: value for key, value in document.data.items() if key != "matrix"}
    places = dict(document.places)
    for axis, name in labels.items():
        for text, value in document.value(("matrix", "axes", axis, name)).items():
            written: Key = ("matrix", "axes", axis, name, text)
            key: Key = tuple(int(part) if part.isdigit() else part for part in text.split("."))
            data = _with(data, key, value, f"{document.at(written, of_key=True)}: {dotted(written)}")
            for depth in range(1, len(key)):  # keys that the file leaves out stand where the change does
                places.setdefault(key[:depth], places[written])
            places = {k: p for k, p in places.items() if k[: len(key)] != key} | _moved(places, written, key)
    return Document(document.path, data, places)


def _moved(places: dict[Key, Place], source: Key, target: Key) -> dict[Key, Place]:
    return {target + k[len(source) :]: place for k, place in places.items() if k[: len(source)] == source}


def _with(data: Any, key: Key, value: Any, where: str) -> Any:
    """A copy of `data` with the value at `key`; what is on the way there and missing is made."""
    if not key:
        return value
    first, rest = key[0], key[1:]
    if isinstance(data, tuple) and isinstance(first, int) and first < len(data):
        return (*data[:first], _with(data[first], rest, value, where), *data[first + 1 :])
    if isinstance(data, dict) or data is None:
        return {**(data or {}), str(first): _with((data or {}).get(str(first)), rest, value, where)}
    raise ConfigError(f"{where}: there is nothing at {first!r} to change", "name a key of the campaign, by dots")
