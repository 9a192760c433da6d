"""Ranks on shares of a batch end where one process on whole batches ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.distributed.launcher import run_ranks

WORKER = "tests.distributed.workers.equal_to_one"
BROKEN = ["none", "mean_of_means"]
"""Ways of combining gradients that are wrong: the comparison must notice each."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("equal_to_one")
    ways = ["exact", "accumulated-exact"]
    run_ranks(WORKER, 1, folder, *ways)
    run_ranks(WORKER, 2, folder, *ways, *BROKEN, *[f"accumulated-{how}" for how in BROKEN])
    run_ranks(WORKER, 3, folder, *ways)
    return folder


def load(folder: Path, how: str, size: int, rank: int) -> dict[str, np.ndarray]:
    return dict(np.load(folder / f"{how}.{size}.{rank}.npz"))


def assert_equal_to_one(folder: Path, how: str, size: int, prefix: str) -> None:
    accumulated = "accumulated-" if how.startswith("accumulated-") else ""
    one = load(folder, f"{accumulated}exact", 1, 0)
    assert any(name.startswith(prefix) for name in one)
    for rank in range(size):
        many = load(folder, how, size, rank)
        assert many.keys() == one.keys()
        for name in one:
            if name.startswith(prefix):
                np.testing.assert_allclose(many[name], one[name], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("prefix", ["weight", "slot", "log"])
def test_ranks_on_uneven_shares_equal_one_process(results, size, prefix):
    assert_equal_to_one(results, "exact", size, prefix)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("prefix", ["weight", "slot", "log", "accumulated"])
def test_ranks_that_accumulate_through_epochs_equal_one_process(results, size, prefix):
    """Also in what is left over at the end, added up over the ranks."""
    assert_equal_to_one(results, "accumulated-exact", size, prefix)
    assert load(results, "accumulated-exact", size, 0)["accumulated0"] == 2


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("prefix", ["weight", "slot", "accumulated"])
def test_the_comparison_of_accumulated_gradients_goes_red(results, how, prefix):
    with pytest.raises(AssertionError):
        assert_equal_to_one(results, f"accumulated-{how}", 2, prefix)


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("prefix", ["weight", "slot", "log"])
def test_the_comparison_goes_red(results, how, prefix):
    with pytest.raises(AssertionError):
        assert_equal_to_one(results, how, 2, prefix)


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_agree_bit_by_bit(results, size):
    first = load(results, "exact", size, 0)
    for rank in range(1, size):
        other = load(results, "exact", size, rank)
        for name in first:
            np.testing.assert_array_equal(other[name], first[name])
