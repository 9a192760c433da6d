"""`HorovodConfig` by itself: anyone's train function on Ray Train, as the ranks of one group."""

import os
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
import ray.train
from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from sharedlayers_dist.ray import HorovodConfig, num_restarts


def make_trainer(train, folder, *, num_workers=2, max_failures=0, horovod=None):
    return DataParallelTrainer(
        train,
        backend_config=horovod or HorovodConfig(),
        scaling_config=ScalingConfig(num_workers=num_workers),
        run_config=RunConfig(
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=max_failures),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )


def add_up(value: float):
    """Makes a train function that knows nothing of this project but the backend."""

    def train():
        import horovod.tensorflow as hvd
        import tensorflow as tf

        hvd.init()
        assert hvd.rank() == ray.train.get_context().get_world_rank()
        total = hvd.allreduce(tf.constant(value * (hvd.rank() + 1)), op=hvd.Sum)
        return {
            "sum": float(total),
            "size": hvd.size(),
            "local_size": hvd.local_size(),
            "port": int(os.environ["HOROVOD_GLOO_RENDEZVOUS_PORT"]),
            "address": os.environ["HOROVOD_GLOO_RENDEZVOUS_ADDR"],
        }

    return train


def is_open(found) -> bool:
    with socket.socket() as client:
        client.settimeout(5)
        return client.connect_ex((found["address"], found["port"])) == 0


def test_two_jobs_on_one_cluster_reduce_each_for_itself(ray_cluster, tmp_path):
    trainers = [
        make_trainer(add_up(1.0), tmp_path / "a"),
        make_trainer(add_up(10.0), tmp_path / "b", num_workers=3),
    ]
    with ThreadPoolExecutor(2) as pool:
        first, second = (r.return_value for r in pool.map(lambda t: t.fit(), trainers))
    assert (first["sum"], first["size"], first["local_size"]) == (3.0, 2, 2)
    assert (second["sum"], second["size"], second["local_size"]) == (60.0, 3, 3)
    assert first["address"] == second["address"] == "127.0.0.1"
    assert first["port"] != second["port"]
    assert not is_open(first)
    assert not is_open(second)


@pytest.mark.slow
def test_workers_that_are_started_again_form_a_new_group(ray_cluster, tmp_path):
    def train():
        from sharedlayers_dist import dist

        world = dist.init()
        if num_restarts() == 0 and world.rank == 1:
            os._exit(1)
        return (num_restarts(), world.size, len(dist.allgather_object(world.rank)))

    result = make_trainer(train, tmp_path, max_failures=1).fit()
    assert result.return_value == (1, 2, 2)
