"""The driver of a run on Ray: makes room, starts actors and workers, and speaks for all of them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import ray
from ray import cloudpickle
from ray.train.v2.api.callback import UserCallback
from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError
from ray.train.v2.api.result import Result

from sharedlayers_dist.config import TrainConfig
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.ray.backend import HorovodConfig
from sharedlayers_dist.ray.cluster import is_ray_job, join_cluster
from sharedlayers_dist.ray.control import start_control
from sharedlayers_dist.ray.failures import RayRunError, TellOfFailures, describe_failure
from sharedlayers_dist.ray.meeting import refuse
from sharedlayers_dist.ray.placement import (
    EndAfterTries,
    describe_resources,
    resources_per_worker,
    wait_for_resources,
)
from sharedlayers_dist.ray.same_sources import (
    describe_difference,
    read_sources,
    require_same_sources,
)
from sharedlayers_dist.ray.sent_code import SentCode
from sharedlayers_dist.ray.watch import Watch, say
from sharedlayers_dist.ray.worker import MakeCallbacks, train_on_worker
from sharedlayers_dist.storage.uri import absolute, is_uri
from sharedlayers_dist.training import RunFolder, TrainResult
from sharedlayers_dist.training.preemption import listen_for_stop
from sharedlayers_dist.training.run_folder import RAY_SNAPSHOT
from sharedlayers_dist.world import Launch

_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_FOR_LAST_LINES = 10.0
_START_SECONDS = 30
"""How long Ray Train waits for a group of workers before it looks at the cluster again."""


def train(
    config: TrainConfig,
    make_callbacks: MakeCallbacks = tuple,
    *,
    build: Callable[..., Any] | None = None,
    horovod: HorovodConfig | None = None,
    ray_callbacks: Sequence[UserCallback] = (),
) -> TrainResult:
    """Trains a pair model on a Ray cluster; the driver calls this, once.

    The same configuration gives the same result as under the other launchers. Workers that fail
    are started again up to `max_failures` times, and go on from the last checkpoint.

    Args:
        config: The run's options. Every node must see the data and the run folder.
        make_callbacks: Makes further Keras callbacks on each worker.
        build: Makes the model, as `sharedlayers_dist.train` takes it; workers need not have its
            file.
        horovod: How the ranks find each other.
        ray_callbacks: Ray Train's own callbacks, such as Tune's `TuneReportCallback()`.

    Returns:
        What was trained, as on every other launcher.

    Raises:
        UserError: for what a user got wrong.
        RuntimeError: for a run that could not be placed, or failed too often; it names rank and
            node.
        RunInterruptedError: for a run that was asked to stop and has saved itself.
    """
    result = train_for_result(
        config, make_callbacks, build=build, horovod=horovod, ray_callbacks=ray_callbacks
    )
    if not isinstance(result.return_value, TrainResult):
        raise RuntimeError(f"The run ended without a result. Received: {result.return_value!r}.")
    return result.return_value


def train_for_result(
    config: TrainConfig,
    make_callbacks: MakeCallbacks = tuple,
    *,
    build: Callable[..., Any] | None = None,
    horovod: HorovodConfig | None = None,
    ray_callbacks: Sequence[UserCallback] = (),
) -> Result:
    """Does what `train` does, and returns what Ray Train says of it.

    `metrics` are those of the last epoch, `checkpoint` is the last one in the run folder, in this
    project's own format, and `return_value` is the TrainResult.
    """
    if config.launcher == "local":
        raise UserError(
            "A driver of Ray trains on Ray's workers. Received: launcher='local'. Call "
            "sharedlayers_dist.train(config), or leave `launcher` out."
        )
    Launch.detect().require_one_process(
        "the driver of a run on Ray", "Start it without another launcher, and give `num_workers`."
    )
    output = os.path.expanduser(config.output)
    if is_ray_job() and not is_uri(output) and not os.path.isabs(output):
        raise UserError(
            "`output` must be an absolute path or a URI in a Ray job, whose own folder is removed "
            f"after it. Received: output={config.output!r}."
        )
    code = SentCode.read(config, build)
    config = with_absolute_paths(config)
    folder = RunFolder(config.output)
    folder.require_usable(config)
    folder.files.remove(RAY_SNAPSHOT)  # Of an earlier driver; checkpoints have come and gone since.
    with join_cluster(config.address):
        return _Driver(config, folder, horovod or HorovodConfig()).run(
            code, make_callbacks, ray_callbacks
        )


def with_absolute_paths(config: TrainConfig) -> TrainConfig:
    """Local paths as they are on every node, whatever folder a worker runs in."""
    parts = [part.partition("*") for part in config.mix]
    return replace(
        config,
        pairs=absolute(config.pairs),
        validation=absolute(config.validation),
        output=absolute(config.output),
        initialize_from=absolute(config.initialize_from),
        data_cache=absolute(config.data_cache),
        mix=tuple(f"{weight}{star}{absolute(uri)}" for weight, star, uri in parts),
    )


class _Driver:
    """One run as its driver sees it.

    Args:
        config: The run's options, with absolute paths.
        folder: The run folder.
        horovod: How the ranks find each other.
    """

    def __init__(self, config: TrainConfig, folder: RunFolder, horovod: HorovodConfig) -> None:
        self._config = config
        self._folder = folder
        self._horovod = horovod
        self._num_shard_actors = (
            config.worker_range[1] if config.num_shard_actors < 0 else config.num_shard_actors
        )

    def run(
        self,
        code: SentCode,
        make_callbacks: MakeCallbacks,
        ray_callbacks: Sequence[UserCallback],
    ) -> Result:
        """Places the run, trains, and cleans up."""
        config, sources = self._config, read_sources()
        # Unpickled when workers have loaded TensorFlow without its notes: it often refers to Keras.
        callbacks = cloudpickle.dumps(make_callbacks)
        require_same_sources(sources)
        wait_for_resources(config, num_shard_actors=self._num_shard_actors, say=say)
        control = start_control()
        actors: Sequence[Any] = []
        if self._num_shard_actors:
            from sharedlayers_dist.ray.reading.shard_requests import start_shard_actors

            actors = start_shard_actors(self._num_shard_actors, cpus=config.cpus_per_shard_actor)

        def train_as_one_rank() -> TrainResult | Exception:
            node = ray.util.get_node_ip_address()  # It may have joined since the driver looked.
            if difference := describe_difference(sources, read_sources(), node):
                return refuse(control, difference)
            return train_on_worker(config, code, callbacks, actors, control)

        trainer = DataParallelTrainer(
            train_as_one_rank,
            backend_config=self._horovod,
            scaling_config=self._scaling(),
            run_config=self._run_config([TellOfFailures(control), *ray_callbacks]),
        )
        try:
            result = self._wait(trainer, control)
        finally:
            for actor in [*actors, control]:
                ray.kill(actor)
        if isinstance(result.return_value, Exception):
            raise result.return_value
        return result

    def _scaling(self) -> ScalingConfig:
        fewest, most = self._config.worker_range
        return ScalingConfig(
            num_workers=fewest if fewest == most else (fewest, most),
            use_gpu=self._config.use_gpu,
            resources_per_worker=resources_per_worker(self._config),
            elastic_resize_monitor_interval_s=_START_SECONDS,
        )

    def _run_config(self, callbacks: list[UserCallback]) -> RunConfig:
        path, filesystem = self._folder.files.locate()
        tries_to_place = math.ceil(self._config.placement_seconds / _START_SECONDS)
        tries = self._config.max_failures + tries_to_place
        return RunConfig(
            name=PurePath(path).name,
            storage_path=str(PurePath(path).parent),
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=self._config.max_failures),
            callbacks=[EndAfterTries(tries), *callbacks],
            logging_config=LoggingConfig(log_level="ERROR"),
        )

    def _wait(self, trainer: DataParallelTrainer, control: Any) -> Result:
        """Waits for the end; shows progress and failures, and passes on the wish to stop."""
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(_START_SECONDS))
        watch = Watch(control, missing=lambda: describe_resources(self._config))
        with listen_for_stop() as stop, ThreadPoolExecutor(1, "ray-train") as pool:
            fitting = pool.submit(trainer.fit)
            while not wait([fitting], _SECONDS_BETWEEN_LOOKS).done:
                watch.look(is_to_stop=stop.is_set, patience=_SECONDS_BETWEEN_LOOKS)
        watch.look(is_to_stop=False, patience=_SECONDS_FOR_LAST_LINES)
        try:
            return fitting.result()
        except TrainingFailedError as error:
            of_workers = "" if isinstance(error, ControllerError) else watch.failure
            raise RayRunError(of_workers or describe_failure(error)) from error
