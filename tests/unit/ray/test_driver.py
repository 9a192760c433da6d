"""What a driver refuses before it looks at a cluster or a folder."""

import pytest

import sharedlayers_dist.ray
from sharedlayers_dist import TrainConfig
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.ray.driver import with_absolute_paths


@pytest.mark.parametrize(
    ("launcher", "environment", "said"),
    [
        ("local", {}, r"Received: launcher='local'\. Call sharedlayers_dist\.train"),
        ("ray", {"HOROVOD_SIZE": "2", "HOROVOD_RANK": "1"}, "2 processes started by horovodrun"),
        ("auto", {"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}, r"absolute path or a URI in a Ray job"),
    ],
)
def test_a_driver_refuses_what_only_other_processes_may_do(
    monkeypatch, tmp_path, launcher, environment, said
):
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=said):
        sharedlayers_dist.ray.train(TrainConfig(pairs="pairs", output="run", launcher=launcher))
    assert not list(tmp_path.iterdir())


def test_paths_are_those_of_the_driver_wherever_a_worker_runs(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.chdir(tmp_path)
    given = TrainConfig(
        pairs="pairs",
        validation="s3://bucket/v?region=x",
        output="~/run",
        mix=("0.5*~/more",),
        data_cache="copies",
    )
    config = with_absolute_paths(given)
    assert (config.pairs, config.validation) == (f"{tmp_path}/pairs", given.validation)
    assert (config.output, config.mix) == ("/home/someone/run", ("0.5*/home/someone/more",))
    assert (config.initialize_from, config.data_cache) == ("", f"{tmp_path}/copies")
