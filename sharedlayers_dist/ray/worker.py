"""What each worker of Ray Train does: one rank's training, reported to Ray."""

from __future__ import annotations

import functools
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ray
import ray.train
from ray import cloudpickle
from ray.exceptions import RayError

from sharedlayers_dist.config import TrainConfig
from sharedlayers_dist.errors import SetupError, UserError, show_warnings_in_one_line
from sharedlayers_dist.quiet import import_tensorflow_quietly
from sharedlayers_dist.ray.backend import num_restarts
from sharedlayers_dist.ray.control import DriverStream, attend
from sharedlayers_dist.ray.meeting import meet, refusing
from sharedlayers_dist.ray.preemption import Notice
from sharedlayers_dist.ray.sent_code import SentCode
from sharedlayers_dist.training import RunFolder, TrainResult
from sharedlayers_dist.training.preemption import RunInterruptedError, RunMovedError, StopRequest
from sharedlayers_dist.training.readers import DataAccess

if TYPE_CHECKING:
    import keras

_SECONDS_TO_NOTICE = 20.0
"""How long a worker that misses another one waits for Ray to notice that one's end, and its node;
Ray then ends this worker, too."""
_SECONDS_TO_SHOW = 10.0
MakeCallbacks = Callable[[], "Sequence[keras.callbacks.Callback]"]
"""Makes Keras callbacks on each worker; it must be possible to pickle it."""


def train_on_worker(
    config: TrainConfig,
    code: SentCode,
    make_callbacks: bytes,
    shard_actors: Sequence[Any],
    control: Any,
) -> TrainResult | Exception:
    """Trains as one rank; Ray Train starts this on every worker.

    Args:
        config: The run's options.
        code: What the driver sends of a user's own functions.
        make_callbacks: A pickled `MakeCallbacks`.
        shard_actors: The actors that read; none if the workers do.
        control: The run's control actor.

    Returns:
        What was trained, or an error that another try would only meet again: a user's mistake, a
        loss that is not finite, the wish to stop. Whatever else goes wrong is raised, and Ray Train
        starts the workers again; so is what ends them before a node is taken away.
    """
    context, node = ray.train.get_context(), ray.util.get_node_ip_address()
    rank = context.get_world_rank()
    # Rank zero decides: the others may hear of it a step later.
    stop = StopRequest(Notice().is_due) if rank == 0 else StopRequest()
    attend(control, stop, rank=rank, size=context.get_world_size(), node=node)
    if rank == 0:  # What the others warn of, it warns of too.
        show_warnings_in_one_line("sharedlayers", DriverStream(control))
    try:
        with refusing(control):
            import_tensorflow_quietly()
        return _train(config, code, make_callbacks, shard_actors, control, stop)
    except UserError as error:
        return UserError(str(error))


def _train(
    config: TrainConfig,
    code: SentCode,
    make_callbacks: bytes,
    shard_actors: Sequence[Any],
    control: Any,
    stop: StopRequest,
) -> TrainResult | Exception:
    """Does what `train_on_worker` does, once TensorFlow is there; raises a user's mistake."""
    from sharedlayers_dist import dist
    from sharedlayers_dist.ray.reporting import Report
    from sharedlayers_dist.training.finite import NotFiniteError
    from sharedlayers_dist.training.fit import fit

    rank, node = ray.train.get_context().get_world_rank(), ray.util.get_node_ip_address()
    report = Report(RunFolder(config.output), node)
    try:
        with refusing(control):
            callbacks, source = cloudpickle.loads(make_callbacks)(), code.unpack_model()
        meet(control)
        return fit(
            replace(config, resume=config.resume or num_restarts() > 0),
            [*callbacks, report],
            source=source,
            callbacks_code=code.callbacks,
            access=_choose_access(shard_actors),
            listen=lambda: nullcontext(stop),
            stream=DriverStream(control),
            owner=control._actor_id.hex(),  # One for all groups of workers of one driver.
        )
    except dist.OtherRankFailedError as error:
        if not error.is_users:
            time.sleep(_SECONDS_TO_NOTICE)
            raise
        return UserError(str(error))
    except UserError:
        raise
    except RunMovedError as error:
        notice = Notice()
        if rank == 0:
            _show(control, notice.describe(saved_after=error.step))
            notice.move(shard_actors)
        raise notice.error() from error
    except (RunInterruptedError, NotFiniteError) as error:
        return type(error)(str(error))
    except Exception as error:
        # What all ranks raise comes from the error itself where that was met.
        is_met_here = error.__cause__ is not None or not hasattr(error, "raised_on_all_ranks")
        if is_met_here and not isinstance(error, SetupError):
            where = f"rank {rank} on the node {node}"
            _show(control, f"{where} failed:\n{traceback.format_exc().rstrip()}")
        raise
    finally:
        report.end()
        dist.shutdown()  # The process lives on, and ranks that wait for this one must not.


def _show(control: Any, text: str) -> None:
    """Shows where the driver runs what Ray Train would leave in this worker's log alone."""
    with suppress(RayError):
        ray.get(control.write.remote(text), timeout=_SECONDS_TO_SHOW)


def _choose_access(shard_actors: Sequence[Any]) -> DataAccess:
    if not shard_actors:
        return DataAccess()
    from sharedlayers_dist.ray.reading.shard_items import ShardItemLoader
    from sharedlayers_dist.ray.reading.shard_reader import ShardReader

    return DataAccess(
        functools.partial(ShardReader, shard_actors),
        functools.partial(ShardItemLoader, shard_actors),
    )
