"""Options check themselves: their types, their bounds, and what must hold between them."""

import doctest
from dataclasses import dataclass, fields
from typing import Annotated, Literal

import pytest

from sharedlayers_dist import config, options
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.options import FILLED, POSITIVE, SHARE, Options, at_least, require


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
    ],
)
def test_a_value_of_another_type_or_out_of_bounds_is_refused(wrong, rule):
    ((name, value),) = wrong.items()
    with pytest.raises(UserError) as refused:
        Both(**wrong)
    assert str(refused.value) == f"`{name}` must {rule}. Received: {name}={value!r}."


def test_what_lies_on_a_bound_is_taken():
    given = {"count": 1, "seed": 0, "rate": 1, "share": 1.0, "most": 1, "several": ("a",)}
    both = Both(**given)
    assert {f.name: getattr(both, f.name) for f in fields(both)}.items() >= given.items()


@pytest.mark.parametrize("module", [options, config])
def test_the_examples_hold(module):
    result = doctest.testmod(module, optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert result.attempted
    assert not result.failed
