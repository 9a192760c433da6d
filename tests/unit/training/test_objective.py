"""Which losses go with which data and models."""

from __future__ import annotations

import keras
import pytest

from sharedlayers_dist import losses
from sharedlayers_dist.config import DataConfig
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.models import AllPairsView, EncodingView, pair_classifier
from sharedlayers_dist.training.objective import choose_objective

PAIRS = DataConfig(pairs="p")
GROUPS = DataConfig(pairs="p", groups_per_batch=4)
TWO_OF_EACH = DataConfig(pairs="p", groups_per_batch=4, items_per_group=2)


def make(head: str = "scaled_cosine") -> keras.Model:
    encoder = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    return pair_classifier(encoder, head)


@pytest.mark.parametrize(
    ("loss", "data", "gives"),
    [
        (losses.SupervisedContrastive(), GROUPS, "encodings"),
        (losses.Triplet(distance="cosine"), GROUPS, "encodings"),
        (losses.InBatchNegatives(), TWO_OF_EACH, "pairs of encodings"),
        (losses.SigmoidPairs(), TWO_OF_EACH, "pairs of encodings"),
        (losses.Contrastive(), PAIRS, "distances"),
        (losses.OnlineContrastive(), PAIRS, "distances"),
        (losses.CoSENT(), PAIRS, "cosines"),
    ],
)
def test_the_view_gives_what_the_loss_takes(loss, data, gives):
    objective = choose_objective(make(), loss, data, num_ranks=1)
    assert isinstance(objective.view, EncodingView)
    assert objective.view.gives == gives == loss.takes
    assert objective.head is not None
    assert not objective.gives_scores


def test_a_learned_temperature_is_a_layer_of_the_view():
    loss = losses.InBatchNegatives(temperature="learned")
    view = choose_objective(make(), loss, TWO_OF_EACH, num_ranks=1).view
    assert isinstance(view.last, losses.LearnedTemperature)
    assert len(view.trainable_variables) == 3


@pytest.mark.parametrize("head", ["scaled_cosine", "comparison"])
def test_a_loss_of_scores_trains_the_head(head):
    for data, kind in ((GROUPS, AllPairsView), (PAIRS, keras.Model)):
        objective = choose_objective(make(head), "binary_crossentropy", data, num_ranks=1)
        assert isinstance(objective.view, kind)
        assert objective.head is None


@pytest.mark.parametrize(
    ("loss", "data", "head", "said"),
    [
        (losses.SupervisedContrastive(), PAIRS, "cosine", "groups_per_batch=0. Set groups_per"),
        (losses.InBatchNegatives(), GROUPS, "cosine", "items_per_group=4. Set items_per_group to"),
        (losses.Contrastive(), GROUPS, "cosine", "groups_per_batch=4. Leave groups_per_batch out"),
        (losses.Triplet(), GROUPS, "cosine", "distance='euclidean'. Set loss_options"),
        (losses.CoSENT(), PAIRS, "comparison", "another head. Set head=scaled_cosine"),
        (keras.losses.MeanSquaredError(reduction="sum"), PAIRS, "cosine", "one mean over pairs"),
    ],
)
def test_what_does_not_go_together_is_refused(loss, data, head, said):
    with pytest.raises(UserError, match=said):
        choose_objective(make(head), loss, data, num_ranks=1)
