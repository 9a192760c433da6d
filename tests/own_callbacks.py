"""The file of callbacks of a user's own, as a text that tests write where they need it."""

from pathlib import Path

TEXT = '''"""Callbacks that note on each rank what they see, in the folder of this file."""

import keras

from own_notes import note
from sharedlayers_dist import dist


def make(config):
    return [Notes(config)]


class Notes(keras.callbacks.Callback):
    def __init__(self, config):
        super().__init__()
        self.config = config

    def on_train_begin(self, logs=None):
        note({folder!r}, dist.rank(), "begin")

    def on_epoch_end(self, epoch, logs=None):
        assert "roc_auc" in logs
        note({folder!r}, dist.rank(), f"epoch {{epoch + 1}}")

    def on_train_end(self, logs=None):
        assert self.config.epochs == 2
        note({folder!r}, dist.rank(), "end")


def make_none(config):
    return None


def make_class(config):
    return [Notes]


def take_nothing():
    return []


something = 3
'''
NOTES = '''"""A module beside it."""


def note(folder, rank, text):
    with open(f"{folder}/rank-{rank}.notes", "a") as file:
        file.write(text + "\\n")
'''


def write_callbacks(folder: Path) -> str:
    """Writes the files into `folder`; returns the function's name for `--callbacks`."""
    (folder / "own_callbacks.py").write_text(TEXT.format(folder=str(folder)))
    (folder / "own_notes.py").write_text(NOTES)
    return f"{folder / 'own_callbacks.py'}:make"


def read_notes(folder: Path, rank: int) -> list[str]:
    """What the callbacks have noted on a rank."""
    return (folder / f"rank-{rank}.notes").read_text().splitlines()
