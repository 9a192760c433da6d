"""What a run is applied to: what it asks of the pairs, what it leaves out, what it refuses."""

import json
import os
import zipfile

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharedlayers_dist import TrainConfig, evaluate, models, train
from sharedlayers_dist.config import EvaluateConfig, PredictConfig
from sharedlayers_dist.data.schema import METADATA_KEY
from sharedlayers_dist.errors import UserError


def texts(num_pairs, seed=0):
    """Pairs of texts, no two alike."""
    rng = np.random.default_rng(seed)
    letters = rng.choice(list("abcdeABCDE !."), (2, num_pairs, 12))
    return {
        side: ["".join(text) for text in part] for side, part in zip("ab", letters, strict=True)
    }


def write(folder, columns, metadata=None):
    folder.mkdir(parents=True)
    table = pa.table(columns).replace_schema_metadata(metadata)
    pq.write_table(table, folder / "part.parquet", row_group_size=5)
    return folder


def read(path):
    return pq.read_table(path).to_pydict()


def everything_below(folder):
    return {p: p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


@pytest.mark.parametrize(
    ("further", "labels"),
    [
        ({}, None),
        ({"label": ["yes", "no", "yes", "no"]}, None),
        ({"label": [1, 0, None, 7]}, [1, 0, None, None]),
        ({"label": [True, False, True, False]}, [1, 0, 1, 0]),
        ({"weight": ["much", "little", "", None], "group_a": [1, 2, 3, 4]}, None),
        ({"weight": [-1.0, np.nan, np.inf, None], "group_b": [[1]] * 4}, None),
    ],
    ids=["no label", "label of text", "bad labels", "bool", "odd columns", "bad weights"],
)
def test_predict_needs_nothing_but_both_sides(command, trained, tmp_path, further, labels):
    """What was seen: refused for want of a label, with the advice to use --on-bad-row."""
    pairs = write(tmp_path / "pairs", texts(4) | further)
    output = tmp_path / "scores.parquet"
    code, out, err = command("predict", "--run", trained, "--pairs", pairs, "--output", output)
    assert code == 0, err
    assert "4 scores" in out
    scores = read(output)
    assert scores.get("label") == labels
    assert np.all(np.isfinite(scores["score"]))
    assert pq.read_schema(output).field("score").type == pa.float32()


def test_files_need_not_agree_on_what_predict_does_not_read(command, trained, tmp_path):
    pairs = write(tmp_path / "pairs", texts(4) | {"label": [0, 1, 0, 1], "weight": [1.0] * 4})
    write(pairs / "more", texts(3) | {"group_a": [1, 2, 3]})
    twice = pa.table(texts(2) | {"label": [1, 1], "weight": [1, 1]})
    for name in ("label", "weight"):
        twice = twice.append_column(name, pa.array([0, 0]))
    pq.write_table(twice, pairs / "twice.parquet")
    output = tmp_path / "scores.parquet"
    code, out, err = command("predict", "--run", trained, "--pairs", pairs, "--output", output)
    assert code == 0, err
    assert "9 scores" in out
    assert list(read(output)) == ["score"]


def test_bad_rows_are_left_out_and_counted_and_the_others_keep_their_place(
    command, trained, tmp_path
):
    table = texts(12) | {"label": [0, 1] * 6, "weight": [1.0, 2, 0.5] * 4}
    write(tmp_path / "clean", {name: column[1:] for name, column in table.items()})
    table["a"][0] = None
    write(tmp_path / "bad", table)
    said = {}
    for name in ("clean", "bad"):
        for order, output in (("predict", f"{name}.parquet"), ("evaluate", f"report-{name}")):
            use = [order, "--run", trained, "--pairs", tmp_path / name]
            use += ["--output", tmp_path / output]
            if name == "bad":
                code, _, err = command(*use)
                assert code == 2
                assert "row group 0, row 0: column 'a' is null" in err
                assert "--on-bad-row skip" in err
            code, said[order], err = command(*use, "--on-bad-row", "skip")
            assert code == 0, err
    assert "1 bad rows have no score" in said["predict"]
    assert "11 scores" in said["predict"]
    assert "num_bad_rows           1" in said["evaluate"]
    expected, given = read(tmp_path / "clean.parquet"), read(tmp_path / "bad.parquet")
    assert given["score"][0] is None
    np.testing.assert_allclose(given["score"][1:], expected["score"], rtol=1e-5)
    expected, given = (
        json.loads((tmp_path / f"report-{name}" / "metrics.json").read_text())
        for name in ("clean", "bad")
    )
    assert (given.pop("num_bad_rows"), expected.pop("num_bad_rows")) == (1, 0)
    (problem,) = given.pop("bad_rows")
    assert "row group 0, row 0" in problem
    assert expected.pop("bad_rows") == []
    assert given.pop("pairs") != expected.pop("pairs")
    assert given.pop("run") == expected.pop("run")
    assert given == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_the_val_loss_of_training(tmp_path):
    """With weights, also of zero, and with rows that are left out."""
    weight = np.array([0.0, 3, 0.5, 1] * 5 + [2.0] * 3)
    table = texts(23) | {"label": [0, 1, 1] * 7 + [0, 0], "weight": weight}
    table["a"][5] = table["b"][11] = None
    pairs = str(write(tmp_path / "pairs", table))
    config = TrainConfig(
        pairs=pairs,
        validation=pairs,
        output=str(tmp_path / "run"),
        epochs=1,
        batch_size=5,
        learning_rate=0.01,
        head="cosine",
        on_bad_row="skip",
    )
    val_loss = train(config).metrics["val_loss"]
    figures = evaluate.evaluate(config.output, pairs, str(tmp_path / "report"), on_bad_row="skip")
    assert figures.num_bad_rows == 2
    assert figures.loss == pytest.approx(val_loss, rel=1e-5)
    usable = np.delete(weight, [5, 11])
    assert abs(usable.sum() / usable.size - 1) > 0.01  # Else any definition gives the same.


def test_one_kind_of_pairs_without_weight_leaves_a_report(trained, tmp_path):
    pairs = write(tmp_path / "pairs", texts(4) | {"label": [0, 1] * 2, "weight": [1, 0] * 2})
    figures = evaluate.evaluate(str(trained), str(pairs), str(tmp_path / "report"))
    assert figures.roc_auc is None
    assert "not defined" in (tmp_path / "report" / "report.html").read_text()


def damage(run, change):
    model = keras.models.load_model(run / "model.keras", compile=False)
    model = change(model) or model
    model.save(run / "model.keras")


def forget_a_number(model):
    model.layers[-1].bias.assign([np.nan])


def test_scores_that_are_no_numbers_are_told(command, run, tmp_path):
    damage(run, forget_a_number)
    pairs = write(tmp_path / "pairs", texts(7) | {"label": [0, 1] * 3 + [0]})
    use = ["--run", run, "--pairs", pairs]
    for name in ("predict", "evaluate"):
        code, _, err = command(name, *use, "--output", tmp_path / name)
        assert code == 2
        assert "Received: NaN for" in err
        assert "row group 0, row 0" in err
        assert not (tmp_path / name).exists()
    code, out, _ = command("predict", *use, "--output", tmp_path / "s", "--on-bad-row", "skip")
    assert code == 0
    assert "7 bad rows have no score" in out
    assert read(tmp_path / "s")["score"] == [None] * 7
    code, _, err = command("evaluate", *use, "--output", tmp_path / "r", "--on-bad-row", "skip")
    assert code == 2
    assert "Received: 0 pairs" in err


def test_a_run_of_mixed_precision_is_scored_without_ties(run, tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        damage(run, lambda model: models.build("tweet_pair", head="cosine"))
    finally:
        keras.config.set_dtype_policy("float32")
    pairs = write(tmp_path / "pairs", texts(60) | {"label": [0, 1] * 30})
    scored = evaluate.predict(str(run), str(pairs), str(tmp_path / "scores.parquet"))
    assert len(np.unique(scored.scores)) > 55
    figures = evaluate.evaluate(str(run), str(pairs), str(tmp_path / "report"))
    assert figures.roc_auc == evaluate.measure(scored.labels, scored.scores).roc_auc


def images(folder, shape=(27, 27, 1)):
    pixels = np.zeros((2, 4, *shape), np.uint8)
    a, b = map(pa.FixedShapeTensorArray.from_numpy_ndarray, pixels)
    return write(folder, {"a": a, "b": b, "label": [0, 1, 0, 1]})


def set_fact(run, **facts):
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | facts))


