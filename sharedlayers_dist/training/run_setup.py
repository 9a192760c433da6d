"""What rank zero finds out before training, and every rank is told: plain values."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import keras

from sharedlayers_dist.config import TrainConfig
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.keras_settings import read_keras_settings
from sharedlayers_dist.training.checkpoints.files import FOLDER, Checkpoint, read_newest_checkpoint
from sharedlayers_dist.training.data_sources import CodedSource, describe_source, open_data
from sharedlayers_dist.training.position import Position
from sharedlayers_dist.training.retrieval_validation import RankedItems, choose_ranked
from sharedlayers_dist.training.row_group_copies import plan_cache
from sharedlayers_dist.training.run_folder import SOURCE, RunFolder
from sharedlayers_dist.user_code import UserCode
from sharedlayers_dist.world import World

_LIBRARIES = ("sharedlayers_dist", "keras", "tensorflow", "numpy", "pyarrow")


@dataclass(frozen=True, kw_only=True)
class RunSetup:
    """A training run that is ready to start: its data, and where it goes on."""

    training: CodedSource
    validation: CodedSource | None
    ranked: RankedItems | None
    """The validation items that retrieval is measured on; None where it is not."""
    facts: dict[str, Any]
    """What the configuration is applied to; stored with the run and in each checkpoint."""
    state: dict[str, Any]
    """The checkpoint's state where the run goes on; empty for a new run."""

    @property
    def start(self) -> Position:
        """Where the run goes on."""
        return Position(**self.state["position"]) if self.state else Position()


def prepare_run(
    config: TrainConfig,
    run: RunFolder,
    model: keras.Model,
    *,
    code: UserCode | None = None,
    owner: str = "",
) -> tuple[RunSetup, Checkpoint | None]:
    """Looks at the data, finds the checkpoint, claims the run folder; on rank zero alone.

    The folder stays locked for this process until `run.unlock()`.

    Args:
        config: The run's options.
        run: The run folder.
        model: The pair model that will be trained.
        code: The code of its function; None for a model of the zoo.
        owner: Names the run over several starts of its processes, as `RunFolder.lock` has it.

    Returns:
        What all ranks are told, and what rank zero starts from: the run's own checkpoint, or one of
        the run to initialize from.

    Raises:
        UserError: for data or a folder that cannot be used; nothing of a run has been written then.
        OSError: when the storage cannot be asked; nothing has been written then, either.
    """
    training, validation, alphabet = open_data(config, model)
    for pairs in filter(None, (training, validation)):
        if cache := plan_cache(pairs.source, config):
            cache.open()  # Raises now.
    ranked = choose_ranked(config, model, validation)
    facts: dict[str, Any] = {
        "kind": training.source.kind,
        "alphabet": alphabet,
        "items": training.describe_items(),
        "fingerprint": training.source.fingerprint,
        "validation_fingerprint": validation.source.fingerprint if validation else "",
        "keras_settings": read_keras_settings(),
        "versions": {name: version(name) for name in _LIBRARIES},
    }
    if code is not None:
        facts[SOURCE] = {"entry": code.entry, "modules": code.digests}
    run.require_usable(config, owner)
    run.lock(owner)
    try:
        own = _read_own(run) if config.resume else None
        others = _read_weights(config.initialize_from) if _is_to_initialize(config, own) else None
        run.claim(config, facts, code)
    except BaseException:
        run.unlock()
        raise
    run.files.clean()
    run.files.clean(FOLDER)
    state = own.state if own is not None else {}
    setup = RunSetup(
        training=training, validation=validation, ranked=ranked, facts=facts, state=state
    )
    return setup, own or others


def describe_run(setup: RunSetup, config: TrainConfig, world: World) -> str:
    """The one line that a person wants to see before the first step."""
    going_on = f", going on after step {setup.start.step}" if setup.start.step else ""
    head = "" if config.head == "auto" else f" ({config.head})"
    cores = f", {world.cores} core(s) each" if world.local_size > 1 else ""
    return (
        f"{config.model}{head} on {describe_source(setup.training.source, config)}, over "
        f"{world.size} rank(s){cores}{going_on}"
    )


def _is_to_initialize(config: TrainConfig, own: Checkpoint | None) -> bool:
    return own is None and bool(config.initialize_from)


def _read_own(run: RunFolder) -> Checkpoint | None:
    """The checkpoint that a run goes on from; None where no training would be lost by beginning."""
    checkpoint = read_newest_checkpoint(run.files)
    if checkpoint is None and run.has_saved:
        raise UserError(
            "A run goes on from its checkpoints. Received: "
            f"output={str(run)!r}, which has trained for longer than an epoch and holds none. "
            "Bring them back, or start another run in another folder."
        )
    if checkpoint is None and run.has_begun:
        warnings.warn(
            f"The run in {run} had written no checkpoint: it begins from the start.", stacklevel=3
        )
    return checkpoint


def _read_weights(uri: str) -> Checkpoint:
    """The newest weights of another run."""
    other = RunFolder(uri)
    other.read_config()
    checkpoint = read_newest_checkpoint(other.files)
    if checkpoint is None:
        raise UserError(
            "A run to initialize from must have a checkpoint. Received: "
            f"initialize_from={str(other)!r}, which has written none."
        )
    return checkpoint
