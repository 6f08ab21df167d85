"""What every model of a file that people write shares, and the words of its errors."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError


class Strict(BaseModel):
    """Frozen; unknown keys, NaN, infinity and silent conversions (`"5"` for 5, `yes` for 1) are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class Wanted(NamedTuple):
    """Field metadata: what the field takes, in words, where the type and its bounds do not say it well."""

    words: str


Name = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"),
    Wanted("1 to 63 letters, digits, - and _, the first a letter or digit"),
]
"""A name that can stand in an MQTT topic and a file name."""

OwnCode = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$"), Wanted("module:Name of your own")]
"""Something of the user's own, see `hil_config.own_code`."""


def _resolvable(host: str) -> str:
    try:
        host.encode("idna")
    except UnicodeError as error:
        raise ValueError("no name that a resolver takes") from error
    return host


Host = Annotated[
    str,
    Field(min_length=1),
    AfterValidator(_resolvable),
    Wanted("an address, or a name without empty or endless parts"),
]

LOOPBACK = ("127.0.0.1", "localhost")


def refuse(at: tuple[str | int, ...], problem: str, hint: str = "") -> PydanticCustomError:
    """The error a validator raises about the key `at` below its own model."""
    return PydanticCustomError("refused", "{problem}", {"at": at, "problem": problem, "hint": hint})