def one_input(model):
    x = keras.Input((280, 256))
    return keras.Model(x, keras.layers.Dense(1)(keras.layers.Flatten()(x)))


def vectors(model):
    encoder = keras.Sequential([keras.Input((280, 256)), keras.layers.LSTM(3)])
    return models.pair_classifier(encoder, keras.layers.Subtract())


def a_truncated_model(run):
    content = (run / "model.keras").read_bytes()
    (run / "model.keras").write_bytes(content[:1000])


def a_model_without_weights(run):
    with zipfile.ZipFile(run / "model.keras", "w") as file:
        file.writestr("config.json", "{}")


BAD_RUNS = {
    "missing": (lambda run: run.rename(run.with_name("other")), "holds a config.json"),
    "a file": (
        lambda run: (run.rename(run.with_name("other")), run.write_text("no run")),
        "holds a config.json",
    ),
    "not finished": (lambda run: (run / "model.keras").unlink(), "Only a finished run"),
    "truncated model": (a_truncated_model, "Keras cannot open"),
    "no model": (lambda run: (run / "model.keras").write_text("text"), "Keras cannot open"),
    "empty model": (a_model_without_weights, "Keras cannot open"),
    "another run's model": (
        lambda run: damage(run, lambda model: models.build("digit_pair")),
        "has the input shapes [(None, 27, 27, 1), (None, 27, 27, 1)]",
    ),
    "a model of one input": (lambda run: damage(run, one_input), "takes pairs of text"),
    "a model that gives vectors": (lambda run: damage(run, vectors), "output shape (None, 3)"),
    "no kind": (lambda run: (run / "config.json").write_text("{}"), "kind=None"),
    "another kind": (lambda run: set_fact(run, kind="sound"), "kind='sound'"),
    "no alphabet": (lambda run: set_fact(run, alphabet=None), "alphabet=None"),
    "config is no JSON": (lambda run: (run / "config.json").write_text("{"), "must be JSON"),
    "config is a list": (lambda run: (run / "config.json").write_text("[]"), "must be JSON"),
}


