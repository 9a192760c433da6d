import json
import os
import subprocess
import sys

import pytest

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.keras_settings import read_keras_settings, require_usable_settings


def test_the_settings_of_a_new_machine_are_usable(tmp_path):
    require_usable_settings({"KERAS_HOME": str(tmp_path)})
    require_usable_settings({"KERAS_HOME": str(tmp_path), "KERAS_BACKEND": "tensorflow"})
    assert read_keras_settings() == {
        "floatx": "float32",
        "epsilon": 1e-07,
        "dtype_policy": "float32",
    }


@pytest.mark.parametrize("name", ["KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH"])
def test_a_limit_that_cuts_every_training_short_is_refused(name):
    with pytest.raises(UserError, match=f"Received: {name}=3 in the environment"):
        require_usable_settings({name: "3"})


@pytest.mark.parametrize(
    ("variables", "stored", "told"),
    [
        ({"KERAS_BACKEND": "torch"}, {}, "'torch', from KERAS_BACKEND in the environment"),
        ({}, {"backend": "jax"}, "'jax', from \"backend\" in {file}"),
        ({}, {"image_data_format": "channels_first"}, '"channels_first" in {file}'),
        ({"KERAS_MAX_EPOCHS": "1"}, {}, "KERAS_MAX_EPOCHS=1"),
    ],
)
def test_a_run_under_another_projects_settings_is_refused_in_one_line(
    tmp_path, variables, stored, told
):
    file = tmp_path / "keras.json"
    file.write_text(json.dumps({"floatx": "float32", "epsilon": 1e-7} | stored))
    options = ["--pairs=nowhere", f"--output={tmp_path / 'run'}"]
    ended = subprocess.run(
        [sys.executable, "-m", "sharedlayers_dist", "train", *options],
        env={**os.environ, "KERAS_HOME": str(tmp_path), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    (line,) = ended.stderr.splitlines()
    assert told.format(file=file) in line
    assert not (tmp_path / "run").exists()
