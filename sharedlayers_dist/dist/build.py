"""What the installed Horovod was built with: its own words, where they can be believed."""

from __future__ import annotations

from pathlib import Path

from sharedlayers_dist.dist.horovod_library import import_horovod

_OTHER_FRAMEWORKS = {"PyTorch": ("torch", "mpi_lib_v2"), "MXNet": ("mxnet", "mpi_lib")}
"""Folder and library of each framework's part. Whether the folder can be imported says nothing of
PyTorch's, although `horovodrun --check-build` goes by that."""


def describe_build() -> str:
    """Says in a line what Horovod was built with and without; no process need have joined a run.

    Raises:
        SetupError: for a Horovod that is missing, or useless to TensorFlow.
    """
    horovod = import_horovod()
    is_built = {
        "TensorFlow": True,
        **{name: _has_part(*part) for name, part in _OTHER_FRAMEWORKS.items()},
        "Gloo": bool(horovod.gloo_built()),
        "MPI": bool(horovod.mpi_built()),
        "NCCL": bool(horovod.nccl_built()),
    }
    present = ", ".join(name for name, is_there in is_built.items() if is_there)
    missing = ", ".join(name for name, is_there in is_built.items() if not is_there)
    return f"Horovod was built with {present}" + (f"; without {missing}" if missing else "")


def _has_part(folder: str, library: str) -> bool:
    import horovod
    from horovod.common.util import check_extension

    package = Path(horovod.__file__).with_name(folder)
    try:
        check_extension(folder, "", str(package / "__init__.py"), library)
    except ImportError:
        return False
    return True