@pytest.mark.parametrize("name", BAD_RUNS)
def test_what_is_no_finished_run_is_refused_in_one_line(command, run, tmp_path, name):
    spoil, message = BAD_RUNS[name]
    spoil(run)
    pairs = write(tmp_path / "pairs", texts(4) | {"label": [0, 1, 0, 1]})
    before = everything_below(tmp_path)
    for order, output in (("evaluate", "report"), ("predict", "scores.parquet")):
        code, _, err = command(order, "--run", run, "--pairs", pairs, "--output", tmp_path / output)
        assert code == 2, err
        (line,) = err.splitlines()
        assert message in line
        assert str(run) in line
    assert everything_below(tmp_path) == before


def broken(folder):
    folder.mkdir()
    (folder / "part.parquet").write_bytes(b"PAR1 no Parquet PAR1")
    return folder


BAD_PAIRS = {
    "missing": (lambda folder: folder, "no such dataset"),
    "empty folder": (lambda folder: folder.mkdir() or folder, "at least one file"),
    "no rows": (
        lambda folder: write(folder, {s: pa.array([], pa.string()) for s in "ab"}),
        "0 rows",
    ),
    "no b": (lambda folder: write(folder, {"a": ["x"], "label": [1]}), "one column named 'b'"),
    "numbers": (lambda folder: write(folder, {"a": [1], "b": [2], "label": [1]}), "must hold text"),
    "no Parquet": (broken, "cannot be read as Parquet"),
    "images": (images, "image pairs"),
    "metadata": (
        lambda folder: write(folder, texts(2) | {"label": [0, 1]}, {METADATA_KEY: b"{"}),
        "metadata",
    ),
}


