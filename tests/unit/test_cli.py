"""What a user gets wrong costs one line and exit code 2; nothing is lost, nothing overwritten."""

import json
import re

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharedlayers_dist import dist, models, training
from sharedlayers_dist.cli import main
from tests.distributed.pairs import write_text_pairs
from tests.object_store import make_bucket, make_uri


def refused(result) -> str:
    """The one line of a refusal."""
    code, _, err = result
    assert code == 2, err
    (line,) = [line for line in err.splitlines() if "rank(s)" not in line]  # Not the progress.
    assert line.startswith("sharedlayers: ")
    return line


TEXTS = {"a": ["one", "two", "three"], "b": ["four", "five", "six"]}


def write(folder, table):
    folder.mkdir()
    pq.write_table(pa.table(table), folder / "part.parquet")


def no_folder(folder):
    del folder


def empty_folder(folder):
    folder.mkdir()


def no_rows(folder):
    columns = {"a": pa.array([], pa.string()), "b": pa.array([], pa.string())}
    write(folder, columns | {"label": pa.array([], pa.int8())})


def no_label(folder):
    write(folder, TEXTS)


def label_is_text(folder):
    write(folder, TEXTS | {"label": ["yes", "no", "yes"]})


def item_is_number(folder):
    write(folder, TEXTS | {"a": [1, 2, 3], "label": [0, 1, 0]})


def label_outside(folder):
    write(folder, TEXTS | {"label": [0, 1, 2]})


def null_item(folder):
    write(folder, TEXTS | {"b": ["four", None, "six"], "label": [0, 1, 0]})


def null_label(folder):
    write(folder, TEXTS | {"label": [0, None, 1]})


