"""JSON that every parser reads, although it must hold numbers that JSON has no words for.

NaN and the infinities stand as `{"not_finite": "NaN"}`, `"Infinity"` or `"-Infinity"`: Python's own
`json` writes the bare words, which other parsers refuse.
"""

from __future__ import annotations

import json
import math
from typing import Any

_KEY = "not_finite"
_VALUES = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def dump_json(value: Any, **layout: Any) -> str:
    """The text of plain values.

    Args:
        value: Dictionaries with string keys, lists, tuples, strings, numbers, booleans and None.
        **layout: As of `json.dumps`: `indent`, `sort_keys`, `ensure_ascii`.
    """
    return json.dumps(_encode(value), allow_nan=False, **layout)


def load_json(text: str | bytes) -> Any:
    """The values of a text that `dump_json` wrote.

    Raises:
        ValueError: for what is not JSON.
    """
    return json.loads(text, object_hook=_decode)


def without_infinities(line: dict[str, Any]) -> dict[str, Any]:
    """The same figures, None in place of those that are not finite."""
    return {name: None if _is_not_finite(value) else value for name, value in line.items()}


def _encode(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _encode(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(part) for part in value]
    if _is_not_finite(value):
        word = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        return {_KEY: word}
    return value


def _decode(value: dict[str, Any]) -> Any:
    is_number = value.keys() == {_KEY} and isinstance(value[_KEY], str)
    return _VALUES.get(value[_KEY], value) if is_number else value


def _is_not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
