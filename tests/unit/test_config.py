import pytest

from sharedlayers_dist import TrainConfig


@pytest.mark.parametrize(
    "wrong",
    [
        {"pairs": ""},
        {"output": ""},
        {"epochs": 0},
        {"batch_size": 0},
        {"num_streams": 0},
        {"learning_rate": 0.0},
        {"seed": -1},
        {"checkpoint_every": -1},
        {"keep_checkpoints": 0},
    ],
)
def test_a_value_out_of_range_is_named(wrong):
    (name, value) = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"`{name}`.*Received: {name}={value!r}"):
        TrainConfig(**({"pairs": "pairs", "output": "run"} | wrong))