def truncated(folder):
    write(folder, TEXTS | {"label": [0, 1, 0]})
    content = (folder / "part.parquet").read_bytes()
    (folder / "part.parquet").write_bytes(content[: len(content) // 2])


def images(folder, shape=(27, 27, 1)):
    items = pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, *shape), np.uint8))
    write(folder, {"a": items, "b": items, "label": [0, 1]})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (no_folder, ["pairs"]),
        (empty_folder, ["pairs"]),
        (no_rows, ["pairs"]),
        (no_label, ["label"]),
        (label_is_text, ["label", "string"]),
        (item_is_number, ["part.parquet", "int64"]),
        (label_outside, ["part.parquet", "row group 0", "row 2", "2"]),
        (null_item, ["part.parquet", "row group 0", "row 1", "b"]),
        (null_label, ["part.parquet", "row group 0", "row 1", "label"]),
        (truncated, ["part.parquet"]),
        (images, ["images of the shape", "tweet_pair", "input 'a'", "(280, 256)"]),
    ],
)
def test_pairs_that_cannot_be_trained_on_are_refused(command, tmp_path, make, said):
    make(tmp_path / "pairs")
    run = tmp_path / "run"
    line = refused(command("train", "--pairs", tmp_path / "pairs", "--output", run, "--epochs", 1))
    for words in said:
        assert words in line
    assert not run.exists() or [path.name for path in run.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--pairs", "x"], "--output"),
        (["train", "--pairs", "x", "--output", "y", "--epochs", "0"], "epochs=0"),
        (["train", "--pairs", "x", "--output", "y", "--epochs", "many"], "many"),
        (["train", "--pairs", "x", "--output", "y", "--epoch", "1"], "--epoch"),
        (["train", "--pairs", "x", "--output", "y", "--model", "gpt"], "gpt"),
        (["explain"], "explain"),
        (["describe", "gpt"], "gpt"),
        (["evaluate", "--run", "none", "--pairs", "x", "--output", "y"], "x"),
        (["evaluate", "--run", "r", "--pairs", "x", "--output", "s3://k:p@y"], "s3://***@y"),
        (["predict", "--run", "r", "--pairs", "x", "--output", "s3://k:p@y"], "s3://***@y"),
    ],
)
def test_wrong_options_are_named(command, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert said in refused(command(*arguments))
    assert list(tmp_path.iterdir()) == []


def test_the_models_are_listed_and_described(command):
    code, out, _ = command("models")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [*models.names()]
    assert [line.split()[0] for line in out.splitlines() if line.endswith("Start here.")] == [
        "character_cnn_pair",
        "residual_cnn_pair",
    ]
    code, out, _ = command("describe", "tweet_pair")
    assert code == 0
    assert "82,305" in out
    assert "shared_lstm is shared: (a), (b)" in out


def test_a_run_is_trained_measured_and_never_overwritten(command, tmp_path):
    pairs = write_text_pairs(tmp_path / "pairs", 30)
    options = ["--pairs", pairs, "--output", tmp_path / "run"]
    train = ["train", *options, "--epochs", 1, "--batch-size", 16, "--head", "cosine"]
    code, out, err = command(*train)
    assert code == 0, err
    assert "2 steps in 1 epochs" in out
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert "holds another run" in refused(command(*train))
    assert "batch_size: 16 in the run, 8 asked for" in refused(
        command(*train[:-3], 8, "--head", "cosine", "--resume")
    )
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before

    use = ["--run", tmp_path / "run", "--pairs", pairs]
    code, out, _ = command("evaluate", *use, "--output", tmp_path / "report")
    assert code == 0
    figures = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert figures["num_pairs"] == 30
    assert f"{figures['roc_auc']:.6g}" in out
    page = (tmp_path / "report" / "report.html").read_text()
    assert f"{figures['roc_auc']:.4f}" in page
    assert "is not overwritten" in refused(
        command("evaluate", *use, "--output", tmp_path / "report")
    )

    code, _, _ = command("predict", *use, "--output", tmp_path / "scores.parquet")
    assert code == 0
    scores = pq.read_table(tmp_path / "scores.parquet")
    labels = pa.concat_tables([pq.read_table(p) for p in sorted(pairs.iterdir())])["label"]
    assert scores["label"].to_pylist() == labels.to_pylist()
    from sharedlayers_dist.evaluate import measure

    again = measure(scores["label"].to_numpy(), scores["score"].to_numpy())
    assert again.roc_auc == pytest.approx(figures["roc_auc"])
    assert "exists" in refused(command("predict", *use, "--output", tmp_path / "scores.parquet"))


def test_an_output_that_cannot_be_made_is_refused_before_the_work(command, tmp_path):
    pairs = write_text_pairs(tmp_path / "pairs", 10)
    (tmp_path / "file").write_text("years of work")
    train = ["train", "--pairs", pairs, "--epochs", 1, "--output"]
    line = refused(command(*train, tmp_path / "file" / "run"))
    assert "can be made and written to" in line
    assert command(*train, tmp_path / "run")[0] == 0
    use = ["--run", tmp_path / "run", "--pairs", pairs, "--output"]
    for arguments in (
        ["evaluate", *use, tmp_path / "file"],
        ["evaluate", *use, tmp_path / "file" / "report"],
        ["predict", *use, tmp_path / "file" / "scores.parquet"],
    ):
        assert "one that can be made" in refused(command(*arguments))
    assert (tmp_path / "file").read_text() == "years of work"


def test_a_run_folder_that_is_damaged_is_refused(command, tmp_path):
    pairs = write_text_pairs(tmp_path / "pairs", 10)
    train = ["train", "--pairs", pairs, "--epochs", 1, "--output", tmp_path / "run"]
    assert command(*train)[0] == 0
    predict = ["predict", "--run", tmp_path / "run", "--pairs", pairs]
    predict += ["--output", tmp_path / "scores.parquet"]
    model = (tmp_path / "run" / "model.keras").read_bytes()
    (tmp_path / "run" / "model.keras").write_bytes(model[:1000])
    line = refused(command(*predict))
    assert "whose model.keras (1000 bytes) Keras cannot open" in line
    (tmp_path / "run" / "config.json").write_text("[]")
    assert "must be JSON" in refused(command(*predict))
    assert "must be JSON" in refused(command(*train, "--resume"))
    assert not (tmp_path / "scores.parquet").exists()


def test_a_store_that_cannot_be_reached_is_told_in_one_line(command, tmp_path):
    pairs = write_text_pairs(tmp_path / "pairs", 10)
    run = "s3://key:secret@bucket/run?scheme=http&endpoint_override=127.0.0.1:1"
    code, _, err = command("train", "--pairs", pairs, "--epochs", 1, "--output", run)
    assert code == 1
    (line,) = err.splitlines()
    assert "NETWORK_CONNECTION" in line
    assert "secret" not in line


def test_a_run_in_a_store_is_named_without_its_keys(command, tmp_path, object_store):
    pairs = write_text_pairs(tmp_path / "pairs", 10)
    make_bucket("cli", object_store)
    run = make_uri("cli/run", object_store)
    code, out, err = command("train", "--pairs", pairs, "--epochs", 1, "--output", run)
    assert code == 0, err
    assert "model: s3://***@cli/run/model.keras?scheme=http" in out
    code, out, err = command(
        *["evaluate", "--run", run, "--pairs", pairs, "--output", tmp_path / "report"]
    )
    assert code == 0, err
    missing = run.replace("cli/run", "cli/none")
    line = refused(
        command(
            *["train", "--pairs", pairs, "--epochs", 1, "--output", tmp_path / "run"],
            *["--initialize-from", missing],
        )
    )
    assert "s3://***@cli/none" in line
    shown = [out, err, line, *(p.read_text() for p in (tmp_path / "report").iterdir())]
    assert not [text for text in shown if "secret" in text]


def test_a_metric_that_is_not_there_cannot_be_monitored(command, tmp_path):
    pairs = write_text_pairs(tmp_path / "pairs", 10)
    train = ["train", "--pairs", pairs, "--output", tmp_path / "run", "--early-stopping", 2]
    line = refused(command(*train, "--monitor", "val_loss"))
    assert "one of loss, accuracy, roc_auc. Received: monitor='val_loss'" in line
    line = refused(command(*train, "--validation", pairs, "--monitor", "auc"))
    assert "roc_auc, val_loss, val_accuracy, val_roc_auc. Received: monitor='auc'" in line
    assert not (tmp_path / "run").exists()


def test_a_run_that_diverges_ends_in_one_line_and_keeps_no_bad_checkpoint(command, tmp_path):
    pairs = write_text_pairs(tmp_path / "pairs", 30)
    code, _, err = command(
        *["train", "--pairs", pairs, "--output", tmp_path / "run", "--tensorboard"],
        *["--epochs", 1, "--batch-size", 4, "--learning-rate", 1e38, "--log-every", 1],
    )
    assert code == 1
    assert "must stay finite" in err.splitlines()[-1]
    assert "--initialize-from" in err.splitlines()[-1]
    assert list((tmp_path / "run").glob("checkpoints/*")) == []
    assert any((tmp_path / "run" / "tensorboard").iterdir())


SHORT = ["--epochs", 1, "--batch-size", 8, "--head", "cosine"]


def test_bad_rows_and_cut_texts_are_counted_and_said(command, tmp_path):
    long = "x" * 300
    table = {"a": ["one", None, "three", long], "b": ["a", "b", "c", "d"], "label": [0, 1, 1, 0]}
    write(tmp_path / "pairs", table)
    train = ["train", "--pairs", tmp_path / "pairs", "--output", tmp_path / "run", *SHORT]
    assert "row 1" in refused(command(*train))
    code, _, err = command(*train, "--on-bad-row", "skip")
    assert code == 0, err
    assert "1 bad rows were left out" in err
    assert "1 items were truncated: their last 280 characters are read" in err


def test_images_are_trained_on_and_scored(command, tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, 12, 27, 27, 1), np.uint8)
    a, b = map(pa.FixedShapeTensorArray.from_numpy_ndarray, pixels)
    write(tmp_path / "pairs", {"a": a, "b": b, "label": [0, 1] * 6})
    options = ["--pairs", tmp_path / "pairs", "--output", tmp_path / "run", *SHORT]
    code, out, err = command("train", "--model", "digit_pair", *options)
    assert code == 0, err
    assert "2 steps" in out
    use = ["--run", tmp_path / "run", "--pairs", tmp_path / "pairs"]
    assert command("predict", *use, "--output", tmp_path / "scores.parquet")[0] == 0
    scores = pq.read_table(tmp_path / "scores.parquet")["score"].to_numpy()
    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    floats = pixels.astype(np.float32) / 255  # What the saved model takes.
    np.testing.assert_allclose(scores, model.predict([*floats], verbose=0)[:, 0], rtol=1e-4)

    write_text_pairs(tmp_path / "texts", 10)
    use = ["--run", tmp_path / "run", "--pairs", tmp_path / "texts"]
    assert "text pairs" in refused(command("evaluate", *use, "--output", tmp_path / "report"))


