"""Checkpoints as plain values and as files: whole or not there, checked when read, never executed.

A checkpoint is a folder `checkpoints/step-XXXXXXXX` with `tensors.safetensors` (weights, optimizer,
metrics), `state.json` (position and everything that is not a tensor) and `manifest.json`, which is
written last and holds the size and the SHA-256 of the others, and of its own other fields.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from sharedlayers_dist.errors import UserError, one_line
from sharedlayers_dist.storage.folder import MANIFEST, Folder, Pieces
from sharedlayers_dist.storage.uri import require_plain_name
from sharedlayers_dist.training.strict_json import dump_json, load_json

FOLDER = "checkpoints"
"""Where in a run folder they lie."""
_TENSORS, _STATE = "tensors.safetensors", "state.json"
_SAFETENSORS_NAMES = {
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}


_NUMPY_TYPES = {
    code: np.dtype(getattr(ml_dtypes, name, name)) for name, code in _SAFETENSORS_NAMES.items()
}


@dataclass(frozen=True)
class Checkpoint:
    """All that a training run needs to go on, as plain values."""

    step: int
    """Steps of the optimizer since the start of the run."""
    tensors: Mapping[str, np.ndarray]
    """Arrays by name: `model.*`, `optimizer.*`, `metrics.*`, `accumulated.*`, `negatives.*`."""
    state: dict[str, Any]
    """What JSON can hold: position, callbacks, names of the tensors, the run's configuration."""

    def part(self, name: str) -> list[np.ndarray]:
        """The arrays of one part (`model`, `optimizer`, ...) in their order."""
        return [self.tensors[key] for key in sorted(self.tensors) if key.startswith(f"{name}.")]


class DamagedCheckpointError(RuntimeError):
    """A checkpoint folder that is incomplete or whose contents do not match its manifest."""


def name_of_step(step: int) -> str:
    """The name of the folder of a step's checkpoint."""
    return f"step-{step:08d}"


def step_of_name(name: str) -> int:
    """The step of a checkpoint's folder."""
    return int(name.removeprefix("step-"))


def write_checkpoint(run: Folder, checkpoint: Checkpoint, summary: Mapping[str, Any]) -> None:
    """Writes `checkpoint` into the run folder `run`, as a whole.

    Args:
        run: The run folder.
        checkpoint: What to write.
        summary: What the manifest says beside sizes and hashes (metrics, the time).

    Raises:
        OSError: when the storage does not take it; what was there before is untouched.
    """
    files: dict[str, Pieces] = {
        _TENSORS: as_safetensors(checkpoint.tensors),
        _STATE: [dump_json(checkpoint.state, ensure_ascii=False, indent=2).encode()],
    }
    manifest = {
        "step": checkpoint.step,
        **summary,
        "files": {
            name: {"bytes": sum(len(piece) for piece in pieces), "sha256": _hash(pieces)}
            for name, pieces in files.items()
        },
    }
    manifest["sha256"] = _hash_manifest(manifest)
    files[MANIFEST] = [dump_json(manifest, indent=2).encode()]
    run.publish(f"{FOLDER}/{name_of_step(checkpoint.step)}", files)


