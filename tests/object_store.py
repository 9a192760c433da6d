"""A real S3 server (moto's) on this machine, and a way to it that can be cut."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyarrow import fs

SECONDS_TO_START = 180  # In a fresh environment Python compiles what the server imports.


@contextmanager
def serve_objects(log: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Runs a server as long as the block does; yields its address and process."""
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield _wait_for_address(server, log), server
    finally:
        server.kill()
        server.wait(10)


def _wait_for_address(server: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline and server.poll() is None:
        for word in log.read_text().split():
            if word.startswith("http://127.0.0.1:"):
                address = word.removeprefix("http://").rstrip("/")
                try:
                    urllib.request.urlopen(f"http://{address}/moto-api/", timeout=5).close()
                except urllib.error.URLError:
                    continue
                return address
        time.sleep(0.1)
    raise RuntimeError(f"The S3 server did not start: {log.read_text()}")


def make_uri(path: str, address: str) -> str:
    """The URI of a path (bucket first) on the server at `address`."""
    return f"s3://key:secret@{path}?scheme=http&region=us-east-1&endpoint_override={address}"


def make_bucket(name: str, address: str) -> fs.S3FileSystem:
    """Makes a bucket; returns the filesystem that it is on."""
    store = fs.S3FileSystem(
        endpoint_override=address,
        scheme="http",
        access_key="key",
        secret_key="secret",
        region="us-east-1",
        allow_bucket_creation=True,
    )
    store.create_dir(name)
    return store


class Way:
    """A way to a server: it hands bytes on until it is told to be slow, or to be cut.

    Args:
        address: The server's.
        may_pass: Is asked with each request's first line; once it says no, the way is cut.
        for_good: Whether it stays cut then, or only that request's connection is lost.
        seconds: How long each request is held up.
    """

    def __init__(
        self,
        address: str,
        *,
        may_pass: Callable[[bytes], bool] = lambda line: True,
        for_good: bool = True,
        seconds: float = 0.0,
    ) -> None:
        host, port = address.split(":")
        self._server = (host, int(port))
        self._may_pass = may_pass
        self._for_good = for_good
        self.seconds = seconds
        self.is_cut = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> Way:
        return self

    def __exit__(self, *_: object) -> None:
        self.is_cut = True
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            is_lost = False
            with client, socket.create_connection(self._server) as server:
                back = threading.Thread(target=_copy, args=(server, client), daemon=True)
                back.start()
                while piece := client.recv(1 << 16):
                    first = piece.split(b"\r\n", 1)[0]
                    if first.endswith(b"HTTP/1.1"):
                        time.sleep(self.seconds)
                        is_lost = self.is_cut or not self._may_pass(first)
                        self.is_cut = is_lost and (self._for_good or self.is_cut)
                    if self.is_cut or is_lost:
                        server.shutdown(socket.SHUT_RDWR)
                        return
                    server.sendall(piece)
                server.shutdown(socket.SHUT_WR)
                back.join()
        except OSError:
            return


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while piece := source.recv(1 << 16):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


@contextmanager
def answer_always(status: str) -> Iterator[str]:
    """Runs a server that answers each request with the same status; yields its address.

    Args:
        status: Of HTTP, e.g. `503 Service Unavailable`.
    """
    answer = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()

    def listen() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client, suppress(OSError):
                client.recv(1 << 16)
                client.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=listen, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
