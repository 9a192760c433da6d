"""One way to open paths and URIs, and no secret of theirs shown."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sharedlayers_dist.data.making.output_folder import check_output
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.evaluate import evaluate, predict
from sharedlayers_dist.storage.folder import open_folder
from sharedlayers_dist.storage.uri import (
    absolute,
    hide_secrets,
    local_path,
    open_filesystem,
    require_plain_name,
)
from tests.distributed.pairs import write_text_pairs

SECRET = "open-sesame"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_a_path_may_begin_with_the_home_folder_wherever_one_is_given(home):
    for name in ("metrics.json", "scores.parquet", "train"):
        (home / name).write_text("")
    assert open_filesystem("~/r")[1] == str(home / "r")
    assert str(open_folder("~/r")) == str(home / "r")
    assert local_path("~/r", name="output") == absolute("~/r") == str(home / "r")
    for refuse in (
        lambda: evaluate("run", "pairs", "~"),
        lambda: predict("run", "pairs", "~/scores.parquet"),
        lambda: check_output("~"),
    ):
        with pytest.raises(UserError, match=r"overwritten|exists"):
            refuse()
    assert not Path("~").exists()


def test_a_relative_path_is_made_absolute_and_a_uri_is_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_filesystem("pairs/../runs")[1] == absolute("runs") == str(tmp_path / "runs")
    assert open_filesystem((tmp_path / "runs").as_uri())[1] == str(tmp_path / "runs")
    assert absolute("s3://bucket/~/x") == "s3://bucket/~/x"


@pytest.mark.parametrize("name", ["output", "plot"])
def test_what_lies_on_this_machine_alone_takes_no_uri(name):
    with pytest.raises(UserError, match=f"`{name}` must be a path on this machine") as refused:
        local_path("s3://bucket/x?sig=sesame", name=name)
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize(
    ("shown", "secret"),
    [
        ("s3://b/x?region=eu&endpoint_override=host:9000&{}", "secret_key=sesame"),
        ("abfs://***@account/x?{}&scheme=http", "client_secret=sesame"),
        ("https://account/x?sv=***&{}", "sig=se%2Fsame%3D"),
        ("s3://b/x?{}", "secret%5Fkey=sesame"),
        ("s3://b/x?{}&region=eu", "session_token=open'sesame"),
        ("s3://b/x?{}", "endpoint_override=http://key%40sesame"),
    ],
)
def test_only_options_that_hold_no_secret_are_shown(shown, secret):
    hidden = shown.format(f"{secret.partition('=')[0]}=***")
    text = shown.format(secret).replace("***", "sesame")
    assert hide_secrets(text) == hidden
    assert hide_secrets(hidden) == hidden
    sentence = "Received: uri='{0}', 2*{0} ({0}). See {0}."
    assert hide_secrets(sentence.format(text)) == sentence.format(hidden)


@pytest.mark.parametrize(
    "uri",
    [
        "nonsense://key:sesame@place",
        "s3://key:sesame@x?a=b",
        "s3://b/x?region=eu&secret_key=open sesame",
        "gs://b/x?secret_key=sesame",
        "abfs://c@a/x?client_secret=sesame&tenant_id=t",
        "hdfs://host:1/x?token=sesame",
    ],
)
def test_an_error_of_pyarrow_shows_no_secret(uri):
    with pytest.raises((UserError, OSError)) as refused:
        open_filesystem(uri)
    error = refused.value
    assert uri[:2] in str(error)
    assert error.__suppress_context__
    assert "sesame" not in str(error)
    assert len(str(error)) < 600


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc/passwd", "a\\b", "C:x", ".hidden", "a\n", 7, None]
)
def test_a_name_that_leads_elsewhere_is_no_plain_name(name):
    with pytest.raises(ValueError, match="plain name"):
        require_plain_name(name)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://key:secret@bucket/x", "s3://***@bucket/x"),
        ("s3://key:a/b+c@bucket/x", "s3://***@bucket/x"),
        ("s3://bucket/x@y", "s3://bucket/x@y"),
        ("hdfs://host:8020/x@y", "hdfs://host:8020/x@y"),
        ("hdfs://host:8020: ask me@home", "hdfs://host:8020: ask me@home"),
        ("gs://anonymous@bucket/x", "gs://***@bucket/x"),
        ("/a/path:with@signs", "/a/path:with@signs"),
    ],
)
def test_secrets_in_a_uri_are_hidden(uri, shown):
    assert hide_secrets(uri) == shown


@pytest.fixture
def secret_uri(tmp_path):
    """Makes URIs with a secret among their options, which pyarrow takes for files and ignores."""
    write_text_pairs(tmp_path / "pairs", 20)
    return lambda name, option: f"{(tmp_path / name).as_uri()}?{option}={SECRET}"


def test_a_run_shows_and_stores_no_secret_of_a_uri(tmp_path, secret_uri, command):
    write_text_pairs(tmp_path / "others", 20)
    options = [
        "train",
        f"--pairs={secret_uri('pairs', 'client_secret')}",
        f"--validation={secret_uri('pairs', 'secret_key')}",
        f"--mix=0.5*{secret_uri('others', 'session_token')}",
        f"--output={secret_uri('run', 'sig')}",
        "--epochs=1",
        "--batch-size=12",
        "--tensorboard",
    ]
    started = [sys.executable, "-m", "sharedlayers_dist", *options]
    trained = subprocess.run(started, capture_output=True, text=True)
    assert trained.returncode == 0, trained.stderr
    assert SECRET not in trained.stdout + trained.stderr
    evaluate = [f"--run={secret_uri('run', 'sig')}", f"--pairs={secret_uri('pairs', 'sig')}"]
    for code, shown, arguments in (
        (2, f"output={str(tmp_path / 'run')!r}", options),
        (2, "none?sig=***", ["train", f"--pairs={secret_uri('none', 'sig')}", "--output=other"]),
        (0, "roc_auc", ["evaluate", *evaluate, f"--output={tmp_path / 'evaluation'}"]),
    ):
        actual_code, *streams = command(*arguments)
        text = "".join(streams)
        assert actual_code == code, text
        assert shown in text
        assert SECRET not in text
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"config.json", "state.json", "metrics.json"} <= {path.name for path in files}
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    stored = (tmp_path / "run" / "config.json").read_text()
    assert len(re.findall(r"\?\w+=\*\*\*", stored)) == 4