def read_manifest(run: Folder, name: str) -> dict[str, Any]:
    """The manifest of the checkpoint folder `name`.

    Raises:
        DamagedCheckpointError: when it is missing, or not what was written.
        OSError: when the storage cannot be asked.
    """
    try:
        manifest: dict[str, Any] = load_json(_read(run, f"{FOLDER}/{name}/{MANIFEST}"))
        is_whole = manifest.pop("sha256") == _hash_manifest(manifest)
    except (DamagedCheckpointError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpointError(
            f"{run}/{FOLDER}/{name} was not finished or is damaged ({one_line(error)})."
        ) from error
    if not is_whole or manifest["step"] != step_of_name(name):
        raise DamagedCheckpointError(
            f"{run}/{FOLDER}/{name}/{MANIFEST} differs from its own hash, or is of another step."
        )
    return manifest


def read_checkpoint(run: Folder, name: str) -> Checkpoint:
    """Reads one checkpoint and checks it against its manifest.

    Raises:
        DamagedCheckpointError: naming what is missing or different.
        OSError: when the storage cannot be asked.
    """
    manifest = read_manifest(run, name)
    where = f"{run}/{FOLDER}/{name}"
    contents: dict[str, bytes] = {}
    for file, expected in manifest["files"].items():
        try:
            require_plain_name(file)
        except ValueError as error:
            raise DamagedCheckpointError(f"{where}/{MANIFEST} leads elsewhere: {error}.") from error
        content = _read(run, f"{FOLDER}/{name}/{file}")
        if hashlib.sha256(content).hexdigest() != expected["sha256"]:
            size, wanted = len(content), expected.get("bytes")
            what = "has other contents" if size == wanted else f"has {size} of {wanted} bytes"
            raise DamagedCheckpointError(f"{where}/{file} {what}: it differs from its manifest.")
        contents[file] = content
    try:
        return Checkpoint(
            step=manifest["step"],
            tensors=from_safetensors(contents[_TENSORS]),
            state=load_json(contents[_STATE]),
        )
    except (KeyError, ValueError, safetensors.SafetensorError) as error:
        raise DamagedCheckpointError(f"{where} cannot be read ({one_line(error)}).") from error


def list_checkpoints(run: Folder) -> list[str]:
    """Names of the checkpoint folders of a run, oldest first, finished or not."""
    names = (name for name in run.names(FOLDER) if name.removeprefix("step-").isdecimal())
    return sorted(names, key=step_of_name)


def read_newest_checkpoint(run: Folder) -> Checkpoint | None:
    """The newest checkpoint that is whole; damaged ones are passed over with a warning.

    Returns:
        None where no checkpoint was ever finished.

    Raises:
        UserError: when there are checkpoints, and none that can be read.
        OSError: when the storage cannot be asked: what cannot be seen now may be good.
    """
    problems: list[str] = []
    was_finished = False
    for name in reversed(list_checkpoints(run)):
        if run.is_being_published(f"{FOLDER}/{name}"):
            problems.append(f"{run}/{FOLDER}/{name} was not finished.")
            continue
        try:
            checkpoint = read_checkpoint(run, name)
        except DamagedCheckpointError as error:
            problems.append(str(error))
            was_finished = True
            continue
        _warn_of(problems)
        return checkpoint
    if was_finished:
        raise UserError(
            f"A run goes on from a checkpoint that can be read. Received: {run}, which has none: "
            f"{' '.join(problems)} Bring one of them back, or start another run in another folder."
        )
    _warn_of(problems)
    return None


def _warn_of(problems: Sequence[str]) -> None:
    for problem in problems:
        warnings.warn(f"A damaged checkpoint was passed over: {problem}", stacklevel=3)


def as_safetensors(tensors: Mapping[str, np.ndarray]) -> Pieces:
    """A file of the safetensors format that holds `tensors`, in their own memory.

    The library's own `save` copies them several times, and lets no other thread run meanwhile.

    Source: https://github.com/huggingface/safetensors#format.
    """
    # Large items first, as the library has it: each tensor then begins at a multiple of its item.
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, Any] = {}
    pieces: list[bytes | memoryview] = []
    end = 0
    for name in names:
        array = np.ascontiguousarray(tensors[name])
        begin, end = end, end + array.nbytes
        header[name] = {
            "dtype": _SAFETENSORS_NAMES[array.dtype.name],
            "shape": tensors[name].shape,
            "data_offsets": (begin, end),
        }
        pieces.append(array.reshape(-1).view(np.uint8).data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little"), text, *pieces]


def from_safetensors(content: bytes) -> dict[str, np.ndarray]:
    """The tensors of a file of the safetensors format, by name.

    The library's own `load` has no NumPy type for bfloat16 and the formats of 8 bits.
    """
    return {
        name: np.frombuffer(view["data"], _NUMPY_TYPES[view["dtype"]]).reshape(view["shape"])
        for name, view in safetensors.deserialize(content)
    }


def _hash(pieces: Pieces) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _hash_manifest(manifest: Mapping[str, Any]) -> str:
    """The hash of all fields, however they are spaced and ordered in the file."""
    return _hash([dump_json(manifest, sort_keys=True).encode()])


def _read(run: Folder, name: str) -> bytes:
    """Reads a file of a checkpoint; what is gone is damage.

    Other errors may pass, also EIO: a network's file system gives it when its server is away.
    """
    try:
        return run.read(name)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise DamagedCheckpointError(f"{run}/{name}: {one_line(error)}.") from error
