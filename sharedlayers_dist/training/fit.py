"""One training run from its configuration to `model.keras`, on this rank."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from io import TextIOBase
from typing import NamedTuple, TextIO

import keras
import numpy as np

from sharedlayers_dist import dist
from sharedlayers_dist.config import ModelConfig, TrainConfig
from sharedlayers_dist.dist.threads import run_operations_on_one_thread
from sharedlayers_dist.training.callbacks import LogMetrics, ResumeMetrics
from sharedlayers_dist.training.checkpoints import state
from sharedlayers_dist.training.checkpoints.callback import Capture, SaveCheckpoints
from sharedlayers_dist.training.checkpoints.callback_states import ResumeCallbacks, read_states
from sharedlayers_dist.training.checkpoints.files import Checkpoint
from sharedlayers_dist.training.checkpoints.manager import CheckpointManager
from sharedlayers_dist.training.checkpoints.retention import RetentionPolicy
from sharedlayers_dist.training.controls import (
    make_controls,
    make_mining,
    make_schedule,
    make_validation,
)
from sharedlayers_dist.training.epochs import fit_epochs
from sharedlayers_dist.training.export import export_on_rank_zero
from sharedlayers_dist.training.metrics_log import MetricsLog, TensorBoardLog
from sharedlayers_dist.training.mining import MineNegatives
from sharedlayers_dist.training.model import describe_inexact_layers
from sharedlayers_dist.training.model_source import ModelSource
from sharedlayers_dist.training.own_callbacks import load_on_all_ranks, make_callbacks
from sharedlayers_dist.training.position import Position, PositionTracker
from sharedlayers_dist.training.preemption import StopRequest, listen_for_stop
from sharedlayers_dist.training.progress import Progress
from sharedlayers_dist.training.readers import (
    DataAccess,
    Readers,
    describe_left_out,
    open_readers,
)
from sharedlayers_dist.training.result import TrainResult
from sharedlayers_dist.training.row_group_copies import describe_cache, describe_use
from sharedlayers_dist.training.run_folder import METRICS, RunFolder
from sharedlayers_dist.training.run_setup import RunSetup, describe_run, prepare_run
from sharedlayers_dist.training.start import (
    build_on_all_ranks,
    require_same_options,
    require_same_settings,
    restore_on_rank_zero,
)
from sharedlayers_dist.training.stored_config import storable
from sharedlayers_dist.training.trained_model import (
    TrainedModel,
    compile_for_training,
    with_known_monitor,
)
from sharedlayers_dist.user_code import UserCode
from sharedlayers_dist.world import World


def fit(
    config: TrainConfig,
    callbacks: Sequence[keras.callbacks.Callback],
    *,
    source: ModelSource | None = None,
    callbacks_code: UserCode | None = None,
    access: DataAccess = DataAccess(),  # noqa: B008  It holds two functions.
    listen: Callable[[], AbstractContextManager[StopRequest]] = listen_for_stop,
    stream: TextIO | TextIOBase | None = None,
    owner: str = "",
) -> TrainResult:
    """Trains on this rank; see `sharedlayers_dist.training.train`.

    Args:
        config: The run's options.
        callbacks: Further Keras callbacks.
        source: Where the model comes from; by default what the options name.
        callbacks_code: The code of the function that makes callbacks, where it was read elsewhere.
        access: Where data is read.
        listen: How this rank learns that the run is to stop.
        stream: Where progress is shown; standard error by default.
        owner: Names the run over several starts of its processes, as `RunFolder.lock` has it.
    """
    world, source = dist.init(), source or ModelSource()
    if config.fast_paths and source.is_recurrent(config.group(ModelConfig)):
        run_operations_on_one_thread()
    folder = RunFolder(config.output)
    checkpoint: Checkpoint | None = None

    with dist.shared_failure(), folder.unlocking(), listen() as stop:
        require_same_options(config)
        make_own = load_on_all_ranks(config, callbacks_code)
        code, built = build_on_all_ranks(config, source)
        if code is not None and source.build is not None:
            config = replace(config, model=code.entry)
        model = compile_for_training(built, config, num_ranks=world.size)

        def prepare_on_rank_zero() -> RunSetup:
            nonlocal checkpoint
            setup, checkpoint = prepare_run(config, folder, built.plain, code=code, owner=owner)
            return setup

        known = with_known_monitor(config, model)
        setup = dist.call_on_rank_zero(prepare_on_rank_zero)
        require_same_settings(setup)
        restored = restore_on_rank_zero(model.view, checkpoint, setup)
        readers = open_readers(
            setup.training,
            setup.validation,
            config,
            objective=model.objective,
            world=world,
            access=access,
        )
        mining = make_mining(known, model, readers.training, setup.start, restored.negatives)
        run = _Run(known, setup, folder, world, model, readers, mining)
        callbacks = [*make_callbacks(make_own, config), *callbacks]
        return _train(run, callbacks, restored.metrics, stop, stream)


class _Run(NamedTuple):
    """What the parts of a training run are made of, on this rank."""

    config: TrainConfig
    setup: RunSetup
    folder: RunFolder
    world: World
    model: TrainedModel
    readers: Readers
    mining: Sequence[MineNegatives]
    """What looks for hard negatives, where there are to be some."""

    @property
    def readers_of_fit(self) -> Readers:
        """What Keras reads: no validation pairs where a callback validates."""
        validates = self.model.scorer is None
        return Readers(self.readers.training, self.readers.validation if validates else None)


def _train(
    run: _Run,
    callbacks: Sequence[keras.callbacks.Callback],
    metric_states: Sequence[np.ndarray] | None,
    stop: StopRequest,
    stream: TextIO | TextIOBase | None,
) -> TrainResult:
    """Runs the epochs that are left and leaves the models behind."""
    config, setup = run.config, run.setup
    steps_per_epoch = run.readers.training.steps_per_epoch
    track = PositionTracker(setup.start, steps_per_epoch=steps_per_epoch, epochs=config.epochs)
    progress = _begin_progress(run, stream)
    pairs_of_step: dict[int, int] = {}  # Of this rank, read and not trained yet.
    with _open_outputs(run) as (logs, manager):
        record = _make_record(run, track, logs, progress, pairs_of_step)
        controls = [*make_controls(config), *callbacks]
        remembering = [*run.mining, *controls]
        save = SaveCheckpoints(
            track,
            capture=_make_capture(run, record, remembering),
            manager=manager,
            collectives=dist.HorovodCollectives(),
            stop=stop,
            every=config.checkpoint_every,
            minutes=config.checkpoint_minutes,
        )
        in_order = [
            track,  # First: all others ask it where the run stands.
            *make_schedule(config, track),
            dist.BroadcastInitialState(),  # Before anything reads weights or the learning rate.
            ResumeMetrics(setup.start, metric_states),  # Before the metrics are added up.
            dist.ExactMetrics(),  # Before anything reads the logs.
            *run.mining,  # Before an epoch's batches are planned, with the weights of all ranks.
            *make_validation(run.model, run.readers.validation, setup.ranked),
            dist.ReplicaGuard(),  # Before weights that differ are saved.
            record,
            *controls,  # The user's own among them, which may stop the run.
            save,  # After everything that a checkpoint holds.
            ResumeCallbacks(  # Last: the others forget what they knew when training begins.
                remembering, setup.state.get("callbacks"), warns=run.world.is_rank_zero
            ),
        ]
        if setup.start.epoch < config.epochs and not setup.state.get("is_stopped"):
            fit_epochs(
                run.model,
                run.readers_of_fit,
                track,
                epochs=config.epochs,
                callbacks=in_order,
                on_batch=pairs_of_step.__setitem__,
            )
    export_on_rank_zero(run.folder, run.model, RetentionPolicy.from_config(config))
    for line in (*describe_left_out(run.readers.training), *describe_use(run.readers.training)):
        progress.say(line)
    return TrainResult(
        run=config.output,
        epochs=track.position.epoch + (1 if record.last_epoch else 0),
        steps=track.position.step,
        metrics=record.last_epoch or setup.state.get("metrics", {}),
    )


def _begin_progress(run: _Run, stream: TextIO | TextIOBase | None) -> Progress:
    """What a person sees of the run; what it trains, and what it cannot do, is said at once."""
    progress = Progress(
        run.readers.training.steps_per_epoch,
        monitored=run.config.monitored,
        shown=run.world.is_rank_zero,
        stream=stream,
    )
    progress.say(describe_run(run.setup, run.config, run.world))
    for line in describe_cache(run.setup.training, run.setup.validation, run.config):
        progress.say(line)
    if run.model.objective.head is not None and run.readers.validation is None:
        progress.say(
            "Scores are no probabilities without validation pairs, which scale and bias are fitted "
            "to after each epoch: they keep those that they begin with."
        )
    if run.world.size > 1:
        for line in describe_inexact_layers(run.model.plain):
            progress.say(line)
    return progress


@contextmanager
def _open_outputs(
    run: _Run,
) -> Iterator[tuple[list[MetricsLog | TensorBoardLog], CheckpointManager | None]]:
    """Where rank zero writes figures and checkpoints; nothing on the others. Closed at the end."""
    if not run.world.is_rank_zero:
        yield [], None
        return
    files, start = run.folder.files, run.setup.start.step
    log = MetricsLog(files, METRICS, after=start, require_locked=run.folder.require_locked)
    manager = CheckpointManager(
        files, RetentionPolicy.from_config(run.config), before=log.flush, start=start
    )
    logs: list[MetricsLog | TensorBoardLog] = [log]
    if run.config.tensorboard:
        logs.append(TensorBoardLog(files, after=start))
    try:
        yield logs, manager
    finally:
        manager.close()
        log.close()


def _make_record(
    run: _Run,
    track: PositionTracker,
    logs: Sequence[MetricsLog | TensorBoardLog],
    progress: Progress,
    pairs_of_step: dict[int, int],
) -> LogMetrics:
    reader = run.readers.training
    return LogMetrics(
        track,
        logs=logs,
        progress=progress,
        collectives=dist.HorovodCollectives(),
        pairs_of_step=pairs_of_step.pop,
        read_waits=lambda: {
            "data": reader.stats.wait_seconds,
            "collective": dist.collective_seconds(),
        },
        every=run.config.log_every,
    )


def _make_capture(
    run: _Run, record: LogMetrics, remembering: Sequence[keras.callbacks.Callback]
) -> Capture:
    """Returns what makes a checkpoint on rank zero, of what all ranks have."""
    model, memory = run.model.view, state.HostMemory()

    def capture(position: Position) -> Checkpoint | None:
        sums = {
            "metrics": dist.allreduce_sum(model.metrics_variables),
            "accumulated": dist.accumulated_gradients(model.optimizer),
            "negatives": [found for one in run.mining for found in one.negatives_at(position)],
        }
        if not run.world.is_rank_zero:
            return None
        rest = {
            "is_stopped": bool(model.stop_training),
            "metrics": record.last_epoch,
            "callbacks": read_states(remembering),
            "config": storable(run.config),
            "facts": run.setup.facts,
        }
        return state.capture(model, sums, position, rest, memory)

    return capture
