"""pydantic's errors in our words: file:line:column, key, what was found and what is wanted."""

from __future__ import annotations

import difflib
import types
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from hil_config.errors import ConfigError
from hil_config.schema.strict import Wanted
from hil_config.schema.yaml_text import Document, Key, dotted

MAX_TOLD = 10
_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    type(None): "null",
}

_M = TypeVar("_M", bound=BaseModel)


class _Kind(NamedTuple):
    """A field's type and the constraints on it."""

    annotation: Any
    metadata: tuple[Any, ...]
    description: str = ""


class _Told(NamedTuple):
    place: tuple[int, int]
    text: str
    hint: str


def validated(document: Document, model: type[_M]) -> _M:
    """The document as `model`, or ConfigError that tells every mistake, in the order of the file."""
    if not isinstance(document.data, dict):
        raise ConfigError(
            f"{document.at(())}: found {_found(document.data)}, wanted a mapping with {_keys(model)}",
            "write `key: value` lines",
        )
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        details = _telling(model, error.errors(include_url=False))
    told: dict[tuple[tuple[int, int], Key], _Told] = {}
    for detail in details:
        key, one = _tell(document, model, detail)
        told.setdefault((one.place, key), one)  # a union complains once for each of its members
    ordered = sorted(told.values(), key=lambda one: one.place)
    lines = [one.text for one in ordered[:MAX_TOLD]]
    if len(ordered) > MAX_TOLD:
        lines.append(f"and {len(ordered) - MAX_TOLD} more")
    raise ConfigError("\n".join(lines), ordered[0].hint)


def _telling(model: type[BaseModel], details: Sequence[Any]) -> list[Any]:
    """Without what only follows from another mistake.

    A list whose items are wrong is also called too short, and a misspelt key also counts as missing.
    """
    places = [tuple(one["loc"]) for one in details]
    guessed = {
        (*key[:-1], _near(model, key))
        for key, one in zip(places, details, strict=True)
        if one["type"] == "extra_forbidden"
    }
    around = {key[:depth] for key in places for depth in range(len(key))}
    follows = {"missing": guessed, "too_short": around}
    pairs = zip(places, details, strict=True)
    return [one for key, one in pairs if key not in follows.get(one["type"], ())]


def _near(model: type[BaseModel], key: Key) -> str:
    """The known key that an unknown one is most like; empty if none is."""
    known = list(_kind(model, key[:-1]).annotation.model_fields)
    return next(iter(difflib.get_close_matches(str(key[-1]).lower(), known, n=1, cutoff=0.6)), "")


def _tell(document: Document, model: type[BaseModel], detail: Any) -> tuple[Key, _Told]:
    key: Key = tuple(detail["loc"])
    context = detail.get("ctx", {})
    if detail["type"] == "refused":
        key = (*key, *context["at"])
        return key, _line(document, key, context["problem"], context["hint"])
    if detail["type"] == "missing":
        problem = f"missing, wanted {_wanted(_kind(model, key))}"
        return key, _line(document, key, problem, _meaning(model, key))
    while key not in document.places:  # pydantic adds the name of a union's member
        key = key[:-1]
    if detail["type"] == "extra_forbidden":
        return key, _unknown(document, model, key)
    problem = f"found {_found(document.value(key))}, wanted {_wanted(_kind(model, key))}"
    return key, _line(document, key, problem, _meaning(model, key))


def _meaning(model: type[BaseModel], key: Key) -> str:
    """What the field at `key`, or the one that it is an item of, is for."""
    while key and not _kind(model, key).description:
        key = key[:-1]
    return f"{dotted(key)}: {_kind(model, key).description}" if key else ""


def _line(document: Document, key: Key, problem: str, hint: str, *, of_key: bool = False) -> _Told:
    where = document.at(key, of_key=of_key)
    line, column = where.rsplit(":", 2)[1:]
    return _Told((int(line), int(column)), f"{where}: {dotted(key)}: {problem}", hint)


