"""How the benchmark of the encoders trains each of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to train one model."""

    model: str
    kind: str = "text"
    options: dict[str, Any] = field(default_factory=dict)
    batches: str = "pk"
    groups_per_batch: int = 32
    items_per_group: int = 4
    batch_size: int = 256
    optimizer: str = "adamw"
    learning_rate: float = 0.005
    steps: int = 1_500
    """Steps that docs/models.md gives figures of; where it has none, as many as the others."""


RECIPES = {
    "cnn": Recipe(model="character_cnn_pair"),
    "cnn, listed pairs": Recipe(model="character_cnn_pair", batches="pairs"),
    "cnn, comparison": Recipe(model="character_cnn_pair", options={"head": "comparison"}),
    "cnn, RMSprop": Recipe(model="character_cnn_pair", optimizer="rmsprop", learning_rate=0.001),
    "gru": Recipe(model="character_gru_pair", steps=600),
    "transformer": Recipe(model="character_transformer_pair", learning_rate=0.001, steps=1_000),
    "images": Recipe(
        model="residual_cnn_pair",
        kind="image",
        groups_per_batch=10,
        items_per_group=12,
        learning_rate=0.002,
        steps=300,
    ),
}


def make_optimizer(recipe: Recipe, steps: int) -> keras.optimizers.Optimizer:
    """AdamW with its schedule, or RMSprop with a fixed step."""
    if recipe.optimizer == "rmsprop":
        return keras.optimizers.RMSprop(recipe.learning_rate)
    warmup = max(1, steps // 20)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup, warmup_target=recipe.learning_rate, warmup_steps=warmup
    )
    return keras.optimizers.AdamW(schedule, weight_decay=0.01, global_clipnorm=1.0)
