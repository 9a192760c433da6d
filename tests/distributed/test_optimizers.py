"""Every optimizer of Keras and every option: weights and slots equal those of one process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.distributed.launcher import run_ranks
from tests.distributed.workers.optimizers import make_cases

WORKER = "tests.distributed.workers.optimizers"
pytestmark = pytest.mark.timeout(600)  # The first test of each group waits for all of it.
ALL_NAMES = [name for name, case in make_cases().items() if not case.breaks and case.is_joined]
ALONE = [name for name, case in make_cases().items() if not case.is_joined]
RARE = ("Adadelta", "Adamax", "Ftrl", "Lamb", "ScheduleFreeAdamW")
NAMES = [name for name in ALL_NAMES if name not in [f"{rare} with options" for rare in RARE]]
ALL_BROKEN = [name for name, case in make_cases().items() if case.breaks]
BROKEN = [name for name in ALL_BROKEN if name.split(":")[0] in ("SGD", "Adam", "Lion", "Muon")]
ON_THREE_RANKS = ["SGD", "Adam with options", "Muon", "sparse Adam", "passes summed", "sum"]
"""What is tried on three ranks each time; all of it with -m slow."""


def start(folder: Path, size: int, names: list[str]) -> list[dict[str, np.ndarray]]:
    run_ranks(WORKER, size, folder, *names, timeout=560)
    return [dict(np.load(folder / f"{size}.{rank}.npz")) for rank in range(size)]


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> dict[str, np.ndarray]:
    return start(tmp_path_factory.mktemp("one"), 1, ALL_NAMES + ALONE)[0]


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> list[dict[str, np.ndarray]]:
    return start(tmp_path_factory.mktemp("two"), 2, NAMES + BROKEN)


@pytest.fixture(scope="module")
def two_of_broken(tmp_path_factory) -> list[dict[str, np.ndarray]]:
    return start(tmp_path_factory.mktemp("two_of_broken"), 2, ALL_BROKEN)


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> list[dict[str, np.ndarray]]:
    return start(tmp_path_factory.mktemp("three"), 3, ON_THREE_RANKS)


@pytest.fixture(scope="module")
def three_of_all(tmp_path_factory) -> list[dict[str, np.ndarray]]:
    return start(tmp_path_factory.mktemp("three_of_all"), 3, ALL_NAMES)


def assert_equal_to_one(one, ranks, name: str, of_one: str) -> None:
    """Compares in float64, so that no tolerance can hide a small error."""
    rtol, atol = (0.05, 2e-3) if of_one == "fp16" else (1e-9, 1e-11)
    expected = {key: value for key, value in one.items() if key.split("/")[0] == of_one}
    assert len(expected) > 3
    for rank in ranks:
        for key, value in expected.items():
            got = rank[key.replace(of_one, name, 1)]
            np.testing.assert_allclose(got, value, rtol=rtol, atol=atol)
            np.testing.assert_array_equal(got, ranks[0][key.replace(of_one, name, 1)])


@pytest.mark.parametrize("name", ALONE)
def test_one_process_accumulates_what_it_would_take_as_one_batch(one, name):
    assert_equal_to_one(one, [one], name, name.split(":")[0])


@pytest.mark.parametrize("name", NAMES)
def test_two_ranks_equal_one_process(one, two, name):
    assert_equal_to_one(one, two, name, name)


@pytest.mark.parametrize("name", ON_THREE_RANKS)
def test_three_ranks_equal_one_process(one, three, name):
    assert_equal_to_one(one, three, name, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL_NAMES)
def test_three_ranks_equal_one_process_in_all_cases(one, three_of_all, name):
    assert_equal_to_one(one, three_of_all, name, name)


def assert_goes_red(one, ranks, name: str) -> None:
    with pytest.raises(AssertionError, match=r"Not equal to tolerance|Arrays are not equal"):
        assert_equal_to_one(one, ranks, name, name.split(":")[0])


@pytest.mark.parametrize("name", BROKEN)
def test_the_comparison_goes_red(one, two, name):
    assert_goes_red(one, two, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL_BROKEN)
def test_every_comparison_goes_red(one, two_of_broken, name):
    assert_goes_red(one, two_of_broken, name)
