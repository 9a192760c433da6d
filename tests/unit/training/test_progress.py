import fcntl
import io
import json
import os
import pty
import struct
import termios

import pytest

from sharedlayers_dist.storage.folder import LocalFolder
from sharedlayers_dist.training.finite import NotFiniteError, require_finite_loss
from sharedlayers_dist.training.metrics_log import MetricsLog
from sharedlayers_dist.training.progress import Progress
from sharedlayers_dist.training.throughput import ThroughputMeter


def test_lines_that_will_be_written_again_or_are_cut_short_are_dropped(tmp_path):
    files = LocalFolder(tmp_path)
    log = MetricsLog(files, "metrics.jsonl", after=0)
    for step in (2, 4, 6):
        log.append({"step": step, "loss": 1 / step})
    files.append("metrics.jsonl", b'{"step": 3, "lo')
    log = MetricsLog(files, "metrics.jsonl", after=4)
    log.append({"step": 6, "loss": 0.5})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [
        {"step": 2, "loss": 0.5},
        {"step": 4, "loss": 0.25},
        {"step": 6, "loss": 0.5},
    ]


def test_figures_that_are_not_finite_are_null(tmp_path):
    log = MetricsLog(LocalFolder(tmp_path), "metrics.jsonl", after=0)
    log.append({"event": "step", "step": 1, "loss": float("nan"), "val_loss": float("-inf")})
    text = (tmp_path / "metrics.jsonl").read_text()
    assert text == '{"event": "step", "step": 1, "loss": null, "val_loss": null}\n'


def test_speed_counts_pairs_and_waiting_since_its_restart():
    now, waits = [100.0], {"data": 5.0, "collective": 2.0}
    speed = ThroughputMeter(lambda: dict(waits), clock=lambda: now[0])
    speed.add(1000)
    now[0], waits["collective"] = 108.0, 10.0
    assert speed.read()["collective_wait_share"] == 1.0
    speed.restart()
    speed.add(256)
    speed.add(44)
    now[0], waits["data"], waits["collective"] = 111.0, 5.75, 11.5
    figures = speed.read()
    assert figures["pairs_per_second"] == 100.0
    assert figures["data_wait_share"] == pytest.approx(0.25)
    assert figures["collective_wait_share"] == pytest.approx(0.5)
    assert figures["peak_memory_mb"] > 1


def test_only_one_rank_shows_progress():
    stream = io.StringIO()
    silent = Progress(10, shown=False, stream=stream)
    silent.begin("epoch 1/1", 0)
    silent.step(1, {"loss": 1.0})
    silent.end({"loss": 1.0})
    assert stream.getvalue() == ""
    loud = Progress(10, shown=True, stream=stream)
    loud.begin("epoch 1/1", 0)
    loud.end({"loss": 0.5})
    assert stream.getvalue() == "epoch 1/1: loss 0.5\n"


def test_a_line_of_a_log_says_how_long_the_epoch_still_takes(monkeypatch):
    stream = io.StringIO()
    progress = Progress(10, shown=True, stream=stream)
    monkeypatch.setattr(Progress, "SECONDS_BETWEEN_LINES", 0.0)
    progress.begin("epoch 2/3", 6)
    progress.step(8, {"loss": 1.0})
    assert stream.getvalue() == "epoch 2/3, step 8/10, 0:00:00 left: loss 1\n"


def test_a_terminal_of_100_columns_shows_speed_waits_memory_and_the_time_left():
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    with os.fdopen(slave, "w") as stream, os.fdopen(master, "rb", buffering=0) as screen:
        progress = Progress(1000, shown=True, stream=stream)
        progress.begin("epoch 10/10", 0)
        values = {"accuracy": 0.9583, "loss": 0.46691, "roc_auc": 0.98, "pairs_per_second": 803.2}
        waits = {"data_wait_share": 0.011, "collective_wait_share": 0.124}
        progress._bar.mininterval = 0  # Shows each step.
        progress.step(400, values | waits | {"peak_memory_mb": 1952.7})
        stream.flush()
        *_, line = screen.read(10_000).decode().split("\r")
        progress._bar.close()
    assert line.startswith("epoch 10/10  40% 400/1000 [00:")
    assert "<" in line
    assert "loss 0.4669, 803 pairs/s, waits data 1% collective 12%, 1953 MB" in line


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_run(loss):
    require_finite_loss({"loss": 0.1}, 3)
    with pytest.raises(NotFiniteError, match=f"loss={loss} at step 3"):
        require_finite_loss({"loss": loss}, 3)
