"""Processes that were started together train together, or are refused before they write."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sharedlayers_dist import TrainConfig, ray, train
from sharedlayers_dist.cli import main
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.world import Launch
from tests.distributed.launcher import REPOSITORY
from tests.distributed.pairs import write_text_pairs

HOROVOD = {"HOROVOD_SIZE": "2", "HOROVOD_RANK": "0"}
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}
PRTERUN = {"PMIX_RANK": "1", "PMIX_NAMESPACE": "prterun-alpha-207@1"}
SRUN = {"SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}
PMIX_OF_SLURM = {"PMIX_RANK": "3", "PMIX_NAMESPACE": "slurm.pmix.7.0"}


@pytest.mark.parametrize(
    ("environment", "rank", "size", "variable"),
    [
        ({}, 0, 1, ""),
        ({"HOROVOD_SIZE": ""}, 0, 1, ""),
        ({"HOROVOD_SIZE": "3"}, 0, 3, "HOROVOD_SIZE"),
        (HOROVOD, 0, 2, "HOROVOD_SIZE"),
        (OPEN_MPI, 1, 2, "OMPI_COMM_WORLD_SIZE"),
        ({"MV2_COMM_WORLD_SIZE": "2", "MV2_COMM_WORLD_RANK": "1"}, 1, 2, "MV2_COMM_WORLD_SIZE"),
        ({"PMI_SIZE": "4", "PMI_RANK": "2"}, 2, 4, "PMI_SIZE"),
        (PRTERUN, 1, 0, "PMIX_RANK"),
        ({"PMI_PORT": "alpha:40271", "PMI_ID": "1"}, 1, 0, "PMI_ID"),
        (SRUN, 3, 4, "SLURM_STEP_NUM_TASKS"),
        # srun --mpi=pmix, whose PMIx knows less than Slurm's own variables.
        (SRUN | PMIX_OF_SLURM, 3, 4, "SLURM_STEP_NUM_TASKS"),
        # A batch script, or the shell of an allocation, is one process whatever it may start.
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_JOB_ID": "7"}, 0, 1, ""),
        # The innermost launcher counts: mpirun starts its daemons with srun.
        (SRUN | OPEN_MPI | PRTERUN, 1, 2, "OMPI_COMM_WORLD_SIZE"),
        (SRUN | PRTERUN | {"SLURM_STEP_NUM_TASKS": "1"}, 1, 0, "PMIX_RANK"),
        (SRUN | HOROVOD | {"HOROVOD_SIZE": "1"}, 0, 1, "HOROVOD_SIZE"),
        # The processes of a Ray that srun started on each node.
        (SRUN | PMIX_OF_SLURM | {"RAY_RAYLET_PID": "9"}, 0, 1, ""),
    ],
)
def test_the_variables_of_each_launcher(environment, rank, size, variable):
    launch = Launch.detect(environment)
    assert (launch.rank, launch.size, launch.variable) == (rank, size, variable)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("environment", "rank_variable", "words"),
    [
        (OPEN_MPI, "OMPI_COMM_WORLD_RANK", ["OMPI_COMM_WORLD_SIZE=2", "horovodrun -np 2"]),
        (PRTERUN, "PMIX_RANK", ["does not say how many (PMIX_RANK=0)", "horovodrun -np N"]),
    ],
    ids=["Open MPI", "PMIx"],
)
def test_processes_that_horovod_does_not_see_are_refused_before_they_write(
    environment, rank_variable, words, tmp_path
):
    pairs = write_text_pairs(tmp_path / "pairs", 24)
    output = tmp_path / "run"
    options = [f"--pairs={pairs}", f"--output={output}", "--epochs=1"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "sharedlayers_dist", "train", *options],
            env=os.environ | environment | {rank_variable: rank},
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [2, 2], outputs
    (_, line), (_, nothing) = outputs
    assert line.startswith("sharedlayers (rank 0): Horovod must join all processes")
    assert all(word in line for word in ["horovod.size()=1", *words])
    assert line.count("\n") == 1
    assert not nothing
    assert not output.exists()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train --launcher=local", ["launcher='local'", "Leave `launcher` out"]),
        ("train --launcher=ray", ["the driver of a run on Ray", "`num_workers`"]),
        ("pairs", ["sharedlayers pairs"]),
        ("inspect", ["sharedlayers inspect"]),
        ("evaluate", ["sharedlayers evaluate"]),
        ("predict", ["sharedlayers predict"]),
    ],
)
@pytest.mark.parametrize("rank", ["0", "1"])
def test_what_one_process_does_is_refused_to_several(
    command, words, rank, tmp_path, monkeypatch, capsys
):
    output = tmp_path / "output"
    required = {
        "train": ["--pairs=pairs"],
        "pairs": ["--items=items", "--group=group", "--text=text"],
        "inspect": ["pairs"],
        "evaluate": ["--run=run", "--pairs=pairs"],
        "predict": ["--run=run", "--pairs=pairs"],
    }
    name, *options = command.split()
    if name != "inspect":
        options.append(f"--output={output}")
    for variable, value in (HOROVOD | {"HOROVOD_RANK": rank}).items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as exit_code:
        main([name, *required[name], *options])
    assert exit_code.value.code == 2
    line = capsys.readouterr().err
    if rank == "0":
        assert all(word in line for word in [*words, "HOROVOD_SIZE=2", "started by horovodrun"])
    else:
        assert not line
    assert not output.exists()


@pytest.mark.parametrize(("entry", "launcher"), [(ray.train, "local"), (train, "ray")])
def test_an_entry_refuses_the_launcher_of_the_other(entry, launcher, tmp_path):
    config = TrainConfig(pairs="pairs", output=str(tmp_path / "run"), launcher=launcher)
    with pytest.raises(UserError, match=f"launcher='{launcher}'"):
        entry(config)
    assert not (tmp_path / "run").exists()
