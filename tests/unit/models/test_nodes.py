import keras
import pytest

from sharedlayers_dist import models


def pair_of(encoder):
    return models.pair_classifier(encoder)


def test_a_layer_that_was_never_called_says_so():
    dense = keras.layers.Dense(2, name="dense_7")
    for ask in (models.get_output, models.get_input):
        with pytest.raises(AttributeError, match=r"Layer dense_7 has no inbound nodes.*Call it"):
            ask(dense)
    for ask_at in (
        models.get_output_at,
        models.get_input_at,
        models.get_output_shape_at,
        models.get_input_shape_at,
    ):
        with pytest.raises(ValueError, match=r"dense_7 has no inbound nodes.*node_index=0"):
            ask_at(dense, 0)


@pytest.mark.parametrize("node_index", [2, -1])
def test_an_index_out_of_range_shows_the_range(small_encoder, node_index):
    pair_of(small_encoder)
    with pytest.raises(ValueError, match=f"between 0 and 1.*2 inbound.*node_index={node_index}"):
        models.get_output_at(small_encoder, node_index)


def test_a_model_used_as_a_layer_starts_at_its_first_call(small_encoder):
    with pytest.raises(AttributeError, match="no inbound nodes"):
        models.get_output(small_encoder)
    item = keras.Input((6, 5))
    encoded = small_encoder(item)
    assert models.get_input(small_encoder) is item
    assert models.get_output(small_encoder) is encoded


def test_a_sequential_model_used_as_a_layer_starts_at_its_first_call():
    encoder = keras.Sequential([keras.Input((6, 5)), keras.layers.LSTM(4)])
    model = pair_of(encoder)
    assert models.get_input_at(encoder, 0) is model.inputs[0]
    assert models.get_input_at(encoder, 1) is model.inputs[1]


def test_several_inputs_and_outputs_come_as_lists():
    x, y = keras.Input((3,)), keras.Input((4,))
    merge = keras.layers.Concatenate()
    merge([x, y])
    assert models.get_input(merge) == [x, y]
    assert models.get_input_shape_at(merge, 0) == [(None, 3), (None, 4)]
    lstm = keras.layers.LSTM(2, return_state=True)
    lstm(keras.Input((6, 5)))
    assert models.get_output_shape_at(lstm, 0) == [(None, 2)] * 3


@pytest.mark.filterwarnings("ignore:(?s).*must match the names")
def test_dictionaries_come_as_they_were_given():
    x, y = keras.Input((3,), name="x"), keras.Input((4,), name="y")
    outputs = {"sum": keras.layers.Dense(2)(x), "last": keras.layers.Dense(5)(y)}
    model = keras.Model({"left": x, "right": y}, outputs)
    a, b = keras.Input((3,)), keras.Input((4,))
    given = model({"right": b, "left": a})
    assert models.get_input_at(model, 0) == {"right": b, "left": a}
    assert models.get_output(model) == given
    assert models.get_input_shape_at(model, 0) == {"right": (None, 4), "left": (None, 3)}
    assert models.get_output_shape_at(model, 0) == {"sum": (None, 2), "last": (None, 5)}


def test_keyword_arguments_are_inputs_too():
    x, y = keras.Input((6, 5)), keras.Input((7, 5))
    attention = keras.layers.MultiHeadAttention(1, 2)
    attention(query=x, value=y)
    assert models.get_input(attention) == [x, y]
    dense = keras.layers.Dense(2)
    dense(inputs=x)
    assert models.get_input(dense) is x
    first = keras.Model([x, y], keras.layers.Dot(-1)([x, y]))
    first((x, y))
    assert models.get_input(first) == [x, y]


def test_the_input_of_an_input_layer_is_its_output():
    x = keras.Input((3,), name="x")
    layer = keras.Model(x, keras.layers.Dense(1)(x)).get_layer("x")
    assert models.get_input(layer) is x


def test_nodes_of_cloned_and_loaded_models_are_the_calls_in_them(small_encoder, tmp_path):
    small_encoder(keras.Input((6, 5), name="elsewhere"))
    model = pair_of(small_encoder)
    assert models.get_input_at(small_encoder, 1) is model.inputs[0]
    model.save(tmp_path / "model.keras")
    for copy in (
        keras.models.clone_model(model),
        keras.models.load_model(tmp_path / "model.keras"),
    ):
        encoder = copy.get_layer("encoder")
        assert models.get_input_at(encoder, 0) is copy.inputs[0]
        assert models.get_input_at(encoder, 1) is copy.inputs[1]
        with pytest.raises(ValueError, match="2 inbound nodes"):
            models.get_input_at(encoder, 2)


def test_an_output_asked_for_before_and_after_sharing():
    a = keras.Input((280, 256))
    lstm = keras.layers.LSTM(32, name="lstm_3")
    encoded_a = lstm(a)
    assert models.get_output(lstm) is encoded_a
    assert encoded_a.shape == (None, 32)

    b = keras.Input((280, 256))
    encoded_b = lstm(b)
    with pytest.raises(models.AmbiguousNodeError) as error:
        models.get_output(lstm)
    assert str(error.value) == (
        'Layer lstm_3 has multiple inbound nodes, hence the notion of "layer output" is '
        "ill-defined. Use `get_output_at(node_index)` instead."
    )
    assert isinstance(error.value, AttributeError)
    with pytest.raises(models.AmbiguousNodeError, match=r'"layer input".*get_input_at'):
        models.get_input(lstm)
    assert models.get_output_at(lstm, 0) is encoded_a
    assert models.get_output_at(lstm, 1) is encoded_b
    assert [models.get_output_shape_at(lstm, i) for i in (0, 1)] == [(None, 32)] * 2
    assert models.get_input_at(lstm, 0) is a
    assert models.get_input_at(lstm, 1) is b