def _unknown(document: Document, model: type[BaseModel], key: Key) -> _Told:
    near = _near(model, key)
    guess = f"; did you mean {near}?" if near else ""
    known = ", ".join(_kind(model, key[:-1]).annotation.model_fields)
    return _line(document, key, f"unknown key{guess}", f"keys here: {known}", of_key=True)


def _kind(model: type[BaseModel], key: Key) -> _Kind:
    """The type at `key`: through fields, list items and values of mappings."""
    kind = _Kind(model, ())
    for part in key:
        inner = _only(kind.annotation)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            info: FieldInfo = inner.model_fields[str(part)]
            kind = _Kind(info.annotation, tuple(info.metadata), info.description or "")
        else:  # tuple[X, ...] and dict[str, X]
            kind = _unwrapped(get_args(inner)[0 if get_origin(inner) is tuple else 1])
    return kind


def _only(annotation: Any) -> Any:
    """`X` of `X | None`."""
    if get_origin(annotation) in (Union, types.UnionType):
        members = [one for one in get_args(annotation) if one is not type(None)]
        return _unwrapped(members[0]).annotation if len(members) == 1 else annotation
    return annotation


def _unwrapped(annotation: Any) -> _Kind:
    """`Annotated[X, ...]` as type and constraints."""
    if get_origin(annotation) is not Annotated:
        return _Kind(annotation, ())
    inner, *rest = get_args(annotation)
    metadata: list[Any] = []
    for one in rest:
        metadata.extend(one.metadata if isinstance(one, FieldInfo) else [one])
    return _Kind(inner, tuple(metadata))


def _wanted(kind: _Kind) -> str:
    """The field's type and bounds in words: `a whole number from 0 to 65535 or null`."""
    for one in kind.metadata:
        if isinstance(one, Wanted):
            return one.words
    origin = get_origin(kind.annotation)
    if origin in (Union, types.UnionType):
        parts = [_unwrapped(one) for one in get_args(kind.annotation)]
        return " or ".join(_wanted(_Kind(p.annotation, (*p.metadata, *kind.metadata))) for p in parts)
    if origin is Literal:
        return "one of " + ", ".join(str(one) for one in get_args(kind.annotation))
    if origin is tuple:
        return "a list" + _between(_bound(kind, "min_length"), _bound(kind, "max_length"), " of {} entries")
    if origin is dict:
        return "a mapping"
    if isinstance(kind.annotation, type) and issubclass(kind.annotation, BaseModel):
        return f"a mapping with {_keys(kind.annotation)}"
    word = _WORDS.get(kind.annotation, str(kind.annotation))
    if kind.annotation in (int, float):
        return word + _range(kind)
    return word + (" that is not empty" if kind.annotation is str and _bound(kind, "min_length") else "")


def _range(kind: _Kind) -> str:
    above, below = _bound(kind, "gt"), _bound(kind, "lt")
    words = [f"above {above:g}"] if above is not None else []
    words += [f"below {below:g}"] if below is not None else []
    least, most = _bound(kind, "ge"), _bound(kind, "le")
    if least is not None and most is not None:
        words.append(f"from {_figure(least)} to {_figure(most)}")
    elif most is not None:
        words.append(f"at most {_figure(most)}")
    elif least is not None:
        words.append(f"at least {_figure(least)}")
    return " " + " and ".join(words) if words else ""


def _between(least: Any, most: Any, form: str) -> str:
    if least is None and most is None:
        return ""
    return form.format(f"at least {least}" if most is None else f"{least or 0} to {most}")


def _figure(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _bound(kind: _Kind, name: str) -> Any:
    for one in kind.metadata:
        value = getattr(one, name, None)
        if value is not None:
            return value
    return None


def _keys(model: type[BaseModel]) -> str:
    return "the keys " + ", ".join(model.model_fields)


def _found(value: Any) -> str:
    if value is None:
        return "nothing (null)"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, tuple):
        return f"a list of {len(value)}"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
