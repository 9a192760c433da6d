"""Values and gradients beside sentence-transformers and pytorch-metric-learning, where these are.

`launch/test_other_losses.sh` installs them. Their means are told to be over all rows here, and the
batches have as many items of each group, since elsewhere they differ on purpose (docs/losses.md).
"""

from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from sharedlayers_dist import losses

GROUPS = np.arange(24) % 6
LABELS = np.arange(24) % 2
SIMILARITIES = np.arange(24) % 5 / 4


@pytest.fixture
def others():
    """The modules of the other libraries, and the options that make them comparable."""
    if not find_spec("sentence_transformers") or not find_spec("pytorch_metric_learning"):
        pytest.skip("launch/test_other_losses.sh installs the libraries.")
    from pytorch_metric_learning import distances, miners, reducers
    from pytorch_metric_learning import losses as metric
    from sentence_transformers.sentence_transformer import losses as sentence

    return SimpleNamespace(
        sentence=sentence,
        metric=metric,
        miners=miners,
        mean=reducers.MeanReducer(),
        euclidean=distances.LpDistance(normalize_embeddings=False, p=2, power=1),
    )


def draw(seed, num_sides):
    return np.random.default_rng(seed).normal(size=(24, num_sides, 7)).astype("float32")


def assert_equal(ours, other, encodings):
    """Holds two functions of encodings, in TensorFlow and in PyTorch, against each other."""
    import torch

    with tf.GradientTape() as tape:
        own_input = tf.constant(encodings)
        tape.watch(own_input)
        value = ours(own_input)
    gradient = tf.convert_to_tensor(tape.gradient(value, own_input))
    other_input = torch.tensor(encodings, requires_grad=True)
    expected = other(other_input)
    expected.backward()
    np.testing.assert_allclose(float(value), float(expected.detach()), rtol=1e-5)
    np.testing.assert_allclose(gradient, other_input.grad.numpy(), rtol=1e-3, atol=1e-6)


def cosine(pairs):
    unit = tf.math.l2_normalize(pairs, axis=2)
    return tf.reduce_sum(unit[:, 0] * unit[:, 1], axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("num_rows", [24, 3])
def test_contrastive_losses_are_those_of_sentence_transformers(others, num_rows, seed):
    """Of three rows, one has a label of its own."""
    import torch

    labels, pairs = LABELS[:num_rows], draw(seed, 2)[:num_rows]
    for ours, other in (
        (losses.Contrastive(0.9), others.sentence.ContrastiveLoss(None, margin=0.9)),
        (losses.OnlineContrastive(0.9), others.sentence.OnlineContrastiveLoss(None, margin=0.9)),
    ):
        is_sum = isinstance(ours, losses.OnlineContrastive)

        def theirs(pairs, other=other, divisor=num_rows if is_sum else 1):
            found = other.compute_loss_from_embeddings([*pairs.unbind(1)], torch.tensor(labels))
            return found / divisor

        assert_equal(lambda pairs, ours=ours: ours(labels, 1 - cosine(pairs)), theirs, pairs)


@pytest.mark.parametrize("seed", range(3))
def test_cosent_is_that_of_sentence_transformers(others, seed):
    import torch

    similarities = torch.tensor(SIMILARITIES)
    other = others.sentence.CoSENTLoss(None, scale=5.0)
    assert_equal(
        lambda pairs: losses.CoSENT(5.0)(SIMILARITIES, cosine(pairs)),
        lambda pairs: other.compute_loss_from_embeddings([*pairs.unbind(1)], similarities),
        draw(seed, 2),
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("symmetric", [False, True])
def test_in_batch_negatives_are_those_of_sentence_transformers(others, symmetric, seed):
    both = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
    options = both if symmetric else {}
    other = others.sentence.MultipleNegativesRankingLoss(None, scale=5.0, **options)
    ours = losses.InBatchNegatives(0.2, symmetric=symmetric)
    assert_equal(
        lambda pairs: ours(np.arange(24), pairs),
        lambda pairs: other.compute_loss_from_embeddings([*pairs.unbind(1)], None),
        draw(seed, 2),
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["SupervisedContrastive", "MultiSimilarity", "all", "hard"])
def test_losses_of_groups_are_those_of_pytorch_metric_learning(others, name, seed):
    import torch

    labels, mean = torch.tensor(GROUPS), {"reducer": others.mean}
    euclidean = {"distance": others.euclidean}
    ours, other, miner = {
        "SupervisedContrastive": (
            losses.SupervisedContrastive(0.2),
            others.metric.SupConLoss(0.2, **mean),
            None,
        ),
        "MultiSimilarity": (
            losses.MultiSimilarity(2.0, 30.0, 0.4, 0.2),
            others.metric.MultiSimilarityLoss(2.0, 30.0, 0.4, **mean),
            others.miners.MultiSimilarityMiner(0.2),
        ),
        "all": (
            losses.Triplet(0.5, mining="all"),
            others.metric.TripletMarginLoss(0.5, **euclidean, **mean),
            None,
        ),
        "hard": (
            losses.Triplet(0.5, mining="hard"),
            others.metric.TripletMarginLoss(0.5, **euclidean, **mean),
            others.miners.BatchHardMiner(**euclidean),
        ),
    }[name]
    assert_equal(
        lambda encodings: ours(GROUPS, encodings),
        lambda encodings: other(encodings, labels, miner and miner(encodings, labels)),
        draw(seed, 1)[:, 0],
    )


@pytest.mark.parametrize("seed", range(3))
def test_semi_hard_triplets_are_those_of_sentence_transformers(others, seed):
    import torch

    other = others.sentence.BatchSemiHardTripletLoss(None, margin=0.5)
    assert_equal(
        lambda encodings: losses.Triplet(0.5, mining="semi-hard")(GROUPS, encodings),
        lambda encodings: other.compute_loss_from_embeddings([encodings], torch.tensor(GROUPS)),
        draw(seed, 1)[:, 0],
    )


@pytest.mark.parametrize("num_items", [2, 4])
def test_nt_xent_is_supervised_contrastive_where_items_have_one_positive(others, num_items):
    """With more, it leaves an anchor's other positives out of the sum; Khosla et al. do not."""
    import torch

    groups = np.arange(24) % (24 // num_items)
    encodings = draw(0, 1)[:, 0]
    ours = losses.SupervisedContrastive(0.2)(groups, encodings)
    other = others.metric.NTXentLoss(0.2)(torch.tensor(encodings), torch.tensor(groups))
    assert (float(ours) == pytest.approx(float(other), rel=1e-5)) is (num_items == 2)
