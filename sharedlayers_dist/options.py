"""Options that check themselves: each one's type and bound stand beside the field."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from cyclopts import Group, Parameter, Token

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.uri import hide_secrets

_NAME_OF_TYPE = {
    str: "a string",
    bool: "True or False",
    int: "an integer",
    float: "a finite number",
    NoneType: "None",
}


@dataclass(frozen=True)
class Bound:
    """What a value must be, beyond its type.

    Args:
        rule: The end of the sentence "`name` must ...".
        holds: Whether a value keeps to it.
    """

    rule: str
    holds: Callable[[Any], bool]


def at_least(least: float) -> Bound:
    """The values from `least` on."""
    rule = "not be negative" if least == 0 else f"be at least {least}"
    return Bound(rule, lambda value: value >= least)


POSITIVE = Bound("be positive", lambda value: value > 0)
SHARE = Bound("lie between 0 and 1", lambda value: 0 <= value <= 1)
FILLED = Bound("not be empty", bool)


def section(name: str) -> Parameter:
    """A group of options, which the help shows under its name, in the order of these calls.

    It stands beside the type of a field, `Annotated[int, section("The split")]`, or of a whole
    class of options.
    """
    return Parameter(group=Group.create_ordered(name))


class FrozenObject(Mapping[str, Any]):
    """An object of JSON that cannot change: each look at it gives another copy of its parts.

    Args:
        content: Strings to values of JSON, nested ones too; a tuple becomes a list.

    Raises:
        TypeError: for what JSON cannot hold.
        ValueError: for a number that is not finite.

    Example:
        >>> FrozenObject({"units": 64, "dropout": [0.1, 0.2]})
        {"dropout": [0.1, 0.2], "units": 64}
    """

    def __init__(self, content: Mapping[str, Any] | None = None) -> None:
        self._text = json.dumps(content or {}, default=dict, sort_keys=True, allow_nan=False)

    def __getitem__(self, name: str) -> Any:
        """A copy of one part."""
        return json.loads(self._text)[name]

    def __iter__(self) -> Iterator[str]:
        """The names of the parts, sorted."""
        return iter(json.loads(self._text))

    def __len__(self) -> int:
        """How many parts there are."""
        return len(json.loads(self._text))

    def __eq__(self, other: object) -> bool:
        """Whether both are the same in JSON, where 1 is not true."""
        if isinstance(other, Mapping) and _is_json(other):
            return self._text == FrozenObject(other)._text
        return NotImplemented

    def __hash__(self) -> int:
        """Of its text."""
        return hash(self._text)

    def __repr__(self) -> str:
        """The object as JSON, which the command line takes."""
        return self._text


EMPTY_OBJECT = FrozenObject()
"""The default of an option that is a `JsonObject`."""


def _read_object(_: Any, tokens: Sequence[Token]) -> dict[str, Any]:
    """What the command line gives for a `JsonObject`."""
    text = tokens[0].value
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{_OBJECT_RULE} Received: {text!r} ({error}).") from None
    if not isinstance(value, dict):
        raise ValueError(f"{_OBJECT_RULE} Received: {text!r}.")
    return value


_OBJECT_RULE = 'It must be an object of JSON, such as {"units": 64}.'
JsonObject = Annotated[
    Mapping[str, Any],
    Parameter(converter=_read_object, accepts_keys=False, n_tokens=1, metavar="JSON"),
]
"""The type of an option that is an object of JSON: the command line takes it as JSON, and any
mapping that is given becomes a `FrozenObject`."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Frozen options; making one checks every value that can be checked without looking at files.

    The type of a field may carry a bound, `Annotated[int, at_least(1)]`, and be a `JsonObject`. A
    class adds rules between its fields as `_check_rules`; a class with several bases keeps the
    rules of all of them.

    Example:
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Reading(Options):
        ...     batch_size: Annotated[int, at_least(1)] = 256
        >>> Reading(batch_size=0)
        Traceback (most recent call last):
        sharedlayers_dist.errors.UserError: `batch_size` must be at least 1. Received: batch_size=0.
    """

    def __post_init__(self) -> None:
        """Checks each field, then what must hold between fields.

        Raises:
            UserError: for a value of another type, or out of bounds.
        """
        for name, hint in _hints(type(self)).items():
            value = getattr(self, name)
            check(name, value, hint)
            if isinstance(value, Mapping) and not isinstance(value, FrozenObject):
                object.__setattr__(self, name, FrozenObject(value))
        for cls in reversed(type(self).__mro__):
            if "_check_rules" in vars(cls):
                vars(cls)["_check_rules"](self)


def require(holds: bool, rule: str, **received: Any) -> None:
    """Raises UserError with `rule` and the values `received` unless it `holds`."""
    if not holds:
        values = ", ".join(f"{name}={value!r}" for name, value in received.items())
        raise UserError(f"{rule} Received: {hide_secrets(values)}.")


def _hints(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in fields(cls)}


def check(name: str, value: Any, hint: Any) -> None:
    """Checks the value of one option.

    Args:
        name: Of the option.
        value: What it was given.
        hint: The type of its field, with bounds.

    Raises:
        UserError: for a value of another type, or out of bounds.
    """
    bounds: list[Any] = []
    if get_origin(hint) is Annotated:
        hint, *bounds = get_args(hint)
    require(_is_of(value, hint), f"`{name}` must be {_describe(hint)}.", **{name: value})
    for bound in bounds:
        if isinstance(bound, Bound) and value is not None:
            require(bound.holds(value), f"`{name}` must {bound.rule}.", **{name: value})


def _is_of(value: Any, hint: Any) -> bool:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in parts)
    if origin in (Union, UnionType):
        return any(_is_of(value, part) for part in parts)
    if origin is tuple:
        return isinstance(value, tuple) and all(_is_of(item, parts[0]) for item in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and _is_json(value)
    if hint is float:
        return isinstance(value, int | float) and type(value) is not bool and math.isfinite(value)
    return isinstance(value, hint) and (hint is bool or type(value) is not bool)


def _is_json(value: Any) -> bool:
    """Whether JSON holds the value, and gives it back."""
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and _is_json(part) for name, part in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_json, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | bool | int)


def _describe(hint: Any) -> str:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin in (Union, UnionType):
        return " or ".join(map(_describe, parts))
    if origin is tuple:
        return f"a tuple, each part of it {_describe(parts[0])}"
    if origin is Mapping:
        return "an object of JSON"
    return _NAME_OF_TYPE[hint]
