"""Several hosts on one machine: namespaces of network, processes and mounts, joined by a bridge.

Each host has an address, a name, a `/tmp/ray` and a `/dev/shm` of its own, and sees no process of
another; they share all other files. All of it vanishes when the first process of a host is killed,
which is what `Host.lose` does: to the others, its power is cut.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from tests.distributed.launcher import REPOSITORY, SAME_ARITHMETIC

_NETWORK = "10.213.77"
_NAMESPACES = ["--net", "--pid", "--mount", "--uts", "--mount-proc", "--fork", "--kill-child"]
_START = """
set -e
mkdir -p /tmp/ray
mount -t tmpfs tmpfs /tmp/ray
mount -t tmpfs tmpfs /dev/shm
mount --bind "$2" /etc/hosts
mount --bind "$3" /etc/passwd
hostname "$1"
ip link set lo up
echo ready
sleep infinity &
wait # It buries what its parent has left behind, too.
"""


def skip_without_namespaces() -> None:
    """Skips a test where this user may not make hosts."""
    if shutil.which("ip") is None:
        pytest.skip("Hosts of the test's own take the command `ip` (Debian: iproute2).")
    if subprocess.run(["unshare", "--net", "--pid", "--fork", "true"], check=False).returncode:
        pytest.skip("Hosts of the test's own take the right to make network namespaces (root).")


class Host:
    """One host; made by `Network.add`.

    Args:
        name: Its host name.
        address: Its address in the network.
        home: The home of its users.
        folder: Where what the host alone has is kept.
    """

    def __init__(self, name: str, address: str, *, home: Path, folder: Path) -> None:
        self.name = name
        self.address = address
        self.home = home
        self.names = folder / "hosts"
        self._folder = folder
        folder.mkdir()
        home.mkdir(exist_ok=True)
        self.names.touch()
        users = Path("/etc/passwd").read_text()
        (folder / "passwd").write_text(users.replace(":/root:", f":{home}:"))
        self._holder = subprocess.Popen(
            [
                "unshare",
                *_NAMESPACES,
                "sh",
                "-c",
                _START,
                "sh",
                name,
                self.names,
                folder / "passwd",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._holder.stdout is not None
        with self._holder.stdout:
            if self._holder.stdout.readline() != "ready\n":
                raise RuntimeError(f"The host {name} did not start.")
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children")
        self.first_process = int(children.read_text().split()[0])

    def start(
        self, command: Sequence[object], *, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """Starts a command on the host; its process is `nsenter`, which passes on its exit code."""
        enter = ["nsenter", "--all", f"--target={self.first_process}", f"--wd={REPOSITORY}"]
        base = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "HOROVOD_"))}
        base |= SAME_ARITHMETIC
        base |= {"HOME": str(self.home), "PYTHONPATH": str(REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "2"}
        return subprocess.Popen(
            [*enter, *(str(part) for part in command)],
            env=base | dict(env or {}),
            stdin=subprocess.DEVNULL,
            text=True,
            **options,
        )

    def run(
        self,
        command: Sequence[object],
        *,
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
    ) -> str:
        """Runs a command on the host; returns what it printed, or fails with it."""
        process = self.start(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            output, _ = process.communicate(timeout=timeout)
        finally:
            process.kill()
        assert process.returncode == 0, f"{command} on {self.name}: {output}"
        return output

    def start_sshd(self, key: Path) -> None:
        """Lets in whoever has `key`; a session has this process's PATH."""
        host_key = self._folder / "ssh_host_key"
        make_ssh_key(host_key)
        config = self._folder / "sshd_config"
        environment = {"PATH": os.environ["PATH"]} | SAME_ARITHMETIC
        config.write_text(
            f"ListenAddress {self.address}\n"
            f"HostKey {host_key}\n"
            f"AuthorizedKeysFile {key}.pub\n"
            "StrictModes no\n"
            "PasswordAuthentication no\n"
            "PidFile none\n"
            f"SetEnv {' '.join(f'{name}={value}' for name, value in environment.items())}\n"
        )
        Path("/run/sshd").mkdir(exist_ok=True)  # Where sshd locks itself up.
        self.run([shutil.which("sshd"), "-f", config])

    def lose(self) -> None:
        """Takes the host off the network and kills all its processes: nobody gets a last word."""
        if self._holder.poll() is None:
            self.cut()
            os.kill(self.first_process, signal.SIGKILL)
            self._holder.wait()

    def cut(self) -> None:
        """Takes the network link down; the processes live on."""
        self.run(["ip", "link", "set", "eth0", "down"])


def make_ssh_key(path: Path) -> None:
    """Makes a key without a passphrase: `path` and `path`.pub."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


class Network:
    """A network of hosts, in a network namespace of its own; leaving it ends them all.

    Args:
        folder: Where the hosts keep what they do not share.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hosts: list[Host] = []
        self._switch = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        own = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{self._switch.pid}/ns/net") == own:
            time.sleep(0.01)
        self._on_switch("ip", "link", "add", "bridge", "type", "bridge")
        self._on_switch("ip", "link", "set", "bridge", "up")

    def _on_switch(self, *command: str) -> None:
        enter = ["nsenter", "--net", f"--target={self._switch.pid}"]
        subprocess.run([*enter, *command], check=True)

    def add(self, name: str, *, home: Path | None = None) -> Host:
        """Starts a host, and joins it to the others; they know it by its name.

        Args:
            name: Its host name.
            home: The home of its users, which several hosts may share; by default one of its own.
        """
        number = len(self._hosts) + 1
        folder = self._folder / name
        host = Host(name, f"{_NETWORK}.{number}", home=home or folder / "home", folder=folder)
        self._hosts.append(host)
        port = f"port{number}"
        self._on_switch(
            "ip",
            "link",
            "add",
            port,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            str(host.first_process),
        )
        self._on_switch("ip", "link", "set", port, "master", "bridge", "up")
        host.run(["ip", "address", "add", f"{host.address}/24", "dev", "eth0"])
        host.run(["ip", "link", "set", "eth0", "up"])
        names = "127.0.0.1 localhost\n" + "".join(f"{h.address} {h.name}\n" for h in self._hosts)
        for each in self._hosts:
            each.names.write_text(names)
        return host

    def close(self) -> None:
        """Ends all hosts."""
        for host in self._hosts:
            host.lose()
        self._switch.kill()
        self._switch.wait()

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