def test_images_of_another_size_are_refused(command, tmp_path):
    images(tmp_path / "pairs", (28, 28, 1))
    options = ["--pairs", tmp_path / "pairs", "--output", tmp_path / "run", *SHORT]
    on_the_fly = ["--item-column", "a", "--group-column", "label", "--groups-per-batch", 2]
    for more in ([], [*on_the_fly, "--items-per-group", 2]):
        line = refused(command("train", "--model", "digit_pair", *options, *more))
        assert "holds images of the shape (28, 28, 1), uint8, and the model digit_pair" in line
        assert "input 'a' is float32 of the shape (27, 27, 1)" in line
        assert not (tmp_path / "run").exists()


def test_datasets_are_mixed_by_weight(command, tmp_path):
    write_text_pairs(tmp_path / "many", 30)
    write_text_pairs(tmp_path / "few", 10, seed=1)
    train = ["train", "--pairs", tmp_path / "many", "--output", tmp_path / "run", *SHORT]
    assert "few" in refused(command(*train, "--mix", f"{tmp_path / 'few'}"))
    code, out, err = command(*train, "--mix", f"2*{tmp_path / 'few'}")
    assert code == 0, err
    assert "5 steps" in out  # 40 pairs, 8 at a time.


def test_pairs_are_made_on_the_fly_from_items(command, tmp_path):
    texts = [f"{word} {number}" for word in ("cat", "DOG", "tea!") for number in range(4)]
    write(tmp_path / "items", {"text": texts, "group": [text[0] for text in texts]})
    options = ["--pairs", tmp_path / "items", "--output", tmp_path / "run", *SHORT]
    code, out, err = command("train", *options, "--groups-per-batch", 3, "--items-per-group", 2)
    assert code == 0, err
    assert "2 steps" in out  # 12 items, 6 at a time.
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert set(config["alphabet"]) == set("".join(texts))


