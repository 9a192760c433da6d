"""Options that check themselves: each one's type and bound stand beside the field."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

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


@dataclass(frozen=True, kw_only=True)
class Options:
    """Frozen options; making one checks every value that can be checked without looking at files.

    The type of a field may carry a bound, `Annotated[int, at_least(1)]`. A class adds rules between
    its fields as `_check_rules`; a class with several bases keeps the rules of all of them.

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
            _check(name, getattr(self, name), hint)
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


def _check(name: str, value: Any, hint: Any) -> None:
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
    if hint is float:
        return isinstance(value, int | float) and type(value) is not bool and math.isfinite(value)
    return isinstance(value, hint) and (hint is bool or type(value) is not bool)


def _describe(hint: Any) -> str:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin in (Union, UnionType):
        return " or ".join(map(_describe, parts))
    if origin is tuple:
        return f"a tuple, each part of it {_describe(parts[0])}"
    return _NAME_OF_TYPE[hint]
