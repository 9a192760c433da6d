"""Everything the binding does, on real ranks; the checks themselves are in `workers/`."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.distributed import checks
from tests.distributed.checks import assert_found_nothing
from tests.distributed.environments import without_packages
from tests.distributed.launcher import REPOSITORY
from tests.distributed.workers.cases import cases_of

MODULES = [
    f"tests.distributed.workers.{name}"
    for name in ("entering", "fitting", "telling", "watching", "wrapping")
]
ZOO = "tests.distributed.workers.zoo"
NAMES = [name for module in MODULES for name in cases_of(import_module(module))]
ZOO_NAMES = list(cases_of(import_module(ZOO)))
pytestmark = pytest.mark.timeout(600)  # The first test of each group waits for all of it.
ON_TWO_RANKS = [
    "a_rank_without_validation_rows_logs_what_all_log",
    "ranks_that_enter_at_different_epochs_are_refused",
    "validation_on_some_ranks_alone_is_refused",
    "loss_that_divides_by_weights",
    "padding_counts_for_nothing",
    "sync_batch_normalization",
    "xla",
    "xla_of_embeddings_on_a_gpu",
    "masked_loss",
    "flags_are_told_after_the_step_that_they_were_set_for",
    "an_error_of_writing_is_kept_until_all_ranks_know_it",
    "collectives",
    "an_error_of_one_rank_is_raised_on_all",
    "initial_state_is_broadcast",
    "guard_finds_a_weight_that_differs",
    "metrics_equal_those_of_one_process",
    "wrong_use_is_refused",
    "it_stays_the_plain_optimizer",
    "a_loaded_model_goes_on",
    "saved_model",
    "a_process_set_reduces_among_its_ranks",
    "a_constant_gradient_is_reduced_in_every_step",
]
"""What most runs stand on, tried each time; the rest with -m slow."""
THE_REST = [name for name in NAMES if name not in ON_TWO_RANKS]
ON_THREE_RANKS = [
    "sync_batch_normalization",
    "guard_finds_a_weight_that_differs",
    "a_process_set_reduces_among_its_ranks",
    "a_process_set_is_told_of_its_own_ranks",
    "flags_travel_with_every_kind_of_reduction",
    "learning_rate_warms_up",
    "wrong_use_is_refused",
]
"""What could differ on three ranks, tried there each time; all of it with -m slow."""


def run_cases(folder: Path, size: int, names: list[str], **env: str) -> list[dict[str, str]]:
    """Returns each rank's findings: the traceback of every check that failed, or ""."""
    return checks.run_cases(
        folder, size, names, [*MODULES, ZOO], **({"SAVED_MODEL": str(folder)} | env)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def two(folder) -> list[dict[str, str]]:
    return run_cases(folder, 2, ON_TWO_RANKS)


@pytest.fixture(scope="module")
def rest_on_two(tmp_path_factory) -> list[dict[str, str]]:
    return run_cases(tmp_path_factory.mktemp("rest_on_two"), 2, THE_REST)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> list[dict[str, str]]:
    return run_cases(tmp_path_factory.mktemp("zoo"), 2, ZOO_NAMES)


@pytest.fixture(scope="module")
def zoo_on_three(tmp_path_factory) -> list[dict[str, str]]:
    return run_cases(tmp_path_factory.mktemp("zoo_on_three"), 3, ZOO_NAMES)


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> list[dict[str, str]]:
    return run_cases(tmp_path_factory.mktemp("three"), 3, ON_THREE_RANKS)


@pytest.fixture(scope="module")
def three_of_all(tmp_path_factory) -> list[dict[str, str]]:
    return run_cases(tmp_path_factory.mktemp("three_of_all"), 3, NAMES)


@pytest.mark.parametrize("name", ON_TWO_RANKS)
def test_on_two_ranks(two, name):
    assert_found_nothing(two, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", THE_REST)
def test_the_rest_on_two_ranks(rest_on_two, name):
    assert_found_nothing(rest_on_two, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO_NAMES)
def test_model_of_the_zoo_on_two_ranks(zoo, name):
    assert_found_nothing(zoo, name)


@pytest.mark.parametrize("name", ON_THREE_RANKS)
def test_on_three_ranks(three, name):
    assert_found_nothing(three, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO_NAMES)
def test_model_of_the_zoo_on_three_ranks(zoo_on_three, name):
    assert_found_nothing(zoo_on_three, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_all_on_three_ranks(three_of_all, name):
    assert_found_nothing(three_of_all, name)


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_many_options_on_ranks(tmp_path, size):
    name = "no_options_make_ranks_wait_for_each_other"
    assert_found_nothing(run_cases(tmp_path, size, [name], FUZZ_EXAMPLES="120"), name)


def test_saved_model_goes_on_in_plain_keras(two, folder, tmp_path):
    """In a process that can import neither Horovod nor this package."""
    program = tmp_path / "go_on.py"
    program.write_text(
        """
import sys
import keras
import numpy as np

for name in ("horovod", "sharedlayers_dist"):
    try:
        __import__(name)
    except ImportError:
        continue
    sys.exit(f"{name} can be imported")
model = keras.saving.load_model(sys.argv[1] + "/model.keras")
assert type(model.optimizer) is keras.optimizers.Adam
assert model.jit_compile
state = np.load(sys.argv[1] + "/state.npz")
assert len(state.files) == len(model.optimizer.variables)
for variable, name in zip(model.optimizer.variables, state.files):
    np.testing.assert_array_equal(variable.numpy(), state[name])
model.compile(model.optimizer, "mse")
model.fit(np.ones((4, 5)), np.ones((4, 1)), verbose=0)
assert model.optimizer.iterations == state[state.files[0]] + 1
"""
    )
    environment = without_packages(tmp_path / "packages", "horovod", "sharedlayers")
    run = subprocess.run(
        [sys.executable, "-S", program, folder],
        env=os.environ | environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert REPOSITORY not in tmp_path.parents
