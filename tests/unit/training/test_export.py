"""Which weights the best model has."""

import warnings

import keras

from sharedlayers_dist import train
from sharedlayers_dist.storage.folder import LocalFolder
from sharedlayers_dist.training.checkpoints.files import list_checkpoints, read_checkpoint
from tests.runs import read_lines
from tests.unit.training.finished_run import config, read_weights


def test_a_damaged_best_checkpoint_leaves_the_next_best_model(trained, run):
    losses = {
        step: read_checkpoint(LocalFolder(run), f"step-{step:08d}").state["metrics"]["loss"]
        for step in (2, 4)
    }
    best, second = sorted(losses, key=losses.__getitem__)
    (run / "checkpoints" / f"step-{best:08d}" / "state.json").write_text("{}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(config(trained, "copy", resume=True, epochs=1))
    texts = [str(warning.message) for warning in caught]
    assert any(f"best checkpoint was passed over: {run}" in text for text in texts), texts
    expected = read_weights(read_checkpoint(LocalFolder(run), f"step-{second:08d}"))
    actual = keras.models.load_model(run / "best.keras").get_weights()
    assert [w.tobytes() for w in actual] == expected


def test_a_metric_that_grows_is_best_where_it_is_largest(trained):
    changes = {"validation": str(trained / "pairs"), "monitor": "val_roc_auc", "epochs": 4}
    changes |= {"early_stopping": 1, "keep_checkpoints": 1, "keep_best": 1}
    result = train(config(trained, "grows", **changes))
    lines = read_lines(trained / "grows")
    values = [line["val_roc_auc"] for line in lines if line["event"] == "epoch"]
    assert values[0] != values[1]  # Else this says nothing.
    ends = [n for n in range(1, len(values)) if values[n] <= max(values[:n])]
    assert result.epochs == len(values) == (ends[0] + 1 if ends else 4)
    best, last = (values.index(max(values)) + 1) * 2, len(values) * 2
    kept = list_checkpoints(LocalFolder(trained / "grows"))
    assert kept == [f"step-{step:08d}" for step in sorted({best, last})]
    weights = keras.models.load_model(trained / "grows" / "best.keras").get_weights()
    expected = read_checkpoint(LocalFolder(trained / "grows"), f"step-{best:08d}")
    assert [w.tobytes() for w in weights] == read_weights(expected)
