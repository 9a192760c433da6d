"""One training run from its configuration to `model.keras`, on this rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from io import TextIOBase
from typing import Any, TextIO, TypeVar

import keras
import numpy as np
import tensorflow as tf

from sharedlayers_dist import dist, models
from sharedlayers_dist.config import TrainConfig
from sharedlayers_dist.data import Reader, as_tf_dataset
from sharedlayers_dist.training.callbacks import ContinuousCallbackList, LogMetrics, ResumeMetrics
from sharedlayers_dist.training.checkpoints import state
from sharedlayers_dist.training.checkpoints.callback import SaveCheckpoints
from sharedlayers_dist.training.checkpoints.callback_states import ResumeCallbacks, read_states
from sharedlayers_dist.training.checkpoints.files import Checkpoint
from sharedlayers_dist.training.checkpoints.manager import CheckpointManager
from sharedlayers_dist.training.checkpoints.retention import RetentionPolicy
from sharedlayers_dist.training.export import export_models
from sharedlayers_dist.training.iterator_cleanup import releasing_iterators
from sharedlayers_dist.training.metrics_log import MetricsLog, TensorBoardLog
from sharedlayers_dist.training.position import Position, PositionTracker
from sharedlayers_dist.training.preemption import StopRequest, listen_for_stop
from sharedlayers_dist.training.progress import Progress
from sharedlayers_dist.training.readers import OpenReader, open_here, pair_reading, read_training
from sharedlayers_dist.training.result import TrainResult
from sharedlayers_dist.training.run_folder import METRICS, RunFolder
from sharedlayers_dist.training.run_setup import RunSetup, describe_run, prepare_run
from sharedlayers_dist.training.stored_config import storable
from sharedlayers_dist.world import World

_T = TypeVar("_T")


def fit(
    config: TrainConfig,
    callbacks: Sequence[keras.callbacks.Callback],
    *,
    open_reader: OpenReader = open_here,
    listen: Callable[[], AbstractContextManager[StopRequest]] = listen_for_stop,
    stream: TextIO | TextIOBase | None = None,
    owner: str = "",
) -> TrainResult:
    """Trains on this rank; see `sharedlayers_dist.training.train`.

    Args:
        config: The run's options.
        callbacks: Further Keras callbacks.
        open_reader: Where pairs are read.
        listen: How this rank learns that the run is to stop.
        stream: Where progress is shown; standard error by default.
        owner: Names the run over several starts of its processes, as `RunFolder.lock` has it.
    """
    world = dist.init()
    folder = RunFolder(config.output)
    checkpoint: Checkpoint | None = None

    def open_on_rank_zero() -> RunSetup:
        nonlocal checkpoint
        job, checkpoint = prepare_run(config, folder, owner=owner)
        return job

    with dist.shared_failure(), folder.unlocking(), listen() as stop:
        job = _tell_all(world, open_on_rank_zero)
        keras.utils.set_random_seed(config.seed)
        run = _Run(config, job, folder, world, checkpoint, open_reader, stream)
        return run.train(callbacks, stop)


def _tell_all(world: World, find_out: Callable[[], _T]) -> _T:
    """Calls `find_out` on rank zero; its result, or its error, reaches every rank."""
    found: list[_T] = []
    error: BaseException | None = None
    if world.is_rank_zero:
        try:
            found.append(find_out())
        except Exception as e:  # Any failure must reach the ranks that wait below.
            error = e
    dist.raise_on_all_ranks(error)
    return dist.broadcast_object(found)[0]


class _Run:
    """The parts of one rank's training run, put together.

    Args:
        config: The run's options.
        job: What rank zero found out.
        folder: The run folder.
        world: This rank.
        checkpoint: What rank zero starts from, and the others get by broadcast; None elsewhere.
        open_reader: Where pairs are read.
        stream: Where progress is shown.
    """

    def __init__(
        self,
        config: TrainConfig,
        job: RunSetup,
        folder: RunFolder,
        world: World,
        checkpoint: Checkpoint | None,
        open_reader: OpenReader,
        stream: TextIO | TextIOBase | None,
    ) -> None:
        self._stream = stream
        self._config = config
        self._job = job
        self._world = world
        self._folder = folder
        self._model = models.build(config.model, head=config.head)
        self._view = models.compact_view(self._model)
        plain = keras.optimizers.RMSprop(config.learning_rate)
        self._view.compile(
            optimizer=dist.DistributedOptimizer(plain),
            loss="binary_crossentropy",
            weighted_metrics=["accuracy", keras.metrics.AUC(name="roc_auc")],
        )
        self._view.optimizer.build(self._view.trainable_variables)
        dist.prepare(self._view, num_samples=_count_pairs)
        self._host_memory = state.HostMemory()
        self._metric_states: Sequence[np.ndarray] | None = None
        if checkpoint is not None and job.state:
            state.restore(self._view, checkpoint)
            self._metric_states = checkpoint.part("metrics")
        elif checkpoint is not None:
            state.restore(self._view, checkpoint, parts=["model"])
        self._reader = read_training(
            job.training, config, alphabet=job.alphabet, world=world, open_reader=open_reader
        )
        self._pairs_of_step: dict[int, int] = {}
        """Usable pairs of this rank in the steps of the epoch that have been read and not trained.
        """
        self._validation_reader: Reader | None = None
        if job.validation is not None:
            reading = pair_reading(job.validation, config, alphabet=job.alphabet, shuffle=False)
            self._validation_reader = open_reader(reading.open, world)
        self._track = PositionTracker(
            job.start, steps_per_epoch=self._reader.steps_per_epoch, epochs=config.epochs
        )

    def train(
        self, callbacks: Sequence[keras.callbacks.Callback], stop: StopRequest
    ) -> TrainResult:
        """Runs the epochs that are left and leaves the models behind."""
        config, job = self._config, self._job
        progress = Progress(
            self._reader.steps_per_epoch,
            monitored=config.monitored,
            shown=self._world.is_rank_zero,
            stream=self._stream,
        )
        progress.say(describe_run(job, config, self._world.size))
        logs: list[MetricsLog | TensorBoardLog] = []
        manager = None
        if self._world.is_rank_zero:
            log = MetricsLog(
                self._folder.files,
                METRICS,
                after=job.start.step,
                require_locked=self._folder.require_locked,
            )
            manager = CheckpointManager(
                self._folder.files,
                _retention_policy(config),
                before=log.flush,
                start=job.start.step,
            )
            logs = [
                log,
                *(
                    [TensorBoardLog(self._folder.files, after=job.start.step)]
                    if config.tensorboard
                    else []
                ),
            ]
        record = self._make_record(logs, progress)
        remembering = [*self._make_controls(), *callbacks]
        save = SaveCheckpoints(
            self._track,
            capture=lambda position: self._capture(position, record, remembering),
            manager=manager,
            collectives=dist.HorovodCollectives(),
            stop=stop,
            every=config.checkpoint_every,
            minutes=config.checkpoint_minutes,
        )
        try:
            if job.start.epoch < config.epochs and not job.state.get("is_stopped"):
                self._fit(
                    [
                        self._track,
                        dist.BroadcastInitialState(),
                        ResumeMetrics(job.start, self._metric_states),
                        dist.ExactMetrics(),
                        dist.ReplicaGuard(),
                        record,
                        *remembering,
                        save,
                        ResumeCallbacks(
                            remembering,
                            job.state.get("callbacks"),
                            warns=self._world.is_rank_zero,
                        ),
                    ]
                )
        finally:
            if manager is not None:
                manager.close()
                log.close()
        self._export_models()
        self._say_what_was_cut(progress)
        return TrainResult(
            run=config.output,
            epochs=self._track.position.epoch + (1 if record.last_epoch else 0),
            steps=self._track.position.step,
            metrics=record.last_epoch or job.state.get("metrics", {}),
        )

    def _say_what_was_cut(self, progress: Progress) -> None:
        """Says on rank zero what all ranks left out of the training pairs."""
        counts = np.array([self._reader.num_bad_rows, self._reader.num_cut_texts])
        num_bad_rows, num_cut_texts = dist.allreduce_sum([counts])[0]
        if num_bad_rows:
            found = dist.allgather_object(list(self._reader.problems))
            problems = dict.fromkeys(problem for of_rank in found for problem in of_rank)
            progress.say(
                f"{num_bad_rows} bad rows were left out, counted in each epoch: "
                f"{'; '.join(problems)}"
            )
        if num_cut_texts:
            progress.say(
                f"{num_cut_texts} texts were truncated: their last 280 characters are read."
            )

    def _make_record(
        self, logs: Sequence[MetricsLog | TensorBoardLog], progress: Progress
    ) -> LogMetrics:
        return LogMetrics(
            self._track,
            logs=logs,
            progress=progress,
            exact_metrics=lambda: dist.exact_metrics(self._view),
            pairs_of_step=self._pairs_of_step.pop,
            sum_over_ranks=lambda pairs: int(dist.allreduce_sum([np.array(pairs)])[0]),
            read_waits=lambda: {
                "data": self._reader.wait_seconds,
                "collective": dist.collective_seconds(),
            },
            every=self._config.log_every,
        )

    def _make_controls(self) -> list[keras.callbacks.Callback]:
        """What may end the training early or change the learning rate."""
        config = self._config
        watch = {"monitor": config.monitored, "mode": config.monitored_mode}
        controls: list[keras.callbacks.Callback] = []
        if config.early_stopping:
            controls.append(dist.AgreedEarlyStopping(patience=config.early_stopping, **watch))
        if config.plateau:
            controls.append(
                dist.AgreedReduceLROnPlateau(factor=0.2, patience=config.plateau, **watch)
            )
        return controls

    def _fit(self, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Calls Keras's `fit`: once, or first for the rest of an epoch that was begun before.

        Keras takes the number of steps from the dataset, once for a call of `fit`.
        """
        start, last = self._job.start, self._config.epochs
        ends = [start.epoch + 1, last] if start.step_of_epoch else [last]
        several = ContinuousCallbackList(
            callbacks, model=self._view, epochs=last, steps=self._reader.steps_per_epoch
        )
        first = start.epoch
        for end in ends:
            self._track.epoch_begins(first)
            try:
                with releasing_iterators(self._view):
                    self._view.fit(
                        as_tf_dataset(
                            self._reader,
                            self._track.data_position,
                            on_batch=self._pairs_of_step.__setitem__,
                        ),
                        initial_epoch=first,
                        epochs=end,
                        verbose=0,
                        shuffle=False,  # The reader has done it.
                        validation_data=self._validation_data(),
                        callbacks=several,
                    )
            except tf.errors.OpError as error:  # TensorFlow hides what a reader failed with.
                for reader in (self._reader, self._validation_reader):
                    if reader is not None and reader.error is not None:
                        raise reader.error from error
                raise
            first = end
            if self._view.stop_training:
                break
        several.finish()

    def _validation_data(self) -> tf.data.Dataset | None:
        if self._validation_reader is None:
            return None
        return as_tf_dataset(self._validation_reader, lambda: (0, 0))

    def _capture(
        self,
        position: Position,
        record: LogMetrics,
        remembering: Sequence[keras.callbacks.Callback],
    ) -> Checkpoint | None:
        """What rank zero saves, of what all ranks have; None on the others."""
        metric_states = dist.allreduce_sum(self._view.metrics_variables)
        if not self._world.is_rank_zero:
            return None
        rest = {
            "is_stopped": bool(self._view.stop_training),
            "metrics": record.last_epoch,
            "callbacks": read_states(remembering),
            "config": storable(self._config),
            "facts": self._job.facts,
        }
        return state.capture(self._view, metric_states, position, rest, self._host_memory)

    def _export_models(self) -> None:
        """Leaves the model with the notebook's inputs, compiled as it was trained; and the best."""
        error: BaseException | None = None
        if self._world.is_rank_zero:
            try:
                self._folder.require_locked()
                export_models(
                    self._folder.files,
                    self._model,
                    self._view.optimizer,
                    _retention_policy(self._config),
                )
            except Exception as e:  # Whatever it is, the other ranks must learn of it.
                error = e
        dist.raise_on_all_ranks(error)


def _retention_policy(config: TrainConfig) -> RetentionPolicy:
    return RetentionPolicy(
        newest=config.keep_checkpoints,
        best=config.keep_best,
        monitor=config.monitored,
        mode=config.monitored_mode,
        every=config.keep_every,
    )


def _count_pairs(x: Any, y: tf.Tensor, sample_weight: Any) -> tf.Tensor:
    """Pairs of a batch on this rank; the padding row of a rank without pairs has the label -1."""
    return tf.reduce_sum(tf.cast(y >= 0, tf.float32))
