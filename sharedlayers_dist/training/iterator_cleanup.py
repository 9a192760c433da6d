"""Iterators over batches that a training which fails has not read to their end."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from traceback import walk_stack, walk_tb
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


@contextmanager
def releasing_iterators(model: keras.Model) -> Iterator[None]:
    """Ends the iterators that `model.fit`, called in the block, leaves behind when it fails.

    TensorFlow reads ahead in threads of its own, which call Python for the next batch; an iterator
    ends when they have. In a process that is ending they cannot call Python any more, and an
    iterator that goes only then waits for them for ever. Until then it lives in what Keras's own
    functions had in hand, to which the error's traceback leads. So that is let go of here.
    """
    try:
        yield
    except BaseException as error:
        _clear_frames(error)
        model._eval_epoch_iterator = None  # Keras's, for the validation.
        gc.collect()  # What refers to itself.
        raise


def _clear_frames(error: BaseException | None) -> None:
    """Empties the functions that `error` came through, but for those that are still running.

    They are those of its traceback and those that called them, since Keras leaves its own out; and
    so for the errors that it followed from, since TensorFlow makes one of another.
    """
    while error is not None:
        for failed, _ in walk_tb(error.__traceback__):
            for frame, _ in walk_stack(failed):
                with suppress(RuntimeError):
                    frame.clear()
        error = error.__context__
