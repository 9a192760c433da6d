import pytest

from sharedlayers_dist.dist import HorovodCollectives
from sharedlayers_dist.training.throughput import ThroughputMeter


class TwoAlike(HorovodCollectives):
    """Two ranks that have the same numbers."""

    def sum(self, numbers):
        return [2 * number for number in numbers]


def test_speed_counts_pairs_and_waiting_since_its_restart():
    now, waits = [100.0], {"data": 5.0, "collective": 2.0}
    speed = ThroughputMeter(lambda: dict(waits), TwoAlike(), clock=lambda: now[0])
    speed.add(1000)
    now[0], waits["collective"] = 108.0, 10.0
    assert speed.read()["collective_wait_share"] == 1.0
    speed.restart()
    speed.add(256)
    speed.add(44)
    now[0], waits["data"], waits["collective"] = 111.0, 5.75, 11.5
    figures = speed.read()
    assert figures["pairs_per_second"] == 200.0
    assert figures["data_wait_share"] == pytest.approx(0.25)
    assert figures["collective_wait_share"] == pytest.approx(0.5)
    assert figures["peak_memory_mb"] > 1
