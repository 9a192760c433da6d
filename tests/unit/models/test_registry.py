import subprocess
import sys

import pytest

from sharedlayers_dist import models


def test_names_and_kinds():
    assert {name: models.info(name).kind for name in models.names()} == {
        "tweet_pair": "text",
        "digit_pair": "image",
        "shared_conv": None,
        "inception": None,
        "residual": None,
        "character_cnn_pair": "text",
        "character_gru_pair": "text",
        "character_transformer_pair": "text",
        "residual_cnn_pair": "image",
    }
    assert all("\n" not in models.info(name).description for name in models.names())


def test_models_of_images_say_which_shape_they_take():
    shapes = {name: models.info(name).image_shape for name in models.names()}
    assert shapes.pop("digit_pair") == models.build("digit_pair").input_shape[0][1:]
    assert not any(shapes.values())


def test_one_model_of_each_kind_is_to_start_from():
    assert [models.info(name).kind for name in models.names() if models.info(name).start_here] == [
        "text",
        "image",
    ]


def test_a_pair_model_takes_the_options_of_its_encoder_and_a_head():
    model = models.build("character_cnn_pair", length=16, size=8, head="comparison")
    assert model.input_shape == [(None, 16), (None, 16)]
    found = models.find_encoder(model)
    assert found is not None
    assert found.layer.output_shape == (None, 8)
    assert "Multiply" in [type(layer).__name__ for layer in model.layers]


def test_every_model_is_built_under_its_name():
    assert [models.build(name).name for name in models.names()] == list(models.names())


def test_listing_the_models_loads_neither_keras_nor_tensorflow():
    code = (
        "import sys; from sharedlayers_dist import models; print(models.names());"
        "sys.exit(bool({'keras', 'tensorflow'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("twit_pair", {}, r"name='twit_pair'. The models are tweet_pair, digit_pair, shared_conv"),
        ("tweet_pair", {"axis": 1}, r"no such option. Received: axis=1. Its options are head\."),
        ("residual", {"axis": 1}, "It has no options"),
        ("inception", {"axis": 0}, r"must be 1 .* or -1 .*Received: axis=0"),
        ("digit_pair", {"head": "sum"}, "absolute_difference.*Received: head='sum'"),
        ("character_gru_pair", {"axis": 1}, r"Its options are head, length, num_ids, embedding_"),
        ("residual_cnn_pair", {"head": "sum"}, "scaled_cosine.*Received: head='sum'"),
    ],
)
def test_unknown_names_options_and_values_show_what_there_is(name, options, message):
    with pytest.raises(ValueError, match=message):
        models.build(name, **options)


@pytest.mark.parametrize("name", ["tweet_pair", "digit_pair"])
def test_pair_models_take_a_head(name):
    layers_of_head = {
        head: [type(layer).__name__ for layer in models.build(name, head=head).operations[3:]]
        for head in ("concatenation", "absolute_difference", "cosine")
    }
    assert layers_of_head == {
        "concatenation": ["Concatenate", "Dense"],
        "absolute_difference": ["Subtract", "Absolute", "Dense"],
        "cosine": ["Dot", "Dense"],
    }