@pytest.mark.parametrize("name", BAD_PAIRS)
def test_pairs_that_cannot_be_scored_are_refused_in_one_line(command, trained, tmp_path, name):
    make, message = BAD_PAIRS[name]
    pairs = make(tmp_path / "pairs")
    before = everything_below(tmp_path)
    for order, output in (("evaluate", "report"), ("predict", "scores.parquet")):
        code, _, err = command(
            order, "--run", trained, "--pairs", pairs, "--output", tmp_path / output
        )
        assert code == 2, err
        (line,) = err.splitlines()
        assert message in line
    assert everything_below(tmp_path) == before


def test_images_of_another_shape_than_the_models_are_refused(command, run, tmp_path):
    damage(run, lambda model: models.build("digit_pair"))
    set_fact(run, kind="image", alphabet="")
    use = ["--run", run, "--output", tmp_path / "scores.parquet", "--pairs"]
    for shape in ((28, 28, 1), (27, 27), (27, 27, 3)):
        pairs = images(tmp_path / f"pairs{shape}", shape)
        code, _, err = command("predict", *use, pairs)
        assert code == 2, err
        (line,) = err.splitlines()
        assert f"holds images of the shape {shape}, uint8, and the model" in line
        assert "of the shape (27, 27, 1)" in line
    assert command("predict", *use, images(tmp_path / "pairs"))[0] == 0


def make_link(folder):
    (folder / "report").mkdir()
    (folder / "report" / "metrics.json").symlink_to(folder / "elsewhere")
    return folder / "report"


def make_file(folder):
    (folder / "file").write_text("years of work")
    return folder / "file" / "report"


def make_broken_link(folder):
    (folder / "l").symlink_to("none")
    return folder / "l/x"


BAD_OUTPUTS = {
    "nothing": (lambda folder: "", "`output` must"),
    "a long name": (lambda folder: folder / ("n" * 300), "File name too long"),
    "a URI": (lambda folder: "s3://me:secret@bucket/x", "must be a path on this machine"),
    "below a file": (make_file, "is no folder"),
    "a broken link": (make_broken_link, "folder"),
}


@pytest.mark.parametrize("name", BAD_OUTPUTS)
def test_outputs_that_cannot_be_written_are_refused_before_the_work(
    command, trained, tmp_path, name
):
    make, message = BAD_OUTPUTS[name]
    output = make(tmp_path)
    before = everything_below(tmp_path)
    for order in ("evaluate", "predict"):
        code, _, err = command(order, "--run", trained, "--pairs", "none", "--output", output)
        assert code == 2, err
        (line,) = err.splitlines()
        assert message in line
        assert "secret" not in line
    assert everything_below(tmp_path) == before


def test_nothing_is_overwritten(command, trained, tmp_path):
    use = ["--run", trained, "--pairs", "none", "--output"]
    code, _, err = command("evaluate", *use, make_link(tmp_path))
    assert (code, "not overwritten" in err) == (2, True)
    (tmp_path / "scores.parquet").write_text("years of work")
    code, _, err = command("predict", *use, tmp_path / "scores.parquet")
    assert (code, "which exists" in err) == (2, True)
    assert (tmp_path / "scores.parquet").read_text() == "years of work"


def test_an_output_may_lie_in_the_home_folder(command, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    pairs = write(tmp_path / "pairs", texts(4) | {"label": [0, 1, 0, 1]})
    use = ["--run", trained, "--pairs", pairs]
    assert command("evaluate", *use, "--output=~/report")[0] == 0
    assert command("predict", *use, "--output=~/scores.parquet")[0] == 0
    assert sorted(os.listdir(tmp_path / "home")) == ["report", "scores.parquet"]
    assert sorted(os.listdir(tmp_path / "home" / "report")) == ["metrics.json", "report.html"]


def test_another_choice_than_error_and_skip_is_refused():
    for config in (PredictConfig, EvaluateConfig):
        with pytest.raises(UserError, match="`on_bad_row` must be one of error, skip"):
            config(run="r", pairs="p", output="o", on_bad_row="ignore")  # type: ignore[arg-type]
