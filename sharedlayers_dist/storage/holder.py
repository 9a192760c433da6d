"""Which process writes to a run folder, and whether it can be seen to have ended."""

from __future__ import annotations

import json
import os
import platform
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The process that writes to a run folder."""

    host: str
    pid: int
    since: str
    """When it began, in UTC."""
    place: str
    """The running system and its space of process numbers, where `pid` means this process."""
    birth: str
    """When the system started the process, which tells it from a later one of its number."""
    owner: str
    """Processes of one owner follow each other in one run; empty for none."""
    token: str
    """Of this one lock alone."""

    def __str__(self) -> str:
        """The process, for people."""
        return f"process {self.pid} on {self.host} since {self.since}"

    @classmethod
    def of_this_process(cls, owner: str) -> Holder:
        """This process, with a token of its own."""
        return cls(
            host=platform.node(),
            pid=os.getpid(),
            since=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
            place=_read_place(),
            birth=_read_birth(os.getpid()),
            owner=owner,
            token=secrets.token_hex(8),
        )

    @classmethod
    def read(cls, content: bytes) -> Holder:
        """What a lock file says; a file of something else stands for an unknown process."""
        try:
            fields = json.loads(content)
            return cls(**{name: fields[name] for name in cls.__dataclass_fields__})
        except (ValueError, KeyError, TypeError):
            return cls(
                host="an unknown host", pid=0, since="?", place="", birth="", owner="", token=""
            )

    def write(self, renewed: float = 0.0) -> bytes:
        """The contents of a lock file."""
        return json.dumps(asdict(self) | {"renewed": renewed}).encode()

    def is_followed_by(self, other: Holder) -> bool:
        """Whether both are of one run, so that `other` is what was started in place of this."""
        return bool(self.owner) and self.owner == other.owner and self.token != other.token

    def has_ended(self) -> bool:
        """Whether it can be seen from here that the process is gone."""
        if not self.place or self.place != _read_place():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # Another user's, which may be hidden from this one.
        return _read_birth(self.pid) not in ("", self.birth)


def _read_place() -> str:
    """Names the running system and this process's space of process numbers; empty if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _read_birth(pid: int) -> str:
    """When a process of this space was started, in the system's ticks; empty if unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "ended" if fields[0] in "ZX" else fields[19]
