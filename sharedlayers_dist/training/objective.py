"""What a run minimises, and the view of its pair model that it is minimised with."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras

from sharedlayers_dist import models
from sharedlayers_dist.config import DataConfig
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.losses import LearnedTemperature
from sharedlayers_dist.models.heads import find_cosine_head

_MEANS = ("sum_over_batch_size", "mean")


class Objective(NamedTuple):
    """A loss, and the model that gives what it takes; both use the pair model's weights."""

    view: keras.Model
    """What is trained. It takes what batches carry."""
    head: keras.layers.Dense | None = None
    """The head that the loss has no part for, whose scale and bias validation pairs give."""

    @property
    def gives_scores(self) -> bool:
        """Whether the view gives scores of pairs, so that it can validate, too."""
        return not isinstance(self.view, models.EncodingView)


def choose_objective(
    plain: keras.Model, loss: Any, config: DataConfig, *, num_ranks: int, fast_paths: bool = True
) -> Objective:
    """Chooses the view of a pair model that gives what a loss takes.

    Args:
        plain: The pair model.
        loss: As `compile` takes it.
        config: What is read: listed pairs, or batches of groups of items.
        num_ranks: Ranks that train.
        fast_paths: False to call the encoder as it is, on each item of each pair.

    Raises:
        UserError: for a loss that does not go together with the data, the model or its head.
    """
    takes, is_grouped = getattr(loss, "takes", None), bool(config.groups_per_batch)
    if takes is None:
        _require_mean(loss)
        if is_grouped and models.find_encoder(plain) is not None:
            return Objective(models.AllPairsView(plain, num_ranks=num_ranks, fast_paths=fast_paths))
        if config.hard_negatives:
            raise UserError(
                "Hard negatives are mined with one encoder, used on both sides. Received: "
                f"hard_negatives={config.hard_negatives}, and the model {plain.name!r}. Leave "
                "hard_negatives out, or make the model with `pair_classifier(encoder)`."
            )
        return Objective(models.compact_view(plain, fast_paths=fast_paths))
    _require_data(loss, config)
    if getattr(loss, "distance", "cosine") != "cosine":
        raise UserError(
            "The score of a pair is made of the cosine of its encodings, so the loss must be, too. "
            f"Received: loss={loss.name}, distance={loss.distance!r}. Set "
            'loss_options=\'{"distance": "cosine"}\'.'
        )
    is_learned = getattr(loss, "temperature", None) == "learned"
    last = LearnedTemperature() if is_learned else None
    view = models.EncodingView(plain, takes, last, fast_paths=fast_paths)
    head = find_cosine_head(plain)
    if head is None:
        raise UserError(
            "A loss of encodings has no part for the head, which must be made of their cosine. "
            f"Received: loss={loss.name}, and the model {plain.name!r} with another head. Set "
            "head=scaled_cosine, or return the encoder alone."
        )
    return Objective(view, head)


def _require_data(loss: Any, config: DataConfig) -> None:
    """Raises UserError for a loss of listed pairs without them, or of groups without them."""
    of_pairs = loss.takes in ("cosines", "distances")
    if of_pairs and config.groups_per_batch:
        raise UserError(
            "A loss of labelled pairs is trained on listed ones. Received: "
            f"loss={loss.name}, groups_per_batch={config.groups_per_batch}. Leave groups_per_batch "
            "out, or take a loss of groups: supervised_contrastive, triplet, multi_similarity."
        )
    if not of_pairs and not config.groups_per_batch:
        raise UserError(
            "A loss that compares all items of a batch is trained on groups of items. Received: "
            f"loss={loss.name}, groups_per_batch=0. Set groups_per_batch and items_per_group."
        )
    if loss.takes == "pairs of encodings" and config.items_per_group != 2:
        raise UserError(
            "A loss of positive pairs takes two items of each group. Received: "
            f"loss={loss.name}, items_per_group={config.items_per_group}. Set items_per_group to 2."
        )


def _require_mean(loss: Any) -> None:
    reduction = getattr(loss, "reduction", _MEANS[0])
    if keras.tree.is_nested(loss) or reduction not in _MEANS:
        raise UserError(
            "A run's loss is one mean over pairs. Received: "
            f"loss={loss!r} with the reduction {reduction!r}. Make it with "
            'reduction="sum_over_batch_size".'
        )
