"""One writer for a run folder: a second one is refused before it touches anything.

On a disk it is a lock of the operating system's on the file `.run.lock`. The system takes it back
when the process ends, however it ends: what a killed run leaves behind locks nothing. Over NFS it
holds between machines as well as the server's lock service does; a file system that knows no locks
is treated as an object store is.

On an object store it is a lease: an object that its holder renews. One that is not renewed for
`SECONDS_TO_EXPIRE` was left behind and is taken over; at once where its holder can be seen to have
ended. pyarrow has no write that fails where an object is: whoever has written the lease waits
`SECONDS_TO_SETTLE` and reads it back, and of two that write it together the later one has it.
Should one of them be slower than that, both believe to have it, until the earlier one looks again:
within `SECONDS_TO_RENEW`, and before each checkpoint.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.disk import LocalFolder
from sharedlayers_dist.storage.holder import Holder
from sharedlayers_dist.storage.protocol import Folder

LOCK = ".run.lock"
"""In the run folder, while a run writes to it."""
SECONDS_TO_EXPIRE = 40.0
"""How long a lease must be seen not to be renewed until it counts as left behind."""
SECONDS_TO_RENEW = 10.0
SECONDS_TO_SETTLE = 1.0
_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_TO_GO = 30.0
"""How long a group of workers that is started again waits for the one before to be gone."""
_TRIES = 5
"""How often a lease is written over one that the process before it still renews."""
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)


class RunLockLostError(RuntimeError):
    """Another process writes to this run folder now."""


class RunLock(Protocol):
    """The right to write to a run folder, until it is released."""

    def require_held(self) -> None:
        """Makes sure that it is still this process's.

        Raises:
            RunLockLostError: naming the process that has it now.
        """

    def release(self) -> None:
        """Gives it back, and leaves nothing behind."""


def lock_run(folder: Folder, *, owner: str = "") -> RunLock:
    """Takes the right to write to a run folder, which is made if need be.

    Args:
        folder: The run folder.
        owner: Names the run over several starts of its processes. A process takes over at once what
            another of the same owner holds on an object store, and waits a while for its end on a
            disk.

    Raises:
        UserError: when another process has it; nothing has been written then.
        OSError: when the storage cannot be asked.

    Example:
        >>> import tempfile
        >>> from sharedlayers_dist.storage.folder import open_folder
        >>> with tempfile.TemporaryDirectory() as path:
        ...     lock = lock_run(open_folder(path))
        ...     lock.require_held()
        ...     lock.release()
    """
    me = Holder.of_this_process(owner)
    if isinstance(folder, LocalFolder):
        try:
            return _FileLock(folder, me)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
    return _Lease(folder, me)


def require_unlocked(folder: Folder, *, owner: str = "") -> None:
    """Makes sure that no process writes to a run folder; removes what a killed one has left.

    Raises:
        UserError: when one does.
        OSError: when the storage cannot be asked.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        folder.read(LOCK)
        lock_run(folder, owner=owner).release()


