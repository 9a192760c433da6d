import pytest
from ray_tune import absolute_file, best_first

from sharedlayers_dist import TrainConfig

FIGURES = {0.1: 0.7, 0.001: 0.9, 0.01: 0.2}


@pytest.mark.parametrize(
    ("monitor", "rates"),
    [
        ("", [0.01, 0.1, 0.001]),
        ("val_loss", [0.01, 0.1, 0.001]),
        ("val_roc_auc", [0.001, 0.1, 0.01]),
        ("val_accuracy", [0.001, 0.1, 0.01]),
    ],
)
def test_the_best_trial_comes_first_whether_large_or_small_is_good(monitor, rates):
    config = TrainConfig(pairs="pairs", validation="pairs", output="run", monitor=monitor)
    assert best_first(FIGURES, config.monitored_mode) == [(rate, FIGURES[rate]) for rate in rates]


def test_a_file_is_found_from_the_folder_of_a_trial(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_file("mine.py:build") == f"{tmp_path}/mine.py:build"
    assert [absolute_file(name) for name in ("", "tweet_pair", "package.module:build")] == [
        "",
        "tweet_pair",
        "package.module:build",
    ]
