import fcntl
import io
import os
import pty
import struct
import termios

import pytest

from sharedlayers_dist.training.finite import NotFiniteError, require_finite_loss
from sharedlayers_dist.training.progress import Progress


def test_only_one_rank_shows_progress():
    stream = io.StringIO()
    silent = Progress(10, monitored="loss", shown=False, stream=stream)
    silent.begin("epoch 1/1", 0)
    silent.step(1, {"loss": 1.0})
    silent.end({"loss": 1.0})
    assert stream.getvalue() == ""
    loud = Progress(10, monitored="loss", shown=True, stream=stream)
    loud.begin("epoch 1/1", 0)
    loud.end({"loss": 0.5})
    assert stream.getvalue() == "epoch 1/1: loss 0.5\n"


def test_a_line_of_a_log_says_how_long_the_epoch_still_takes(monkeypatch):
    stream = io.StringIO()
    progress = Progress(10, monitored="loss", shown=True, stream=stream)
    monkeypatch.setattr(Progress, "SECONDS_BETWEEN_LINES", 0.0)
    progress.begin("epoch 2/3", 6)
    progress.step(8, {"loss": 1.0})
    assert stream.getvalue() == "epoch 2/3, step 8/10, 0:00:00 left: loss 1\n"


def test_a_terminal_of_100_columns_shows_what_a_person_reads():
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    with os.fdopen(slave, "w") as stream, os.fdopen(master, "rb", buffering=0) as screen:
        progress = Progress(1000, monitored="roc_auc", shown=True, stream=stream)
        progress.begin("epoch 10/10", 0)
        values = {"accuracy": 0.9583, "loss": 0.46691, "roc_auc": 0.98, "pairs_per_second": 803.2}
        waits = {"data_wait_share": 0.011, "collective_wait_share": 0.124}
        assert progress._bar is not None
        progress._bar.mininterval = 0  # Shows each step.
        progress.step(400, values | waits | {"peak_memory_mb": 1952.7})
        shown = ""
        while "pairs/s" not in shown:  # A terminal hands on what it gets in pieces.
            shown += screen.read(10_000).decode()
        line = shown.split("\r")[-1]
        progress._bar.close()
    assert line.startswith("epoch 10/10  40% 400/1000 [00:")
    assert "<" in line
    assert line.endswith(", loss 0.4669, roc_auc 0.98, 803 pairs/s, waits 12% for other ranks]")


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_run(loss):
    require_finite_loss({"loss": 0.1}, 3)
    with pytest.raises(NotFiniteError, match=f"loss={loss} at step 3"):
        require_finite_loss({"loss": loss}, 3)