class _FileLock:
    """A lock on a file of a disk, which ends with the process."""

    def __init__(self, folder: LocalFolder, me: Holder) -> None:
        self._folder = folder
        self._path = folder.path / LOCK
        self._made = _make_folders(folder.path)
        try:
            self._descriptor = self._open(me, time.monotonic() + _SECONDS_TO_GO)
        except BaseException:
            self._remove_folders()
            raise
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, me.write())

    def _open(self, me: Holder, deadline: float) -> int:
        while True:
            # A program that this process starts does not inherit it.
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_in_place(descriptor):
                    return descriptor
                os.close(descriptor)  # The one before has removed it between the two calls.
            except BlockingIOError:
                holder = Holder.read(os.pread(descriptor, 10_000, 0))
                is_late = time.monotonic() >= deadline and self._is_in_place(descriptor)
                os.close(descriptor)
                if not holder.is_followed_by(me):
                    raise _refusal(self._folder, holder) from None
                if is_late:
                    # It lives on where nobody can end it, as on a host that the network has lost.
                    # Before its next checkpoint it finds its file gone.
                    self._path.unlink(missing_ok=True)
                else:
                    time.sleep(_SECONDS_BETWEEN_LOOKS)
            except OSError:
                os.close(descriptor)
                raise

    def _is_in_place(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except FileNotFoundError:
            return False

    def require_held(self) -> None:
        """Makes sure that the locked file is still the one of that name."""
        if not self._is_in_place(self._descriptor):
            raise RunLockLostError(
                f"{self._path} was removed or replaced while this process held it: another may "
                "write to the run folder."
            )

    def release(self) -> None:
        """Removes the file, and folders that were made for it and hold nothing."""
        if self._is_in_place(self._descriptor):
            self._path.unlink()
        os.close(self._descriptor)
        self._remove_folders()

    def _remove_folders(self) -> None:
        for folder in self._made:
            with contextlib.suppress(OSError):  # What holds something stays.
                folder.rmdir()


class _Lease:
    """An object that its holder renews."""

    def __init__(self, folder: Folder, me: Holder) -> None:
        self._folder = folder
        self._me = me
        self._wait_until_free()
        for _ in range(_TRIES):
            folder.write(LOCK, me.write(time.time()))
            time.sleep(SECONDS_TO_SETTLE)
            holder = Holder.read(self._read())
            if not holder.is_followed_by(me):
                break  # Else the one before has renewed it in the same moment, for the last time.
        self._require_mine(lambda holder: _refusal(folder, holder))
        self._is_over = threading.Event()
        self._renewing = threading.Thread(target=self._renew, name="run-lock", daemon=True)
        self._renewing.start()

    def _read(self) -> bytes:
        """The lease; empty where there is none."""
        try:
            return self._folder.read(LOCK)
        except FileNotFoundError:
            return b""

    def _wait_until_free(self) -> None:
        """Returns when there is no lease, or one that was left behind."""
        first = lease = self._read()
        deadline = time.monotonic() + SECONDS_TO_EXPIRE
        while lease:
            holder = Holder.read(lease)
            if holder.is_followed_by(self._me) or holder.has_ended():
                return
            if lease != first:
                raise _refusal(self._folder, holder)
            if time.monotonic() >= deadline:
                return
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            lease = self._read()

    def _require_mine(self, make_error: Callable[[Holder], Exception]) -> None:
        lease = self._read()
        holder = Holder.read(lease)
        if lease and holder.token != self._me.token:
            raise make_error(holder)

    def _renew(self) -> None:
        while not self._is_over.wait(SECONDS_TO_RENEW):
            try:
                self.require_held()
                self._folder.write(LOCK, self._me.write(time.time()))
            except OSError:
                continue  # The store may answer again before the lease expires.
            except RunLockLostError:
                return  # `require_held` will say so where it is heard.

    def require_held(self) -> None:
        """Makes sure that no other process has taken the lease over."""
        self._require_mine(lambda holder: RunLockLostError(_describe(self._folder, holder)))

    def release(self) -> None:
        """Removes the lease; a store that does not answer keeps it until it expires."""
        self._is_over.set()
        self._renewing.join(SECONDS_TO_RENEW)
        with contextlib.suppress(OSError, RunLockLostError):
            self.require_held()
            self._folder.remove(LOCK)


def _describe(folder: Folder, holder: Holder) -> str:
    return f"Another process writes to {folder}: {holder}."


def _refusal(folder: Folder, holder: Holder) -> UserError:
    return UserError(
        "One run at a time writes to a run folder. Received: "
        f"output={str(folder)!r}, which {holder} writes to. Wait until it has ended, stop it, or "
        "choose another folder."
    )


def _make_folders(path: Path) -> list[Path]:
    """Makes a folder and those above it; returns those that were not there, the deepest first."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    return missing
