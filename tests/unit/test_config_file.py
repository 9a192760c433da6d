"""A file of options means what the same options mean on the command line, which wins over it."""

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cyclopts import App, Parameter

from sharedlayers_dist import TrainConfig, training
from sharedlayers_dist.config_file import OptionsFile
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.options import EMPTY_OBJECT, JsonObject, Options
from sharedlayers_dist.training import TrainResult
from tests.distributed.pairs import write_text_pairs
from tests.object_store import make_bucket, make_uri
from tests.runs import as_arguments, assert_same_tensors, make_options

FLAT = """
pairs = "x"
output = "y"
batch-size = 64
learning_rate = 1
resume = true
mix = ["2*a", "0.5*b"]
head = "cosine"
model_options = {units = 64}
num_workers = "1:3"
"""
IN_TABLES = """
[run]
output = "y"
resume = true

[model]
head = "cosine"

[model.model-options]
units = 64

[data]
pairs = "x"
mix = ["2*a", "0.5*b"]

[order]
batch_size = 64

[optimization]
learning-rate = 1

[checkpoints]
[log]
[ray]
num_workers = "1:3"
"""
AS_JSON = """{
  "pairs": "x", "output": "y", "batch_size": 64, "learning_rate": 1.0, "resume": true,
  "mix": ["2*a", "0.5*b"], "head": "cosine", "num_workers": "1:3",
  "model_options": {"units": 64}
}"""
WANTED: dict[str, Any] = {
    "pairs": "x",
    "output": "y",
    "batch_size": 64,
    "learning_rate": 1.0,
    "resume": True,
    "mix": ("2*a", "0.5*b"),
    "head": "cosine",
    "model_options": {"units": 64},
    "num_workers": "1:3",
}
RUN = {"fingerprint": "f", "versions": {"keras": "3"}, "kind": "text", "alphabet": "abc"}


@pytest.fixture
def parsed(command, monkeypatch):
    """The configurations that `train` is called with."""
    configs = []

    def train(config):
        configs.append(config)
        return TrainResult(run=config.output, epochs=1, steps=1, metrics={})

    monkeypatch.setattr(training, "train", train)

    def parse(*arguments):
        code, _, err = command("train", *arguments)
        assert code == 0, err
        return configs[-1]

    return parse


@pytest.fixture
def write(tmp_path):
    """Writes a file; returns its path."""

    def write(text, name="run.toml"):
        path = tmp_path / name
        path.write_text(text if isinstance(text, str) else json.dumps(text))
        return path

    return write


def refused(result) -> str:
    code, _, err = result
    assert code == 2, err
    (line,) = err.splitlines()
    return line


@pytest.mark.parametrize(
    ("text", "name"), [(FLAT, "a.toml"), (IN_TABLES, "b.toml"), (AS_JSON, "c.json")]
)
def test_a_file_means_what_the_command_line_means(parsed, write, text, name):
    assert parsed("--config", write(text, name)) == TrainConfig(**WANTED)


def test_the_command_line_wins_over_the_file(parsed, write):
    more = ["--mix", "3*c", "--resume=false", "--num-workers", 2, "--batch-size", 8, "--output=z"]
    given: dict[str, Any] = {
        "mix": ("3*c",),
        "resume": False,
        "num_workers": 2,
        "batch_size": 8,
        "output": "z",
    }
    wanted = TrainConfig(**WANTED | given)
    assert parsed(*more, "--config", write(FLAT)) == wanted
    assert parsed("--config", write(FLAT), *more) == wanted


