"""Opening a run's `model.keras`, which executes nothing of the run folder unless told to."""

from __future__ import annotations

import inspect
import re
import sys
import tempfile
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from sharedlayers_dist.errors import UserError, named_line
from sharedlayers_dist.training.run_folder import MODEL, SOURCE, RunFolder
from sharedlayers_dist.user_code import UserCode, read_code

if TYPE_CHECKING:
    import keras


def open_model(folder: RunFolder, *, trust_code: bool = False, model: str = "") -> keras.Model:
    """Opens the model that a finished run has left, uncompiled.

    Args:
        folder: The run folder.
        trust_code: Whether to execute the sources that the run keeps of a model of one's own.
        model: The name of the model's function elsewhere, as `train` takes it: its module is
            executed instead.

    Raises:
        UserError: when the training has not finished, or the file cannot be opened, or not without
            executing the model's own code.
    """
    try:
        content = folder.files.read(MODEL)
    except FileNotFoundError:
        raise UserError(
            "Only a finished run can be used. Received: "
            f"run={str(folder)!r}, which has no {MODEL}. Finish it with train --resume."
        ) from None
    code = read_code(model) if model else folder.read_code() if trust_code else None
    objects = _keras_objects(code) if code else {}
    try:
        return _load(content, objects, safe_mode=code is None)
    except (ValueError, TypeError, OSError, KeyError, BadZipFile) as error:
        run_of = f"Received: run={str(folder)!r}"
        kept = folder.read_config().get(SOURCE)
        if kept is not None and code is None:
            raise UserError(
                f"A model of one's own is opened when told to. {run_of}, whose {MODEL} takes the "
                f"code of {kept['entry']}{_name_missing(error)}. Look at the sources in "
                f"{folder}/{SOURCE} and give --trust-code, or name your own with --model."
            ) from error
        raise UserError(
            f"A run's {MODEL} must be whole. {run_of}, whose {MODEL} ({len(content)} bytes) "
            f"Keras cannot open{' with the code given' if code else ''}: "
            f"{named_line(error)[:200]}. Write it again with train --resume."
        ) from error


def _name_missing(error: BaseException) -> str:
    """What Keras did not find, if it says so."""
    found = re.search(r"[Cc]ould not locate (\w+ '\w+')", str(error))
    return f" ({found[1]})" if found else ""


def _load(content: bytes, objects: dict[str, Any], *, safe_mode: bool) -> keras.Model:
    import keras

    with tempfile.NamedTemporaryFile(suffix=f"-{MODEL}") as file:
        file.write(content)
        file.flush()
        return keras.models.load_model(
            file.name, custom_objects=objects, compile=False, safe_mode=safe_mode
        )


def _keras_objects(code: UserCode) -> dict[str, Any]:
    """The classes and functions of all modules of `code` that a model file may name."""
    code.load()
    found = {}
    for module in code.modules:
        for name, value in vars(sys.modules.get(module.name, object)).items():
            is_own = getattr(value, "__module__", None) == module.name
            if is_own and (inspect.isclass(value) or inspect.isfunction(value)):
                found[name] = value
    return found