def test_bad_items_are_left_out_where_pairs_are_made_on_the_fly(command, tmp_path):
    texts = ["one", "two", None, "three", "four"]
    write(tmp_path / "items", {"text": texts, "group": ["a", "a", "a", "b", "b"]})
    options = ["--pairs", tmp_path / "items", "--output", tmp_path / "run", *SHORT]
    options += ["--groups-per-batch", 2]
    assert "row group 0, row 2: " in refused(command("train", *options))
    code, _, err = command("train", *options, "--on-bad-row", "skip")
    assert code == 0, err
    assert "1 bad rows were left out, counted in each epoch: " in err
    assert "row group 0, row 2: " in err


def test_a_run_whose_rows_are_all_bad_is_no_run(command, tmp_path):
    nothing = pa.array([None, None], pa.string())
    write(tmp_path / "pairs", {"a": nothing, "b": ["x", "y"], "label": [0, 1]})
    options = ["--pairs", tmp_path / "pairs", "--output", tmp_path / "run", *SHORT]
    line = refused(command("train", *options, "--on-bad-row", "skip", "--alphabet-size", 2))
    assert "an epoch in which all were left out" in line
    assert not (tmp_path / "run" / "model.keras").exists()


def test_the_doctor_names_the_versions(command):
    code, out, _ = command("doctor")
    assert code == 0
    assert "horovod 0.28.1" in out
    assert re.search("Horovod was built with TensorFlow, Gloo.*; without PyTorch, MXNet", out)
    assert dist.size() == 1


def test_only_a_users_mistake_loses_its_traceback(command, tmp_path, monkeypatch, capsys):
    pairs = write_text_pairs(tmp_path / "pairs", 10)
    train = ["train", "--pairs", pairs, "--output", tmp_path / "run", *SHORT]

    class Adds(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            np.zeros(2) + np.zeros(3)

    fit = training.train
    monkeypatch.setattr(training, "train", lambda config: fit(config, [Adds()]))
    with pytest.raises(ValueError, match="operands could not be broadcast"):  # Python shows it all.
        command(*train)


def test_the_rank_that_met_a_fault_shows_it_whole(capsys, monkeypatch):
    """A failure of one rank that all of them were told of, as from `dist.raise_on_all_ranks`."""

    def fail(config):
        try:
            np.zeros(2) + np.zeros(3)
        except ValueError as error:
            raise dist.CollectiveRuntimeError("Rank 0: ValueError: operands") from error

    monkeypatch.setattr(training, "train", fail)
    with pytest.raises(SystemExit) as ended:
        main(["train", "--pairs", "x", "--output", "y"])
    assert ended.value.code == 1
    first, *_, fault, last = capsys.readouterr().err.splitlines()
    assert first == "Traceback (most recent call last):"
    assert fault.startswith("ValueError: operands could not be broadcast")
    assert last == "sharedlayers: Rank 0: ValueError: operands"
