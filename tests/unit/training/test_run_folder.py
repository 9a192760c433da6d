import json

import pytest

from sharedlayers_dist import TrainConfig
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.training import RunFolder

FACTS = {"fingerprint": "abc", "alphabet": "xy", "versions": {"keras": "3"}}


def config(**changes):
    return TrainConfig(**({"pairs": "pairs", "output": "run"} | changes))


def test_a_new_run_stores_its_configuration(tmp_path):
    folder = RunFolder(str(tmp_path / "a" / "run"))
    folder.claim(config(seed=3), FACTS)
    stored = json.loads((tmp_path / "a" / "run" / "config.json").read_text())
    assert stored["seed"] == 3
    assert stored["fingerprint"] == "abc"
    assert folder.read_config() == stored


def test_another_run_is_not_overwritten(tmp_path):
    folder = RunFolder(str(tmp_path))
    folder.claim(config(), FACTS)
    (tmp_path / "metrics.jsonl").write_text("")
    before = folder.files.read("config.json")
    with pytest.raises(ValueError, match="holds another run"):
        folder.claim(config(seed=9), FACTS)
    assert folder.files.read("config.json") == before


def test_a_run_that_never_began_leaves_its_folder_free(tmp_path):
    folder = RunFolder(str(tmp_path))
    folder.claim(config(), FACTS)
    folder.claim(config(seed=9), FACTS)
    assert folder.read_config()["seed"] == 9


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_with_other_things_is_refused(tmp_path, resume):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="new or empty folder"):
        RunFolder(str(tmp_path)).claim(config(resume=resume), FACTS)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_configuration_of_something_else_is_not_overwritten(tmp_path):
    (tmp_path / "config.json").write_text('{"years": "of work"}')
    with pytest.raises(ValueError, match="new or empty folder"):
        RunFolder(str(tmp_path)).claim(config(), FACTS)
    assert (tmp_path / "config.json").read_text() == '{"years": "of work"}'


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(ValueError, match="new or empty folder"):
        RunFolder(str(tmp_path / "run")).claim(config(), FACTS)


def test_a_resumed_run_may_be_longer_but_not_another(tmp_path):
    folder = RunFolder(str(tmp_path))
    folder.claim(config(epochs=2), FACTS)
    (tmp_path / "metrics.jsonl").write_text("")
    folder.claim(config(epochs=5, resume=True), FACTS)
    with pytest.raises(ValueError, match="batch_size: 256 in the run, 64 asked for"):
        folder.claim(config(resume=True, batch_size=64), FACTS)
    with pytest.raises(ValueError, match="fingerprint: 'abc' in the run, 'other' asked for"):
        folder.claim(config(resume=True), FACTS | {"fingerprint": "other"})


def test_the_same_data_may_lie_elsewhere(tmp_path):
    folder = RunFolder(str(tmp_path))
    folder.claim(config(pairs="pairs/train"), FACTS)
    (tmp_path / "metrics.jsonl").write_text("")
    folder.claim(config(pairs="/data/pairs/train", resume=True), FACTS)
    with pytest.raises(ValueError, match=r"pairs: .*; fingerprint: .*|fingerprint: .*; pairs: "):
        folder.claim(config(pairs="/data/others", resume=True), FACTS | {"fingerprint": "other"})


def test_a_folder_without_a_run_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"holds a config\.json"):
        RunFolder(str(tmp_path / "none")).read_config()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("years of work")
    with pytest.raises(UserError, match="can be made and written to"):
        RunFolder(str(tmp_path / "file" / "run")).lock()
    assert (tmp_path / "file").read_text() == "years of work"
