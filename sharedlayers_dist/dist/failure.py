"""One rank's failure becomes every rank's: the rank and its error are told beside Horovod.

A rank that fails cannot take part in collectives any more, and the others learn from Horovod only
that a rank has gone. So the one that fails leaves a note at the rendezvous server, which the
launcher runs, and the others look there before they give up. It also prints the error itself.
"""

from __future__ import annotations

import json
import os
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import tensorflow as tf

from sharedlayers_dist.dist import runtime
from sharedlayers_dist.errors import UserError

_SECONDS_TO_WAIT_FOR_A_NOTE = 5.0
_SECONDS_BETWEEN_RANKS = 0.2
_MOST_SECONDS_BETWEEN_RANKS = 20.0
_REQUEST_SECONDS = 3.0
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # Never by a proxy.
_SIGNS_OF_A_LOST_RANK = (
    "Horovod has been shut down",
    "HorovodInternalError",
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Read error",
    "Write error",
)


class OtherRankFailedError(RuntimeError):
    """Another rank failed, or was lost.

    Args:
        text: The rank and its error, as far as they are known.
        reporting_rank: Tells people of it: the one that failed, or the first that misses another.
        is_users: Whether it failed with a UserError, for what a user got wrong.
    """

    raised_on_all_ranks = True

    def __init__(self, text: str, reporting_rank: int, is_users: bool) -> None:
        super().__init__(text, reporting_rank, is_users)  # All of them, so that it can be pickled.
        self.reporting_rank = reporting_rank
        self.is_users = is_users

    def __str__(self) -> str:
        return str(self.args[0])


@contextmanager
def shared_failure() -> Iterator[None]:
    """Makes a failure within the block known to all ranks, and that of another rank known here.

    All ranks run the block. With one rank it does nothing, nor for errors that all ranks raise
    (those with an attribute `raised_on_all_ranks`).

    Raises:
        OtherRankFailedError: for a failure of another rank, which it names, or for a rank that was
            lost without a word.
    """
    try:
        yield
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        if runtime.size() == 1 or getattr(error, "raised_on_all_ranks", False):
            raise
        rank = runtime.rank()
        if not _is_sign_of_a_lost_rank(error):
            first = _leave_note(
                f"Rank {rank} failed: {_describe(error)}", is_users=isinstance(error, UserError)
            )
            if first["reporting_rank"] != rank:  # Another rank failed before, and speaks for both.
                raise OtherRankFailedError(**first) from error
            error.add_note(f"This was rank {rank} of {runtime.size()}.")
            raise
        note = _wait_for_note(rank)
        if note is None:
            note = _leave_note(
                "A rank was lost without a word: it was killed, or its host or the network is "
                "gone.",
                is_users=False,
            )
        raise OtherRankFailedError(**note) from error


def _describe(error: BaseException) -> str:
    text = " ".join(str(error).split())
    is_plain = isinstance(error, UserError | RuntimeError) and text
    return text if is_plain else f"{type(error).__name__}: {text}"


def _is_sign_of_a_lost_rank(error: BaseException) -> bool:
    if isinstance(error, tf.errors.OpError) or type(error).__name__ == "HorovodInternalError":
        return any(sign in str(error) for sign in _SIGNS_OF_A_LOST_RANK)
    return False


def _note_url() -> str | None:
    address = os.environ.get("HOROVOD_GLOO_RENDEZVOUS_ADDR")
    port = os.environ.get("HOROVOD_GLOO_RENDEZVOUS_PORT")
    if not address or not port:
        return None
    return f"http://{address}:{port}/sharedlayers_dist/failure"


def _leave_note(text: str, *, is_users: bool) -> dict[str, Any]:
    """Tells the other ranks; of several failures the first counts. Returns the note."""
    note = {"text": text, "reporting_rank": runtime.rank(), "is_users": is_users}
    url = _note_url()
    if url is None:
        return note
    earlier = _read_note(url)
    if earlier is not None:
        return earlier
    request = urllib.request.Request(url, data=json.dumps(note).encode(), method="PUT")
    with suppress(OSError):  # The launcher may be gone as well; then this rank speaks.
        _opener.open(request, timeout=_REQUEST_SECONDS).close()
    return note


def _wait_for_note(rank: int) -> dict[str, Any] | None:
    """Waits a while; the ranks one after the other, so that one of them leaves the next note."""
    url = _note_url()
    patience = min(rank * _SECONDS_BETWEEN_RANKS, _MOST_SECONDS_BETWEEN_RANKS)
    deadline = time.monotonic() + _SECONDS_TO_WAIT_FOR_A_NOTE + patience
    while url is not None and time.monotonic() < deadline:
        note = _read_note(url)
        if note is not None:
            return note
        time.sleep(0.1)
    return None


def _read_note(url: str) -> dict[str, Any] | None:
    try:
        with _opener.open(url, timeout=_REQUEST_SECONDS) as response:
            note: dict[str, Any] = json.loads(response.read())
            return note
    except (OSError, ValueError):
        return None