def test_the_file_of_one_call_is_forgotten_in_the_next(parsed, write):
    parsed("--config", write(FLAT))
    assert parsed("--pairs", "x", "--output", "y") == TrainConfig(pairs="x", output="y")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epoch = 3", ["`epoch`", "nearest is `epochs`"]),
        ("fingerprint = 'f'", ["`fingerprint`"]),
        ("[order]\nepochs = 3", ["`epochs` in the table [order]", "`epochs` in the table [run]"]),
        ("[runs]\nepochs = 3", ["`runs`"]),
        ("[run.more]\nepochs = 3", ["`more` in the table [run]"]),
        ("seed = 3\n[order]\nseed = 4", ["`seed` twice"]),
        ("batch_size = 3\nbatch-size = 4", ["`batch-size` twice"]),
        ("epochs = '3'", ["`epochs` must be an integer", "epochs='3'"]),
        ("epochs = 3.0", ["`epochs` must be an integer", "epochs=3.0"]),
        ("epochs = true", ["`epochs` must be an integer"]),
        ("epochs = 0", ["`epochs` must be at least 1", "epochs=0"]),
        ("epochs = [3]", ["`epochs` must be an integer"]),
        ("resume = 1", ["`resume` must be True or False"]),
        ("learning_rate = nan", ["`learning_rate` must be a finite number"]),
        ("head = 'dot'", ["`head` must be one of auto, concatenation", "head='dot'"]),
        ("mix = '2*a'", ["`mix` must be a list", "mix='2*a'"]),
        ("mix = [2]", ["`mix` must be a list, each part of it a string"]),
        ("output = 2020-01-01", ["`output` must be a string"]),
        ("[output]\na = 1", ["`output` must be a string"]),
        ("epochs = \n", ["must be TOML", "line 1"]),
    ],
)
def test_a_wrong_file_is_told_in_one_line(command, write, tmp_path, text, said):
    options = ["--pairs", tmp_path / "none", "--output", tmp_path / "out"]
    options = [] if "output" in text else options
    line = refused(command("train", *options, "--config", write(text)))
    for words in [*said, "run.toml"]:
        assert words in line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"epochs": ', "must be TOML, or JSON if its name ends with .json"),
        (b"[1]", "must hold an object of JSON"),
        (b"\xff{}", "must be TOML, or JSON"),
        (b'{"epochs": null}', "`epochs` must be an integer. Received: epochs=None"),
    ],
)
def test_wrong_json_is_told_in_one_line(command, tmp_path, content, said):
    (tmp_path / "run.json").write_bytes(content)
    line = refused(command("train", "--config", tmp_path / "run.json"))
    assert said in line
    assert "run.json" in line


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("none.toml", "No such file"),
        (".", "directory"),
        ("", "No such file"),
        ("s4://bucket/run.toml", "one that pyarrow knows"),
        ("s3://key:secret@b/run.toml?scheme=http&endpoint_override=127.0.0.1:1", "s3://***@b/run"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_in_one_line(
    command, tmp_path, monkeypatch, place, said
):
    monkeypatch.chdir(tmp_path)
    line = refused(command("train", "--config", place))
    assert "must be one that can be read" in line
    assert said in line
    assert "secret" not in line


def test_a_file_may_lie_in_an_object_store(parsed, object_store):
    store = make_bucket("options", object_store)
    for name, text in (("run.toml", FLAT), ("run.json", AS_JSON)):
        with store.open_output_stream(f"options/{name}") as stream:
            stream.write(text.encode())
        assert parsed("--config", make_uri(f"options/{name}", object_store)) == TrainConfig(
            **WANTED
        )


def test_a_file_may_be_a_pipe(tmp_path):
    call = f"{sys.executable} -m sharedlayers_dist models --config <(echo seed=1)"
    ended = subprocess.run(["bash", "-c", call], capture_output=True, text=True, timeout=60)
    assert "Received: `seed`, in /dev/fd/" in ended.stderr
    assert "has no options" in ended.stderr


def test_a_run_can_be_run_again_by_its_config(command, tmp_path):
    pairs = write_text_pairs(tmp_path / "pairs", 50)
    others = write_text_pairs(tmp_path / "others", 12, seed=1)
    more = {"head": "cosine", "seed": 5, "mix": f"2*{others}", "log_every": 1}
    options = as_arguments(make_options(pairs, tmp_path / "one", **more))
    code, _, err = command("train", *options)
    assert code == 0, err
    code, _, err = command(
        *["train", "--config", tmp_path / "one" / "config.json", "--output", tmp_path / "two"]
    )
    assert code == 0, err
    assert_same_tensors(tmp_path / "two", tmp_path / "one")
    one, two = (json.loads((tmp_path / run / "config.json").read_text()) for run in ("one", "two"))
    assert two == one | {"output": str(tmp_path / "two")}
    line = refused(command("train", "--config", tmp_path / "one" / "config.json"))
    assert "holds another run" in line


def test_of_a_runs_file_only_options_count(parsed, command, write):
    options = {"pairs": "x", "output": "y", "head": "cosine", "mix": []}
    file = write(options | RUN | {"color": "green", "decided_by": ["head"]}, "config.json")
    assert parsed("--config", file) == TrainConfig(pairs="x", output="y", head="cosine")
    # An option of a later version, without which another model would be trained.
    file = write(options | RUN | {"color": "green", "decided_by": ["color"]}, "config.json")
    assert "`color`" in refused(command("train", "--config", file))
    for fact in RUN:
        assert f"`{fact}`" in refused(
            command("train", "--config", write(options | {fact: "x"}, "config.json"))
        )
    assert "of `sharedlayers evaluate`" in refused(command("evaluate", "--config", file))


def test_what_a_runs_file_does_not_tell_must_be_given_again(parsed, command, write):
    hidden = "s3://***@bucket/x?session_token=***"
    mix = [f"2*{hidden}"]
    file = write({"pairs": hidden, "output": "y", "mix": mix} | RUN, "config.json")
    line = refused(command("train", "--config", file))
    assert "is stored without secrets. Received: pairs=" in line
    assert "Give --pairs with the command" in line
    given = ["--pairs", "s3://key:secret@bucket/x"]
    assert "Give --mix with" in refused(command("train", "--config", file, *given))
    assert parsed("--config", file, *given, "--mix", "2*x").pairs == given[1]


def test_every_command_takes_a_file(command, tmp_path, write):
    items = {"text": [f"text {i}" for i in range(60)], "who": [*"abcdef"] * 10}
    pq.write_table(pa.table(items), tmp_path / "items.parquet")
    making: dict[str, str | None] = {
        "items": str(tmp_path / "items.parquet"),
        "text": "text",
        "group": "who",
    }
    making |= {"output": str(tmp_path / "pairs"), "split_by": "item", "num_pairs": None}
    code, out, err = command("pairs", "--config", write(making, "making.json"), "--num-pairs=10")
    assert code == 0, err
    file = write(f"datasets = ['{tmp_path / 'pairs' / 'train'}']\njson = true")
    code, out, err = command("inspect", "--config", file)
    assert json.loads(out)["sets"], err
    code, out, err = command("describe", "--config", write("model = 'residual'"))
    assert code == 0, err
    assert "add" in out
    for name in ("evaluate", "predict"):
        where = f"run = 'none'\npairs = 'none'\noutput = '{tmp_path / 'out'}'\nbatch-size = 8"
        assert "no such dataset: none" in refused(command(name, "--config", write(where)))
    for name in ("models", "doctor"):
        assert "The command has no options" in refused(command(name, "--config", write("seed = 1")))


@dataclass(frozen=True, kw_only=True)
class Layers(Options):
    layer_options: JsonObject = EMPTY_OBJECT
    rate: float | None = None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("[layer-options]\nunits = 64\n[layer-options.deep]\nrates = [0.1, 0.2]", "a.toml"),
        ("layer_options = {units = 64, deep = {rates = [0.1, 0.2]}}", "a.toml"),
        ('{"layer_options": {"units": 64, "deep": {"rates": [0.1, 0.2]}}, "rate": null}', "a.json"),
    ],
)
def test_an_object_of_json_is_a_table(write, text, name):
    app = App(result_action="return_value", config=OptionsFile.read(str(write(text, name))))

    @app.default
    def give(*, layers: Annotated[Layers | None, Parameter(name="*")] = None) -> Layers:
        return layers or Layers()

    assert app([]) == Layers(layer_options={"units": 64, "deep": {"rates": [0.1, 0.2]}})
    assert app(["--layer-options", "{}", "--rate=1"]) == Layers(rate=1.0)
    app.config = OptionsFile.read(str(write("layer_options = [1]")))
    with pytest.raises(UserError, match="`layer_options` must be an object of JSON"):
        app([])
