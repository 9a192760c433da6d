"""Options check themselves: their types, their bounds, and what must hold between them."""

import doctest
import json
import pickle
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal

import pytest
from cyclopts import App, CycloptsError, Parameter

from sharedlayers_dist import config, options
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.options import (
    EMPTY_OBJECT,
    FILLED,
    POSITIVE,
    SHARE,
    FrozenObject,
    JsonObject,
    Options,
    at_least,
    require,
)


@dataclass(frozen=True, kw_only=True)
class Sizes(Options):
    count: Annotated[int, at_least(1)] = 1
    seed: Annotated[int, at_least(0)] = 0
    rate: Annotated[float, POSITIVE] = 1.0
    share: Annotated[float, SHARE] = 0.5
    name: Annotated[str, FILLED] = "n"
    most: Annotated[int | None, at_least(1)] = None
    several: tuple[str, ...] = ()
    kind: Literal["a", "b"] = "a"
    flag: bool = False
    settings: JsonObject = EMPTY_OBJECT

    def _check_rules(self) -> None:
        require(self.seed != 13, "`seed` must be lucky.", seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class Others(Options):
    first: int = 1

    def _check_rules(self) -> None:
        require(self.first != 13, "`first` must be lucky.", first=self.first)


@dataclass(frozen=True, kw_only=True)
class Both(Sizes, Others):
    pass


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"count": 0}, "be at least 1"),
        ({"count": "3"}, "be an integer"),
        ({"count": 3.0}, "be an integer"),
        ({"count": True}, "be an integer"),
        ({"seed": -1}, "not be negative"),
        ({"seed": 13}, "be lucky"),
        ({"rate": 0.0}, "be positive"),
        ({"rate": float("nan")}, "be a finite number"),
        ({"rate": float("inf")}, "be a finite number"),
        ({"rate": "0.1"}, "be a finite number"),
        ({"share": 1.5}, "lie between 0 and 1"),
        ({"name": ""}, "not be empty"),
        ({"name": None}, "be a string"),
        ({"most": 0}, "be at least 1"),
        ({"most": "many"}, "be an integer or None"),
        ({"several": "a*b"}, "be a tuple, each part of it a string"),
        ({"several": (1,)}, "be a tuple, each part of it a string"),
        ({"kind": "c"}, "be one of a, b"),
        ({"flag": 1}, "be True or False"),
        ({"first": 13}, "be lucky"),
        ({"settings": "{}"}, "be an object of JSON"),
        ({"settings": ["a"]}, "be an object of JSON"),
        ({"settings": {1: 2}}, "be an object of JSON"),
        ({"settings": {"a": [float("nan")]}}, "be an object of JSON"),
        ({"settings": {"a": {"b": object}}}, "be an object of JSON"),
    ],
)
def test_a_value_of_another_type_or_out_of_bounds_is_refused(wrong, rule):
    ((name, value),) = wrong.items()
    with pytest.raises(UserError) as refused:
        Both(**wrong)
    assert str(refused.value) == f"`{name}` must {rule}. Received: {name}={value!r}."


def test_what_lies_on_a_bound_is_taken():
    given: dict[str, Any] = {
        "count": 1,
        "seed": 0,
        "rate": 1,
        "share": 1.0,
        "most": 1,
        "several": ("a",),
    }
    both = Both(**given)
    assert {f.name: getattr(both, f.name) for f in fields(both)}.items() >= given.items()


GIVEN = {"units": 64, "rates": (0.1, 0.2), "nested": {"on": True, "name": None}}


def test_an_object_of_json_cannot_be_changed_from_outside():
    rates = [0.1]
    both = Both(settings={"rates": rates, "nested": {"on": True}})
    rates.append(0.2)
    both.settings["nested"]["on"] = False
    assert both.settings == {"rates": [0.1], "nested": {"on": True}}
    with pytest.raises(TypeError):
        both.settings["rates"] = []  # type: ignore[index]


def test_objects_of_json_are_compared_hashed_sent_and_stored_by_what_they_hold():
    both = Both(settings=GIVEN)
    again = Both(settings={name: GIVEN[name] for name in reversed(GIVEN)})
    assert again == both
    assert hash(again) == hash(both)
    assert pickle.loads(pickle.dumps(both)) == both == replace(both)
    assert json.loads(json.dumps(dict(both.settings))) == GIVEN | {"rates": [0.1, 0.2]}
    assert FrozenObject({"on": True}) != FrozenObject({"on": 1})
    assert Both(settings={"units": 65}) != Both(settings={"units": 64})


def read(*arguments: str) -> Sizes:
    """What a command line makes of these arguments."""
    app = App(result_action="return_value")

    @app.default
    def give(*, sizes: Annotated[Sizes | None, Parameter(name="*")] = None) -> Sizes:
        return sizes or Sizes()

    return app(arguments, exit_on_error=False, print_error=False)


def test_the_command_line_takes_an_object_as_json():
    assert read("--settings", json.dumps(GIVEN)) == Sizes(settings=GIVEN)
    assert read("--settings={}") == read() == Sizes()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{units: 64}", "Received: '{units: 64}' (Expecting property name"),
        ("[1]", "Received: '[1]'."),
        ("", "Received: '' (Expecting value"),
    ],
)
def test_what_is_no_object_of_json_is_told_in_one_line(text, said):
    with pytest.raises(CycloptsError) as refused:
        read("--settings", text)
    rule = 'Invalid value for --settings: It must be an object of JSON, such as {"units": 64}. '
    assert str(refused.value).startswith(rule + said)


@pytest.mark.parametrize("module", [options, config])
def test_the_examples_hold(module):
    result = doctest.testmod(module, optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert result.attempted
    assert not result.failed
