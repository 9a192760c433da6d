"""Losses over the global batch on real ranks; the checks themselves are in `workers/`."""

from __future__ import annotations

import pytest

from tests.distributed.checks import assert_found_nothing, run_cases
from tests.distributed.workers import global_losses
from tests.distributed.workers.cases import cases_of

MODULES = ["tests.distributed.workers.global_losses"]
pytestmark = pytest.mark.timeout(600)  # The first test of each group waits for all of it.
NAMES = list(cases_of(global_losses))
ON_TWO_RANKS = [
    "triplet_of_hard",
    "supervised_contrastive",
    "in_batch_negatives",
    "online_contrastive",
    "validation_of_a_global_loss",
    "a_broken_gather_is_noticed",
    "a_mean_of_means_is_noticed",
    "gather_in_ones_own_step",
    "gather_keeps_types_and_order",
    "global_losses_are_refused_where_they_cannot_be",
]
"""What all losses stand on, tried each time; the rest with -m slow."""
THE_REST = [name for name in NAMES if name not in ON_TWO_RANKS]
ON_THREE_AND_FOUR = [*global_losses.KINDS, "gather_in_ones_own_step"]


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> list[dict[str, str]]:
    return run_cases(tmp_path_factory.mktemp("two"), 2, ON_TWO_RANKS, MODULES)


@pytest.fixture(scope="module")
def rest_on_two(tmp_path_factory) -> list[dict[str, str]]:
    return run_cases(tmp_path_factory.mktemp("rest_on_two"), 2, THE_REST, MODULES)


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> list[dict[str, str]]:
    return run_cases(tmp_path_factory.mktemp("three"), 3, ON_THREE_AND_FOUR, MODULES)


@pytest.fixture(scope="module")
def four(tmp_path_factory) -> list[dict[str, str]]:
    return run_cases(tmp_path_factory.mktemp("four"), 4, ON_THREE_AND_FOUR, MODULES)


@pytest.mark.parametrize("name", ON_TWO_RANKS)
def test_on_two_ranks(two, name):
    assert_found_nothing(two, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", THE_REST)
def test_the_rest_on_two_ranks(rest_on_two, name):
    assert_found_nothing(rest_on_two, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_THREE_AND_FOUR)
def test_on_three_ranks(three, name):
    assert_found_nothing(three, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_THREE_AND_FOUR)
def test_on_four_ranks(four, name):
    """Of a batch of three rows one rank has none."""
    assert_found_nothing(four, name)
