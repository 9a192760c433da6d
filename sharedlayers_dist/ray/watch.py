"""What the driver tells people while a run is under way, and the run that it is to stop."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError

from sharedlayers_dist.ray.control import View
from sharedlayers_dist.storage.uri import hide_secrets

_SECONDS_BETWEEN_COMPLAINTS = 30.0
_SECONDS_WITHOUT_ANSWER = 10.0


class Watch:
    """The driver's side of the control actor; it outlives that actor.

    Args:
        control: The actor.
        missing: Says what the cluster lacks for the workers.
    """

    def __init__(self, control: Any, *, missing: Callable[[], str]) -> None:
        self._control = control
        self._missing = missing
        self._asked: ray.ObjectRef | None = None
        self._answered_at = self._had_workers_at = time.monotonic()
        self._is_silent = False
        self._has_asked_to_stop = False
        self._is_to_start_again = False
        self.failure = ""
        """What the workers failed with last."""

    def look(self, *, is_to_stop: bool, patience: float) -> None:
        """Passes on the wish to stop, and shows the lines and failures that have come.

        Args:
            is_to_stop: Whether the run is to stop.
            patience: Seconds to wait for the control actor.
        """
        if is_to_stop:
            if not self._has_asked_to_stop:
                say("asked to stop: saving after the next step")
            self._has_asked_to_stop = True
            self._control.ask_to_stop.remote()  # Each time: the actor may be another by now.
        if self._asked is None:
            self._asked = self._control.look.remote()
        ready, _ = ray.wait([self._asked], timeout=patience)
        view: View | None = None
        if ready:
            self._asked = None
            with suppress(RayError):  # Ray has given up on the actor.
                view = ray.get(ready[0])
        if view is None:
            self._complain_of_silence()
        else:
            self._answered_at = time.monotonic()
            self._is_silent = False
            self._show(view)

    def _show(self, view: View) -> None:
        for line in view.lines:
            say(line)
        for self.failure in view.failures:
            self._is_to_start_again = True
        if view.num_ranks and self._is_to_start_again:
            self._is_to_start_again = False
            say(f"started again on {view.num_ranks} worker(s), since {self.failure}")
        now = time.monotonic()
        if view.num_ranks:
            self._had_workers_at = now
        elif now - self._had_workers_at >= _SECONDS_BETWEEN_COMPLAINTS:
            self._had_workers_at = now
            say(f"waiting for workers: {self._missing()}")

    def _complain_of_silence(self) -> None:
        if self._is_silent or time.monotonic() - self._answered_at < _SECONDS_WITHOUT_ANSWER:
            return
        self._is_silent = True
        say(
            "the run's control actor does not answer: until it does, the run goes on without "
            "showing its progress, and cannot be asked to stop"
        )


def say(text: str) -> None:
    """Tells people on standard error, without the secrets that a URI may carry."""
    print(hide_secrets(text), file=sys.stderr, flush=True)
