"""Digit pairs: real images, scaled faithfully, none in two sets."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
from digits import DigitsConfig, load_images, make_digits, scale_images
from sklearn.datasets import load_digits


def test_scaling_keeps_constants_and_straight_ramps():
    ramp = np.broadcast_to(np.arange(8.0), (1, 8, 8))
    scaled = scale_images(ramp, 27)
    assert scaled.shape == (1, 27, 27)
    expected = np.clip((np.arange(27) + 0.5) * 8 / 27 - 0.5, 0, 7)
    assert np.allclose(scaled[0], expected)
    assert np.allclose(scale_images(np.full((2, 8, 8), 3.0), 27), 3)
    assert np.array_equal(scale_images(ramp, 8), ramp)


def test_images_are_the_digits_in_the_notebooks_shape():
    source = load_images()
    images = source.items.to_numpy_ndarray()
    assert images.shape == (1797, 27, 27, 1)
    assert images.dtype == np.uint8
    assert images.min() == 0
    assert images.max() == 255
    assert source.groups.to_pylist() == [str(x) for x in load_digits().target]
    means = load_digits().images.mean((1, 2)) / 16 * 255
    assert np.corrcoef(images.mean((1, 2, 3)), means)[0, 1] > 0.99


def test_no_image_is_in_two_sets(tmp_path):
    summary = make_digits(DigitsConfig(output=str(tmp_path / "out"), num_pairs=3000))
    assert {name: made.pairs for name, made in summary.sets.items()} == {
        "train": 2400,
        "validation": 300,
        "test": 300,
    }
    images = {}
    for name in summary.sets:
        table = pq.read_table(tmp_path / "out" / name)
        labels = table["label"].to_numpy()
        assert labels.mean() == 0.5
        same = np.array(table["group_a"].to_pylist()) == np.array(table["group_b"].to_pylist())
        assert np.array_equal(labels == 1, same)
        sides = [table[side].combine_chunks().to_numpy_ndarray() for side in "ab"]
        images[name] = {x.tobytes() for side in sides for x in side}
        assert set(table["group_a"].to_pylist()) == set("0123456789")
    assert not images["train"] & (images["validation"] | images["test"])
    assert not images["validation"] & images["test"]
