"""Settings of Keras that come from outside of a run, and forbid or change it.

They lie in the environment and in `keras.json`, which another project on the same machine may have
written. Nothing here imports Keras but `read_keras_settings`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sharedlayers_dist.errors import UserError

_LIMITS = ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH")
"""Variables with which Keras ends every `fit` early, without a word."""


def require_usable_settings(environment: Mapping[str, str] = os.environ) -> None:
    """Makes sure that Keras will run on TensorFlow, channels last, for as long as it is asked to.

    Args:
        environment: The variables of the process.

    Raises:
        UserError: names the setting and where it comes from.
    """
    for name in _LIMITS:
        if environment.get(name):
            raise UserError(
                "Keras must not be told to end training early. Received: "
                f"{name}={environment[name]} in the environment. Remove the variable."
            )
    file = _settings_file(environment)
    stored = _read_file(file)
    backend, source = stored.get("backend"), f'"backend" in {file}'
    if environment.get("KERAS_BACKEND"):
        backend, source = environment["KERAS_BACKEND"], "KERAS_BACKEND in the environment"
    if keras := sys.modules.get("keras"):  # What it has read, it does not read again.
        backend = keras.config.backend()
    if backend not in (None, "tensorflow"):
        raise UserError(
            f"Keras must run on TensorFlow. Received: {backend!r}, from {source}. Set "
            "KERAS_BACKEND=tensorflow in the environment, which wins over the file."
        )
    image_data_format = stored.get("image_data_format")
    if keras:
        image_data_format = keras.config.image_data_format()
    if image_data_format == "channels_first":
        raise UserError(
            "Keras must take images with their channels last. Received: "
            f'"image_data_format": "channels_first" in {file}. Change it to "channels_last", or '
            "name a folder with another keras.json in KERAS_HOME."
        )


def read_keras_settings() -> dict[str, Any]:
    """The settings that change what is trained, as plain values: a part of a run's description."""
    import keras

    return {
        "floatx": keras.config.floatx(),
        "epsilon": keras.config.epsilon(),
        "dtype_policy": keras.config.dtype_policy().name,
    }


def _settings_file(environment: Mapping[str, str]) -> Path:
    """Where Keras looks for its settings."""
    home = environment.get("KERAS_HOME") or Path("~/.keras").expanduser()
    return Path(home, "keras.json")


def _read_file(file: Path) -> dict[str, Any]:
    """What Keras will read of the file: nothing where it is missing or no JSON."""
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}
