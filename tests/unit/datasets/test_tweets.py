"""Synthetic authors write texts like tweets, with habits that tell authors never seen apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from synthetic_authors import draw_habits, write_text
from tweets import TweetsConfig, draw_activity, make_tweets, write_tweets

from sharedlayers_dist.errors import UserError

DATASETS = Path(__file__).parents[3] / "datasets"


def run_script(name, *arguments):
    return subprocess.run(
        [sys.executable, str(DATASETS / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_texts_are_as_long_as_tweets():
    lengths = np.array([len(x) for x in write_tweets(4000, 200, seed=0).items.to_pylist()])
    assert 75 < lengths.mean() < 92
    assert lengths.max() <= 280
    assert np.quantile(lengths, 0.99) < 250
    assert abs(np.log(lengths).std() - 0.47) < 0.12  # Log-normal, like those of real ones.
    assert lengths.min() >= 5


def test_the_same_seed_writes_the_same_texts():
    first, again, other = (write_tweets(300, 20, seed=seed) for seed in (1, 1, 2))
    assert first.items.equals(again.items)
    assert not first.items.equals(other.items)
    first_author = first.items[: int(draw_activity(300, 20)[0])].to_pylist()
    assert draw_habits(Random("1/0")) == draw_habits(Random("1/0"))
    rng = Random("1/0")
    assert write_text(draw_habits(rng), rng) == first_author[0]


@pytest.mark.parametrize(("num_texts", "num_authors"), [(20_000, 1000), (500, 30), (10, 30)])
def test_activity_falls_off_like_zipfs_law(num_texts, num_authors):
    activity = draw_activity(num_texts, num_authors)
    assert activity.sum() == num_texts
    assert activity.min() >= 0
    if num_texts > 10:
        assert activity[0] > 2 * activity[num_authors // 2] > 2 * activity[-1] > 0


def test_habits_show_in_authors_never_seen(tmp_path):
    make_tweets(TweetsConfig(output=str(tmp_path / "out"), num_pairs=6000))
    sets = {name: pq.read_table(tmp_path / "out" / name).to_pydict() for name in ("train", "test")}
    assert not set(sets["train"]["group_a"]) & set(sets["test"]["group_a"])
    count = CountVectorizer(
        analyzer="char", ngram_range=(1, 2), lowercase=False, binary=True, min_df=10
    ).fit(sets["train"]["a"])

    def difference(pairs):
        return abs(
            count.transform(pairs["a"]).astype(int) - count.transform(pairs["b"]).astype(int)
        )

    model = LogisticRegression(C=0.03, max_iter=500)
    model.fit(difference(sets["train"]), sets["train"]["label"])
    scores = model.decision_function(difference(sets["test"]))
    assert roc_auc_score(sets["test"]["label"], scores) > 0.93
    lengths = [np.abs(np.diff([list(map(len, sets["test"][x])) for x in "ab"], axis=0))[0]]
    assert 0.5 < roc_auc_score(sets["test"]["label"], -lengths[0]) < 0.65  # No mere give-away.


def test_the_script_makes_the_sets_and_says_how_many(tmp_path):
    done = run_script("tweets.py", "--output", tmp_path / "out", "--num-pairs", 500, "--seed", 3)
    assert done.returncode == 0, done.stderr
    assert f"Made 500 pairs in {tmp_path / 'out'}" in done.stdout
    assert sorted(x.name for x in (tmp_path / "out").iterdir()) == ["test", "train", "validation"]
    assert pq.read_table(tmp_path / "out" / "train").num_rows == 400
    again = run_script("tweets.py", "--output", tmp_path / "out")
    assert again.returncode == 2
    assert again.stderr.startswith("tweets.py: Nothing is overwritten")
    assert again.stderr.count("\n") == 1
    misspelt = run_script("tweets.py", "--output", tmp_path / "b", "--pairs", 3)
    assert (misspelt.returncode, misspelt.stderr.count("\n")) == (2, 1)


def test_the_script_says_in_a_line_what_it_leaves_out_and_no_secret(tmp_path):
    rows = [{"body": f"tweet {i} of {a}", "user": a} for a in range(30) for i in range(8)]
    (tmp_path / "in" / "below").mkdir(parents=True)
    (tmp_path / "in" / "below" / "1.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "in" / "notes.txt").write_text("mine")
    columns = ("--text", "body", "--group", "user")
    done = run_script(
        "tweets.py", "--output", tmp_path / "out", "--items", tmp_path / "in", *columns
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("tweets.py: Left out of")
    assert "notes.txt" in done.stderr
    assert done.stderr.count("\n") == 1
    uri = "s3://key:secret@bucket/x?session_token=secret"
    for more in (("--num-authors", 3), (*columns, "--split-by", uri), ("--output", uri)):
        done = run_script("tweets.py", "--output", tmp_path / "o", "--items", uri, *more)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "secret" not in done.stderr


def test_anyones_tweets_can_be_taken(tmp_path):
    rows = [{"body": f"tweet {i} of {a}", "user": a} for a in range(30) for i in range(8)]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = TweetsConfig(
        output=str(tmp_path / "out"), items=str(tmp_path / "in.jsonl"), text="body", group="user"
    )
    summary = make_tweets(config)
    assert summary.items == 240
    test = pq.read_table(tmp_path / "out" / "test").to_pylist()
    assert all(row["a"].endswith(" of " + row["group_a"]) for row in test)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": "body"}, "Columns need a file"),
        ({"items": "a.csv", "num_authors": 3}, "Either read tweets or have them written"),
        ({"num_texts": 0}, "`num_texts` must be at least 1"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        TweetsConfig(output="out", **options)
