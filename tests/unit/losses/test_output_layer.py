"""A head of probabilities under a loss of distances is refused; all else is let through."""

import keras
import pytest

from sharedlayers_dist import losses
from sharedlayers_dist.errors import UserError


@pytest.mark.parametrize("activation", ["sigmoid", "hard_sigmoid", "softmax"])
@pytest.mark.parametrize("name", ["Contrastive", "OnlineContrastive", "CoSENT"])
def test_probabilities_are_no_distances_and_no_cosines(name, activation):
    loss = getattr(losses, name)()
    for layer in (
        keras.layers.Dense(1, activation=activation, name="score"),
        keras.layers.Activation(activation, name="score"),
    ):
        said = f"loss of {loss.takes} cannot.*loss={loss.name}, and the layer score.*{activation}"
        with pytest.raises(UserError, match=said):
            losses.check_output_layer(loss, layer)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Dense(1),
        keras.layers.Dense(1, activation="relu"),
        keras.layers.Dense(1, activation="tanh"),
        keras.layers.Dot(axes=-1, normalize=True),
    ],
    ids=lambda layer: layer.name,
)
def test_other_layers_pass(layer):
    losses.check_output_layer(losses.Contrastive(), layer)


def test_probabilities_pass_under_losses_of_something_else():
    sigmoid = keras.layers.Dense(1, activation="sigmoid")
    losses.check_output_layer(keras.losses.BinaryCrossentropy(), sigmoid)
    losses.check_output_layer(losses.Triplet(), sigmoid)


@pytest.mark.parametrize("name", ["SupervisedContrastive", "InBatchNegatives", "SigmoidPairs"])
def test_a_learned_temperature_and_its_layer_go_together(name):
    learned, given = getattr(losses, name)("learned"), getattr(losses, name)(0.1)
    layer, dense = losses.LearnedTemperature(name="scaled"), keras.layers.Dense(4, name="encoded")
    losses.check_output_layer(learned, layer)
    losses.check_output_layer(given, dense)
    with pytest.raises(UserError, match=rf"loss={learned.name}, and the layer encoded, a Dense\."):
        losses.check_output_layer(learned, dense)
    with pytest.raises(UserError, match=rf"alone. Received: loss={given.name}.*layer scaled\."):
        losses.check_output_layer(given, layer)


@pytest.mark.parametrize("loss", [losses.Triplet(), keras.losses.MeanSquaredError()])
def test_a_learned_temperature_is_under_no_other_loss(loss):
    with pytest.raises(UserError, match=f"Received: loss={loss.name}"):
        losses.check_output_layer(loss, losses.LearnedTemperature())
